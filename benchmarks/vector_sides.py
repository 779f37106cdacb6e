"""Vector databases that are ready to be asked: Diptych and Chroma as servers, others as libraries in processes of their own."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from benchmarks.filled import COLLECTION
from benchmarks.judged_corpus import LIMIT, Corpus
from benchmarks.load import json_request_bytes, request_bytes, run_clients
from benchmarks.pair import limited, running_pair
from benchmarks.peer_process import PeerFailed, PeerProcess, running_peer
from benchmarks.stored import Given, store
from diptych import RetrievalClient, Vector
from shared.errors import Internal, Unavailable
from shared.retrieval_messages import SearchMode, SearchRequest

LABELS: Final = {
    "lancedb": "LanceDB",
    "chroma": "Chroma server",
    "txtai": "txtai",
    "qdrant-local": "Qdrant, local mode",
    "milvus-lite": "Milvus Lite",
}
_WAYS: Final[tuple[SearchMode, ...]] = ("dense", "hybrid")
_FILL_TIMEOUT_S: Final = 1200.0
_CROWD_SECONDS_MAX: Final = 20.0
_CROWD_TIMEOUT_S: Final = 300.0
_READY_TIMEOUT_S: Final = 1800.0
_POLL_S: Final = 0.5
# Above so many vectors Diptych searches lists of them, which it makes in the background.
_EXACT_MAX: Final = 50_000


class Side(Protocol):
    """Numbers are those of queries. `fill_s` is from given vectors until everything is searchable, the start of a server included."""

    name: str
    reached: str
    versions: dict[str, str]
    fill_s: float
    disk_mb: float

    @property
    def ways(self) -> Sequence[str]: ...

    async def search(self, way: str, numbers: Sequence[int]) -> list[tuple[float, list[int]]]:
        """Milliseconds of each, and the rows that it found, best first."""

    async def crowd(self, way: str, clients: int, searches: int) -> tuple[list[float], float]:
        """Milliseconds of each, and seconds of all."""


@dataclass(slots=True)
class Served:
    """What a server finds is looked at once, beforehand, so that its times are those of bytes alone."""

    name: str
    url: str
    requests: dict[str, list[bytes]]
    found: dict[str, list[list[int]]]
    fill_s: float
    disk_mb: float
    versions: dict[str, str]
    reached: str = "over HTTP"

    @property
    def ways(self) -> Sequence[str]:
        return tuple(self.requests)

    async def search(self, way: str, numbers: Sequence[int]) -> list[tuple[float, list[int]]]:
        spent_ms, _ = await self._run([self.requests[way][number] for number in numbers], 1)
        return [(ms, self.found[way][number]) for ms, number in zip(spent_ms, numbers, strict=True)]

    async def crowd(self, way: str, clients: int, searches: int) -> tuple[list[float], float]:
        requests = self.requests[way]
        asked = [requests[number % len(requests)] for number in range(searches)]
        return await self._run(asked, clients)

    async def _run(self, requests: Sequence[bytes], clients: int) -> tuple[list[float], float]:
        try:
            async with limited(_CROWD_TIMEOUT_S, f"searches in {self.name}"):
                return await run_clients(self.url, requests, clients=clients)
        except (OSError, EOFError, Unavailable) as error:
            raise PeerFailed(f"its server: {str(error) or type(error).__name__}") from error


@dataclass(slots=True)
class Embedded:
    name: str
    process: PeerProcess
    ways: Sequence[str]
    fill_s: float
    disk_mb: float
    versions: dict[str, str]
    reached: str = "in its process"

    async def search(self, way: str, numbers: Sequence[int]) -> list[tuple[float, list[int]]]:
        return [(ms, found) for ms, found in await self.process.ask("search", way, list(numbers))]

    async def crowd(self, way: str, clients: int, searches: int) -> tuple[list[float], float]:
        spent_ms, seconds = await self.process.ask("crowd", way, clients, searches, _CROWD_SECONDS_MAX)
        return spent_ms, seconds


def store_corpus(directory: Path, corpus: Corpus) -> None:
    """As documents of one chunk each, in the data of a retrieval service that is not running. Blocking."""
    given = (
        Given(document_id=str(row), texts=[text], vectors=corpus.vectors[row : row + 1], metadata={})
        for row, text in enumerate(corpus.texts)
    )
    store(directory, COLLECTION, corpus.model, given, lambda _: None)


@asynccontextmanager
async def diptych_side(folder: Path, corpus: Corpus, stored_s: float) -> AsyncIterator[Side]:
    """Over what lies in `folder`, which took `stored_s` to store."""
    started = time.perf_counter()
    async with running_pair(folder) as pair, RetrievalClient(pair.retrieval_url, timeout_s=_READY_TIMEOUT_S) as client:
        await _until_indexed(client, corpus)
        fill_s = stored_s + time.perf_counter() - started
        requests = {way: [_request(corpus, number, way) for number in range(len(corpus.asked))] for way in _WAYS}
        yield Served(
            name="Diptych",
            url=pair.retrieval_url,
            requests={
                way: [request_bytes(pair.retrieval_url, "/v1/search", each) for each in some]
                for way, some in requests.items()
            },
            found={way: [await _rows(client, each) for each in some] for way, some in requests.items()},
            fill_s=round(fill_s, 1),
            disk_mb=await asyncio.to_thread(_megabytes, folder / "retrieval"),
            versions={"diptych": version("diptych")},
        )


def _request(corpus: Corpus, number: int, way: SearchMode) -> SearchRequest:
    """By vector alone, or by vector and words, with the default fusion."""
    query = None if way == "dense" else corpus.asked[number]
    return SearchRequest(
        query=query, vector=Vector(corpus.queries[number]), collection=COLLECTION, mode=way, limit=LIMIT
    )


async def _rows(client: RetrievalClient, request: SearchRequest) -> list[int]:
    answer = await client.search(
        request.query, vector=request.vector, collection=COLLECTION, mode=request.mode, limit=request.limit
    )
    # Chunks are numbered from 1 in the order of the corpus.
    return [hit.chunk_id - 1 for hit in answer.hits]


async def _until_indexed(client: RetrievalClient, corpus: Corpus) -> None:
    """Until the dense index has its final form."""
    async with limited(_READY_TIMEOUT_S, "the dense index"):
        while True:
            answer = await client.search("warm", vector=Vector(corpus.queries[0]), collection=COLLECTION, explain=True)
            if answer.plan is None:
                raise Internal("a search was not explained")
            if len(corpus.texts) <= _EXACT_MAX or answer.plan.collections[0].dense != "exact":
                return
            await asyncio.sleep(_POLL_S)


def _megabytes(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def write_corpus(folder: Path, corpus: Corpus) -> None:
    """As peers read it. Blocking."""
    folder.mkdir()
    np.save(folder / "vectors.npy", corpus.vectors)
    np.save(folder / "queries.npy", corpus.queries)
    (folder / "texts.json").write_text(json.dumps(corpus.texts), encoding="utf-8")
    (folder / "asked.json").write_text(json.dumps(corpus.asked), encoding="utf-8")


@asynccontextmanager
async def peer_side(python: Path, name: str, folder: Path) -> AsyncIterator[Side]:
    """With the corpus that was written to `folder`. Raises PeerFailed."""
    async with running_peer(python, "vectors", name, folder) as process:
        about = await process.ask("about")
        fill_s = round(await process.ask("fill", timeout_s=_FILL_TIMEOUT_S), 1)
        disk_mb = round(await process.ask("megabytes"), 1)
        label, ways, versions, url = LABELS[name], tuple(about["ways"]), about["packages"], about["url"]
        if url is None:
            yield Embedded(label, process, ways, fill_s, disk_mb, versions)
            return
        count = about["queries"]
        requests = [
            json_request_bytes(url, path, body) for path, body in await process.ask("requests", list(range(count)))
        ]
        found = {way: [rows for _, rows in await process.ask("search", way, list(range(count)))] for way in ways}
        yield Served(label, url, dict.fromkeys(ways, requests), found, fill_s, disk_mb, versions)
