"""Vector databases, each as its documentation has it for this size: the same vectors, texts and queries for all.

What is asked for is the same too: the numbers and texts of the ten best. `dense` is by a vector alone; `hybrid` by a vector and words,
with the database's own analysis and fusion, where it has both without fetching anything.
"""

import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

LIMIT = 10
_BATCH = 1000
_EF_SEARCH = 100
_START_TIMEOUT_S = 60.0

# The number of a query to the numbers of what was found.
Query = Callable[[int], list[int]]


class Peer(Protocol):
    """Made with an empty folder and everything to store. `ways` are its searches by name; `request`, of a server alone, is the path and the
    body that it is asked with over HTTP."""

    ways: dict[str, Query]

    def fill(self) -> None:
        """Returns when everything is searchable as it is meant to be, with its indexes."""

    def close(self) -> None: ...


class Given:
    """Rows are documents, and queries; both have a text and a vector."""

    def __init__(self, folder: Path) -> None:
        self.vectors: np.ndarray = np.load(folder / "vectors.npy")
        self.queries: np.ndarray = np.load(folder / "queries.npy")
        self.texts: list[str] = json.loads((folder / "texts.json").read_text())
        self.asked: list[str] = json.loads((folder / "asked.json").read_text())

    def batches(self) -> Iterator[range]:
        for first in range(0, len(self.texts), _BATCH):
            yield range(first, min(first + _BATCH, len(self.texts)))


class Lance:
    """Embedded. HNSW with scalar quantization, one partition as its documentation has it for fewer than a million rows."""

    packages = ("lancedb",)

    def __init__(self, folder: Path, given: Given) -> None:
        import lancedb  # noqa: PLC0415 - each only in its own process

        self._given = given
        self._database = lancedb.connect(str(folder))
        self.ways: dict[str, Query] = {"dense": self._dense, "hybrid": self._hybrid}

    def fill(self) -> None:
        import pyarrow as pa  # noqa: PLC0415
        from lancedb.index import FTS, HnswSq  # noqa: PLC0415

        size = self._given.vectors.shape[1]
        schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), size)), ("text", pa.string())])
        self._table = self._database.create_table("documents", schema=schema)
        for rows in self._given.batches():
            self._table.add(
                [{"id": row, "vector": self._given.vectors[row], "text": self._given.texts[row]} for row in rows]
            )
        self._table.create_index("vector", config=HnswSq(distance_type="cosine", num_partitions=1))
        self._table.create_index("text", config=FTS())
        self._table.optimize()

    def _dense(self, number: int) -> list[int]:
        search = self._table.search(self._given.queries[number]).distance_type("cosine").ef(_EF_SEARCH)
        return [row["id"] for row in search.select(["id", "text", "_distance"]).limit(LIMIT).to_list()]

    def _hybrid(self, number: int) -> list[int]:
        search = self._table.search(query_type="hybrid").vector(self._given.queries[number])
        found = search.text(self._given.asked[number]).distance_type("cosine").limit(LIMIT).to_list()
        return [row["id"] for row in found]

    def close(self) -> None:
        """Nothing is open but files."""


