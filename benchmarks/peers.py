"""LanceDB and Chroma on the same vectors, queries and machine: embedded, in one process, with as many threads as clients.

Run by `benchmarks.throughput` with the Python of an environment that has them (benchmarks/requirements-peers.txt), so
that what they install never meets what we do. Reads `vectors.npy`, `queries.npy` and `texts.json` from a folder, prints
one JSON document. Imports nothing of ours: it must run where Diptych is not installed.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_LIMIT = 10
_SECONDS_MAX = 60.0
_BATCH = 5000

Query = Callable[[int], list[int]]


def _lance(folder: Path, vectors: np.ndarray, texts: list[str], queries: np.ndarray) -> tuple[float, Query]:
    import lancedb  # noqa: PLC0415 - each peer in its own environment
    import pyarrow as pa  # noqa: PLC0415
    from lancedb.index import HnswSq  # noqa: PLC0415

    started = time.perf_counter()
    schema = pa.schema(
        [("id", pa.int64()), ("vector", pa.list_(pa.float32(), vectors.shape[1])), ("text", pa.string())]
    )
    table = lancedb.connect(str(folder / "lance")).create_table(
        "t",
        data=[
            {"id": at + row, "vector": vector, "text": text}
            for at in range(0, len(vectors), _BATCH)
            for row, (vector, text) in enumerate(zip(vectors[at : at + _BATCH], texts[at : at + _BATCH], strict=True))
        ],
        schema=schema,
    )
    # One partition, as its documentation has it for fewer than a million rows.
    table.create_index("vector", config=HnswSq(distance_type="cosine", num_partitions=1))
    ready_s = time.perf_counter() - started

    def query(number: int) -> list[int]:
        found = (
            table.search(queries[number]).metric("cosine").ef(100).select(["id", "_distance"]).limit(_LIMIT).to_list()
        )
        return [row["id"] for row in found]

    return ready_s, query


def _chroma(folder: Path, vectors: np.ndarray, texts: list[str], queries: np.ndarray) -> tuple[float, Query]:
    import chromadb  # noqa: PLC0415

    started = time.perf_counter()
    client = chromadb.PersistentClient(
        str(folder / "chroma"), settings=chromadb.config.Settings(anonymized_telemetry=False)
    )
    collection = client.create_collection("filled", configuration={"hnsw": {"space": "cosine", "ef_search": 100}})
    for at in range(0, len(vectors), _BATCH):
        part = slice(at, at + _BATCH)
        ids = [str(number) for number in range(at, min(at + _BATCH, len(vectors)))]
        collection.add(ids=ids, embeddings=vectors[part], documents=texts[part])
    ready_s = time.perf_counter() - started

    def query(number: int) -> list[int]:
        found = collection.query(query_embeddings=[queries[number]], n_results=_LIMIT, include=[])
        return [int(each) for each in found["ids"][0]]

    return ready_s, query


def main(peer: str, folder: Path, clients: int, searches: int) -> None:
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    texts = json.loads((folder / "texts.json").read_text())
    ready_s, query = {"lancedb": _lance, "chroma": _chroma}[peer](folder, vectors, texts, queries)
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :_LIMIT]
    found = [query(number) for number in range(len(queries))]
    recall = float(
        np.mean([len(set(each) & set(best.tolist())) / _LIMIT for each, best in zip(found, truth, strict=True)])
    )
    spent_ms: list[float] = []
    deadline = time.perf_counter() + _SECONDS_MAX

    def one(number: int) -> None:
        if time.perf_counter() < deadline:
            started = time.perf_counter()
            query(number % len(queries))
            spent_ms.append((time.perf_counter() - started) * 1000.0)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(searches)))
    seconds = time.perf_counter() - started
    print(json.dumps({"peer": peer, "ready_s": ready_s, "recall": recall, "seconds": seconds, "ms": spent_ms}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
