"""Hybrid search looked at closely: what of its time is not its work, and what it does under load. MessagePack only."""

import asyncio
import time
from collections.abc import Sequence
from statistics import median
from typing import Final

import msgspec
from rich.progress import Progress

from benchmarks.pair import Pair
from benchmarks.report import Percentiles, percentiles
from benchmarks.workload import Workload, search
from diptych import RetrievalClient
from shared.retrieval_messages import SearchAnswer, Stages

CLIENTS: Final = 8
_CALL_TIMEOUT_S: Final = 60.0


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """Medians, and medians of each search's own share of what is not embedding, FAISS or tantivy.

    The legs run side by side, so the work of a search is max(embed + dense, lexical), as the server timed them. Those
    times contain the hand-over to a thread and back, so the true share is larger than the one shown.
    """

    queries: str
    searches: int
    http_ms: float
    took_ms: float
    work_ms: float
    stages_ms: dict[str, float]
    share_of_took: float
    share_of_http: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    queries: str
    clients: int
    searches_per_s: float
    ms: Percentiles


async def measure_overheads(pair: Pair, workload: Workload, rounds: int, progress: Progress) -> list[Overhead]:
    """One explained search at a time."""
    async with _client(pair) as client:
        await workload.fill_cache(client)
        return [
            await _measure_overhead(client, "unseen", workload.unseen(rounds), progress),
            await _measure_overhead(client, "repeated", workload.repeated(rounds), progress),
        ]


async def measure_loads(pair: Pair, workload: Workload, rounds: int, progress: Progress) -> list[Load]:
    """Twice as many searches as rounds, and one for each client to open its connection."""
    count = CLIENTS + 2 * rounds
    return [
        await _measure_load(pair, "unseen", workload.unseen(count), progress),
        await _measure_load(pair, "repeated", workload.repeated(count), progress),
    ]


def _client(pair: Pair) -> RetrievalClient:
    return RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S, retries=False)


async def _measure_overhead(client: RetrievalClient, name: str, queries: Sequence[str], progress: Progress) -> Overhead:
    http_ms: list[float] = []
    answers: list[SearchAnswer] = []
    for query in progress.track(queries, description=f"explained search, {name}"):
        started = time.perf_counter()
        answers.append(await search(client, query, explain=True))
        http_ms.append((time.perf_counter() - started) * 1000.0)
    took_ms = [answer.took_ms for answer in answers]
    stages = [answer.plan.stages_ms for answer in answers if answer.plan]
    work_ms = [max(each.embed + each.dense, each.lexical) for each in stages]
    return Overhead(
        queries=name,
        searches=len(queries),
        http_ms=round(median(http_ms), 3),
        took_ms=round(median(took_ms), 3),
        work_ms=round(median(work_ms), 3),
        stages_ms={
            stage: round(median(getattr(each, stage) for each in stages), 3) for stage in Stages.__struct_fields__
        },
        share_of_took=_median_share(took_ms, work_ms),
        share_of_http=_median_share(http_ms, work_ms),
    )


def _median_share(total_ms: Sequence[float], work_ms: Sequence[float]) -> float:
    return round(median((total - work) / total for total, work in zip(total_ms, work_ms, strict=True)), 4)


async def _measure_load(pair: Pair, name: str, queries: Sequence[str], progress: Progress) -> Load:
    """The clients share the queries; each asks its next one as soon as it has its answer. They live in one process,
    whose own work the machine's cores do as well."""
    opening, waiting, spent_ms = queries[:CLIENTS], iter(queries[CLIENTS:]), list[float]()
    task = progress.add_task(f"{CLIENTS} clients, {name}", total=len(queries) - CLIENTS)

    async def ask(client: RetrievalClient) -> None:
        for query in waiting:
            started = time.perf_counter()
            await search(client, query)
            spent_ms.append((time.perf_counter() - started) * 1000.0)
            progress.advance(task)

    clients = [_client(pair) for _ in opening]
    try:
        await asyncio.gather(*(search(client, query) for client, query in zip(clients, opening, strict=True)))
        started = time.perf_counter()
        await asyncio.gather(*map(ask, clients))
        seconds = time.perf_counter() - started
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    return Load(
        queries=name, clients=CLIENTS, searches_per_s=round(len(spent_ms) / seconds, 1), ms=percentiles(spent_ms)
    )