class ChromaServer:
    """A server, asked over HTTP."""

    packages = ("chromadb",)

    def __init__(self, folder: Path, given: Given) -> None:
        self._given = given
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        program = Path(sys.executable).with_name("chroma")
        self._server = subprocess.Popen(
            [str(program), "run", "--path", str(folder), "--host", "127.0.0.1", "--port", str(self._port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{self._port}"
        self.ways: dict[str, Query] = {"dense": self._dense}

    def fill(self) -> None:
        import chromadb  # noqa: PLC0415

        self._until_ready()
        settings = chromadb.config.Settings(anonymized_telemetry=False)
        client = chromadb.HttpClient(self.url, settings=settings)
        self._collection = client.create_collection(
            "documents", configuration={"hnsw": {"space": "cosine", "ef_search": _EF_SEARCH}}, embedding_function=None
        )
        for rows in self._given.batches():
            part = slice(rows.start, rows.stop)
            self._collection.add(
                ids=[str(row) for row in rows],
                embeddings=self._given.vectors[part],
                documents=self._given.texts[part],
            )

    def request(self, number: int) -> tuple[str, dict[str, Any]]:
        tenant = "/api/v2/tenants/default_tenant/databases/default_database"
        return f"{tenant}/collections/{self._collection.id}/query", {
            "query_embeddings": [self._given.queries[number].tolist()],
            "n_results": LIMIT,
            "include": ["documents"],
        }

    def _dense(self, number: int) -> list[int]:
        found = self._collection.query(
            query_embeddings=[self._given.queries[number]], n_results=LIMIT, include=["documents"]
        )
        return [int(each) for each in found["ids"][0]]

    def _until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1.0):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("the Chroma server was not ready in time")

    def close(self) -> None:
        self._server.terminate()
        self._server.wait(timeout=30)


class Txtai:
    """Embedded. Faiss and its own BM25, texts in SQLite; the vectors are handed out by text, since it always asks for them itself. All
    threads share one connection to SQLite, and two at once end the process, so a lock lets in one."""

    packages = ("txtai", "faiss-cpu")

    def __init__(self, folder: Path, given: Given) -> None:
        from txtai import Embeddings  # noqa: PLC0415

        self._given = given
        self._folder = folder
        self._lock = threading.Lock()
        self._vectors = dict(zip(given.texts, given.vectors, strict=True))
        self._vectors |= dict(zip(given.asked, given.queries, strict=True))
        # It calls whatever is no plain function in order to get one.
        settings: dict[str, Any] = {
            "method": "external",
            "transform": lambda texts: self._known(texts),  # noqa: PLW0108 - as above
            "content": True,
        }
        self._by_vectors = Embeddings(**settings)
        self._by_both = Embeddings(**settings, hybrid=True)
        self.ways: dict[str, Query] = {
            "dense": lambda number: self._found(self._by_vectors, number),
            "hybrid": lambda number: self._found(self._by_both, number),
        }

    def _known(self, texts: list[str]) -> np.ndarray:
        return np.stack([self._vectors[text] for text in texts])

    def fill(self) -> None:
        """Twice, since an index with words is always asked for words."""
        for name, each in (("vectors", self._by_vectors), ("both", self._by_both)):
            each.index((row, text, None) for row, text in enumerate(self._given.texts))
            each.save(str(self._folder / name))

    def _found(self, embeddings: Any, number: int) -> list[int]:
        with self._lock:
            return [int(each["id"]) for each in embeddings.search(self._given.asked[number], LIMIT)]

    def close(self) -> None:
        self._by_vectors.close()
        self._by_both.close()


class QdrantLocal:
    """Embedded: the local mode of Qdrant's client, which is a plain scan in Python."""

    packages = ("qdrant-client",)

    def __init__(self, folder: Path, given: Given) -> None:
        from qdrant_client import QdrantClient  # noqa: PLC0415

        self._given = given
        self._client = QdrantClient(path=str(folder))
        self.ways: dict[str, Query] = {"dense": self._dense}

    def fill(self) -> None:
        from qdrant_client import models  # noqa: PLC0415

        size = self._given.vectors.shape[1]
        self._client.create_collection(
            "documents", vectors_config=models.VectorParams(size=size, distance=models.Distance.COSINE)
        )
        for rows in self._given.batches():
            points = [
                models.PointStruct(
                    id=row, vector=self._given.vectors[row].tolist(), payload={"text": self._given.texts[row]}
                )
                for row in rows
            ]
            self._client.upsert("documents", points, wait=True)

    def _dense(self, number: int) -> list[int]:
        found = self._client.query_points(
            "documents", query=self._given.queries[number], limit=LIMIT, with_payload=True
        )
        return [int(point.id) for point in found.points]

    def close(self) -> None:
        self._client.close()


class MilvusLite:
    """Embedded behind its own local server. Its default index, and its BM25."""

    packages = ("milvus-lite", "pymilvus")

    def __init__(self, folder: Path, given: Given) -> None:
        from pymilvus import MilvusClient  # noqa: PLC0415

        self._given = given
        self._client = MilvusClient(str(folder / "milvus.db"))
        self.ways: dict[str, Query] = {"dense": self._dense, "hybrid": self._hybrid}

    def fill(self) -> None:
        from pymilvus import DataType, Function, FunctionType  # noqa: PLC0415

        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._given.vectors.shape[1])
        schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function("bm25", FunctionType.BM25, input_field_names=["text"], output_field_names=["words"])
        )
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        self._client.create_collection("documents", schema=schema, index_params=indexes)
        for rows in self._given.batches():
            self._client.insert(
                "documents",
                [{"id": row, "text": self._given.texts[row], "vector": self._given.vectors[row]} for row in rows],
            )
        self._client.flush("documents")
        self._client.load_collection("documents")

    def _dense(self, number: int) -> list[int]:
        found = self._client.search(
            "documents", data=[self._given.queries[number]], anns_field="vector", limit=LIMIT, output_fields=["text"]
        )
        return [int(hit["id"]) for hit in found[0]]

    def _hybrid(self, number: int) -> list[int]:
        from pymilvus import AnnSearchRequest, RRFRanker  # noqa: PLC0415

        legs = [
            AnnSearchRequest([self._given.queries[number]], "vector", {"metric_type": "COSINE"}, limit=100),
            AnnSearchRequest([self._given.asked[number]], "words", {"metric_type": "BM25"}, limit=100),
        ]
        found = self._client.hybrid_search("documents", legs, RRFRanker(), limit=LIMIT, output_fields=["text"])
        return [int(hit["id"]) for hit in found[0]]

    def close(self) -> None:
        self._client.close()


