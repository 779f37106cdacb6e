"""Searches on a large collection, alone and by many clients: `python -m benchmarks.throughput`.

Measured, on a collection of `--chunks` chunks (benchmarks/filled.py) in a service that runs as a process of its own:
- one unseen hybrid query at a time, over HTTP, in turns with the same parts called bare in this process;
- hybrid searches whose query vectors the service has cached, by `--clients` clients that cost little (benchmarks/load.py).

Not measured: other systems (benchmarks.retrieval_peers), filters (benchmarks.filtered), larger sizes (benchmarks.million),
quality (evals).
"""

import asyncio
import itertools
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.bare import bare_search, load_model
from benchmarks.data import data_option, unseen_queries
from benchmarks.filled import COLLECTION, fill
from benchmarks.load import connected, request_bytes, run_clients
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair
from benchmarks.report import Machine, OtherWork, Percentiles, percentiles, progress_bar, table_of, this_machine
from diptych import RetrievalClient
from diptych.console import command
from shared.retrieval_messages import SearchRequest

_QUERIES: Final = 200
_READY_TIMEOUT_S: Final = 1800.0
_POLL_S: Final = 1.0


class OneAtATime(msgspec.Struct, frozen=True, kw_only=True):
    """Unseen queries. `ratio` is that of the medians; `ratio_of_pairs` the median of each query's own ratio."""

    service_ms: Percentiles
    bare_ms: Percentiles
    ratio: float
    ratio_of_pairs: float


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    searches_per_s: float
    ms: Percentiles


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    chunks: int
    clients: int
    first_search_s: float
    lists_ready_s: float
    unseen: OneAtATime
    crowds: list[Crowd]


@click.command(context_settings={"show_default": True})
@click.option("--chunks", type=click.IntRange(min=1000), default=100_000, help="How many to search among.")
@click.option("--clients", type=click.IntRange(min=1), default=16, help="At once.")
@click.option("--searches", type=click.IntRange(min=16), default=6000, help="With cached vectors, over all clients.")
@output_options
@data_option
@command
async def main(chunks: int, clients: int, searches: int, output: Output, data_dir: Path) -> None:
    """Searches on a large collection, alone and by many clients."""
    with tempfile.TemporaryDirectory(prefix="diptych-throughput-") as folder, progress_bar() as progress:
        results = await _measure(Path(folder), data_dir, chunks, clients, searches, progress)
    output.publish("throughput", results, tables_of(results))


async def _measure(
    folder: Path, data_dir: Path, chunks: int, clients: int, searches: int, progress: Progress
) -> Throughput:
    watch = OtherWork()
    directory = folder / "retrieval"
    embedder = await asyncio.to_thread(load_model, directory)
    embed = partial(embedder.embed, kind="document")
    await asyncio.to_thread(fill, directory, data_dir, embedder.name, embed, chunks, progress)
    queries = list(itertools.islice(unseen_queries(data_dir), 2 * _QUERIES))
    async with running_pair(folder) as pair, RetrievalClient(pair.retrieval_url, timeout_s=_READY_TIMEOUT_S) as client:
        first_s, lists_s = await _until_indexed(client)
        bare = await asyncio.to_thread(bare_search, directory, embedder)
        unseen = await _one_at_a_time(pair.retrieval_url, bare, queries[:_QUERIES], progress)
        crowds = [await _cached(pair, queries[_QUERIES:], clients, searches)]
    return Throughput(
        machine=this_machine(watch),
        chunks=chunks,
        clients=clients,
        first_search_s=first_s,
        lists_ready_s=lists_s,
        unseen=unseen,
        crowds=crowds,
    )


async def _until_indexed(client: RetrievalClient) -> tuple[float, float]:
    """Seconds to the first answer, for which both indexes are made, and until the dense one has its final form."""
    started = time.perf_counter()
    answer = await client.search("warm", collection=COLLECTION, explain=True)
    first_s = time.perf_counter() - started
    async with limited(_READY_TIMEOUT_S, "the dense index"):
        chunks = answer.plan.collections[0].chunks if answer.plan else 0
        while chunks > 50_000 and answer.plan and answer.plan.collections[0].dense == "exact":
            await asyncio.sleep(_POLL_S)
            answer = await client.search("warm", collection=COLLECTION, explain=True)
    return round(first_s, 1), round(time.perf_counter() - started, 1)


async def _one_at_a_time(url: str, bare: Any, queries: list[str], progress: Progress) -> OneAtATime:
    service_ms, bare_ms = list[float](), list[float]()
    async with connected(url) as connection:
        for query in progress.track(queries, description="unseen, in turns with bare parts"):
            service_ms.append(await connection.ask(_request(url, query)))
            started = time.perf_counter()
            bare(query)
            bare_ms.append((time.perf_counter() - started) * 1000.0)
    return OneAtATime(
        service_ms=percentiles(service_ms),
        bare_ms=percentiles(bare_ms),
        ratio=round(median(service_ms) / median(bare_ms), 3),
        ratio_of_pairs=round(median(mine / other for mine, other in zip(service_ms, bare_ms, strict=True)), 3),
    )


def _request(url: str, query: str) -> bytes:
    return request_bytes(url, "/v1/search", SearchRequest(query=query, collection=COLLECTION))


async def _cached(pair: Pair, queries: list[str], clients: int, searches: int) -> Crowd:
    url = pair.retrieval_url
    requests = [_request(url, query) for query in queries]
    await run_clients(url, requests, clients=clients)  # fills the cache of vectors
    repeated = list(itertools.islice(itertools.cycle(requests), searches))
    spent_ms, seconds = await run_clients(url, repeated, clients=clients)
    return Crowd(
        what="diptych, hybrid, over HTTP", searches_per_s=round(searches / seconds, 1), ms=percentiles(spent_ms)
    )


def tables_of(results: Throughput) -> dict[str, Table]:
    unseen = results.unseen
    one = table_of(
        ("one unseen query at a time", "p50 ms", "p95 ms", "p99 ms"),
        [
            (name, f"{each.p50:.2f}", f"{each.p95:.2f}", f"{each.p99:.2f}")
            for name, each in (("service, over HTTP", unseen.service_ms), ("parts called bare", unseen.bare_ms))
        ],
    )
    crowd = table_of(
        (f"{results.clients} clients, vectors at hand", "searches/s", "p50 ms", "p95 ms", "p99 ms"),
        [
            (
                each.what,
                f"{each.searches_per_s:.0f}",
                *(f"{value:.1f}" for value in (each.ms.p50, each.ms.p95, each.ms.p99)),
            )
            for each in results.crowds
        ],
    )
    times = f"first search after {results.first_search_s} s, lists after {results.lists_ready_s} s"
    return {
        f"{results.chunks:,} chunks; {times}": one,
        f"ratio of medians {unseen.ratio}, median of ratios {unseen.ratio_of_pairs}": crowd,
    }


if __name__ == "__main__":
    main()