PEERS: dict[str, Callable[[Path, Given], Any]] = {
    "lancedb": Lance,
    "chroma": ChromaServer,
    "txtai": Txtai,
    "qdrant-local": QdrantLocal,
    "milvus-lite": MilvusLite,
}


class Stage:
    """What the host does for whoever measures: every method takes and answers what JSON can say."""

    def __init__(self, name: str, folder: Path) -> None:
        self._own = folder / name
        self._own.mkdir()
        self._given = Given(folder)
        self._peer = PEERS[name](self._own, self._given)

    def about(self) -> dict[str, Any]:
        return {
            "packages": {name: version(name) for name in self._peer.packages},
            "ways": list(self._peer.ways),
            "url": getattr(self._peer, "url", None),
            "queries": len(self._given.asked),
        }

    def fill(self) -> float:
        """Seconds."""
        started = time.perf_counter()
        self._peer.fill()
        return time.perf_counter() - started

    def requests(self, numbers: list[int]) -> list[tuple[str, dict[str, Any]]]:
        return [self._peer.request(number) for number in numbers]

    def search(self, way: str, numbers: list[int]) -> list[tuple[float, list[int]]]:
        """One after the other: milliseconds, and the numbers of what was found."""
        query, answers = self._peer.ways[way], []
        for number in numbers:
            started = time.perf_counter()
            found = query(number)
            answers.append(((time.perf_counter() - started) * 1000.0, found))
        return answers

    def crowd(self, way: str, clients: int, searches: int, seconds_max: float) -> tuple[list[float], float]:
        """By threads. Milliseconds of each, and seconds of all; none begins after `seconds_max`."""
        query, spent_ms, numbers = self._peer.ways[way], list[float](), itertools.cycle(range(len(self._given.asked)))
        started = time.perf_counter()

        def one(number: int) -> None:
            begun = time.perf_counter()
            if begun - started < seconds_max:
                query(number)
                spent_ms.append((time.perf_counter() - begun) * 1000.0)

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(one, itertools.islice(numbers, searches)))
        return spent_ms, time.perf_counter() - started

    def megabytes(self) -> float:
        return sum(path.stat().st_size for path in self._own.rglob("*") if path.is_file()) / 1e6

    def close(self) -> None:
        self._peer.close()
