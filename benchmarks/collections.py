"""Ten thousand small collections in one retrieval service: `python -m benchmarks.collections`.

The service runs as a process of its own over `--collections` collections of a few documents each, whose vectors were made
beforehand (benchmarks/stored.py), so that no time is the model's. Each is searched by name, one call at a time over HTTP.

Printed: the time of the first search ever of a collection, which makes its index, of one that is closed, of one that is open,
and of a page of the list; what the process holds before, with as many open as it keeps, and when all are idle again; and how
long the service takes to be ready with all of them there.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np
from rich.progress import Progress
from rich.table import Table

from benchmarks.bare import load_model
from benchmarks.data import data_option, read_passages
from benchmarks.load import request_bytes, run_clients
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, running_pair
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from benchmarks.stored import Given, store_collections
from diptych import RetrievalClient
from diptych.console import command
from shared.retrieval_messages import SearchRequest

_DOCUMENTS_EACH: Final = 3
_PASSAGES: Final = 300
_QUERIES: Final = 10
_SAMPLES: Final = 500
# Of those that are searched without being sampled: the service opens some at once.
_CLIENTS: Final = 4
_PAGE: Final = 100
# Longer than the samples take, so that what is meant to be open is.
_IDLE_S: Final = 30.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What the process holds at a moment."""

    when: str
    resident_mib: float
    threads: int
    handles: int


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    ms: Percentiles


class ManyCollections(msgspec.Struct, frozen=True, kw_only=True):
    """`ready_s` is from the spawn of both services until both are ready: with no index made yet, and with all of them."""

    machine: Machine
    collections: int
    documents_each: int
    first_ready_s: float
    ready_s: float
    calls: list[Calls]
    held: list[Held]


class _Searches:
    """Of one collection each, with queries whose vectors the service has."""

    def __init__(self, url: str, queries: Sequence[str]) -> None:
        self._url = url
        self._queries = queries

    async def by_one(self, numbers: Sequence[int]) -> list[float]:
        return (await run_clients(self._url, self._requests(numbers), clients=1))[0]

    async def by_some(self, numbers: Sequence[int], progress: Progress, what: str) -> None:
        parts = [numbers[at : at + _SAMPLES] for at in range(0, len(numbers), _SAMPLES)]
        for part in progress.track(parts, description=what):
            await run_clients(self._url, self._requests(part), clients=_CLIENTS)

    async def warm(self, number: int) -> None:
        """Every query once, so that the service has their vectors."""
        requests = [self._request(number, query) for query in self._queries]
        await run_clients(self._url, requests, clients=1)

    def _requests(self, numbers: Sequence[int]) -> list[bytes]:
        return [self._request(number, self._queries[number % len(self._queries)]) for number in numbers]

    def _request(self, number: int, query: str) -> bytes:
        return request_bytes(self._url, "/v1/search", SearchRequest(query=query, collection=_name(number)))


@click.command()
@click.option("--collections", "count", default=10_000, show_default=True, type=click.IntRange(min=4 * _SAMPLES))
@output_options
@data_option
@command
async def main(count: int, output: Output, data_dir: Path) -> None:
    """Many small collections in one service."""
    watch = OtherWork()
    with tempfile.TemporaryDirectory(prefix="diptych-collections-") as folder, progress_bar() as progress:
        found = await _measure(Path(folder), data_dir, count, progress)
    results = msgspec.structs.replace(found, machine=msgspec.structs.replace(found.machine, other_work=watch.share()))
    output.publish("collections", results, tables_of(results))


async def _measure(folder: Path, data_dir: Path, count: int, progress: Progress) -> ManyCollections:
    queries = await asyncio.to_thread(_fill, folder / "retrieval", data_dir, count, progress)
    variables = {"DIPTYCH_RETRIEVAL_COLLECTION_IDLE_S": str(_IDLE_S)}
    async with running_pair(folder, **variables) as pair:
        calls, held = await _first_life(pair, queries, count, progress)
        first_ready_s = pair.ready_s
    async with running_pair(folder, **variables) as pair:
        searches = _Searches(pair.retrieval_url, queries)
        held.append(_held(pair, "after a restart"))
        await searches.warm(count - 1)
        after = await searches.by_one(range(_SAMPLES))
        calls.append(Calls(what="search of a closed collection, after a restart", ms=percentiles(after)))
        ready_s = pair.ready_s
    return ManyCollections(
        machine=this_machine(),
        collections=count,
        documents_each=_DOCUMENTS_EACH,
        first_ready_s=first_ready_s,
        ready_s=ready_s,
        calls=calls,
        held=held,
    )


async def _first_life(
    pair: Pair, queries: Sequence[str], count: int, progress: Progress
) -> tuple[list[Calls], list[Held]]:
    """Each collection is searched for the first time; then some that are closed again, and some that are open."""
    searches = _Searches(pair.retrieval_url, queries)
    await searches.warm(count - 1)
    held = [_held(pair, "one open")]
    ever = await searches.by_one(range(_SAMPLES))
    await searches.by_some(range(_SAMPLES, count - 1), progress, "searching each collection")
    held.append(_held(pair, "all were searched"))
    closed = await searches.by_one(range(_SAMPLES))
    # The last ones of those: fewer than the service keeps open.
    is_open = await searches.by_one(list(range(_SAMPLES - 100, _SAMPLES)) * 5)
    pages = await _list_pages(pair.retrieval_url)
    await asyncio.sleep(2 * _IDLE_S)
    held.append(_held(pair, "all idle again"))
    calls = [
        Calls(what="first search ever of a collection", ms=percentiles(ever)),
        Calls(what="search of a closed collection", ms=percentiles(closed)),
        Calls(what="search of an open collection", ms=percentiles(is_open)),
        Calls(what=f"page of {_PAGE} of the list", ms=percentiles(pages)),
    ]
    return calls, held


async def _list_pages(url: str) -> list[float]:
    spent_ms, cursor = list[float](), None
    loop = asyncio.get_running_loop()
    async with RetrievalClient(url) as client:
        while True:
            started = loop.time()
            page = await client.collections(cursor=cursor, limit=_PAGE)
            spent_ms.append((loop.time() - started) * 1000.0)
            cursor = page.next_cursor
            if cursor is None:
                return spent_ms


def _held(pair: Pair, when: str) -> Held:
    folder = Path(f"/proc/{pair.pids['retrieval']}")
    lines = (line.partition(":") for line in (folder / "status").read_text(encoding="ascii").splitlines())
    status = {name: value.split() for name, _, value in lines}
    return Held(
        when=when,
        resident_mib=round(int(status["VmRSS"][0]) / 1024, 1),
        threads=int(status["Threads"][0]),
        handles=sum(1 for _ in (folder / "fd").iterdir()),
    )


def _fill(directory: Path, data_dir: Path, count: int, progress: Progress) -> list[str]:
    """Some passages with their vectors, again and again. Answers queries that have words of them. Blocking."""
    embedder = load_model(directory)
    passages = read_passages(data_dir)[:_PASSAGES]
    parts = [passages[at : at + 16] for at in range(0, _PASSAGES, 16)]
    vectors = np.concatenate([embedder.embed(part, "document") for part in progress.track(parts)])
    task = progress.add_task("filling", total=count * _DOCUMENTS_EACH)

    def documents() -> Iterator[tuple[str, Given]]:
        for number in range(count * _DOCUMENTS_EACH):
            at = number % _PASSAGES
            given = Given(
                document_id=f"d{number % _DOCUMENTS_EACH}",
                texts=[passages[at]],
                vectors=vectors[at : at + 1],
                metadata={},
            )
            yield _name(number // _DOCUMENTS_EACH), given

    store_collections(directory, embedder.name, documents(), lambda stored: progress.advance(task, stored))
    return [" ".join(passage.split()[:8]) for passage in passages[:_QUERIES]]


def _name(number: int) -> str:
    return f"c{number:05}"


def tables_of(results: ManyCollections) -> dict[str, Table]:
    calls = table_of(
        ("one call at a time", "p50 ms", "p95 ms", "p99 ms"),
        [(each.what, *(f"{value:.2f}" for value in (each.ms.p50, each.ms.p95, each.ms.p99))) for each in results.calls],
    )
    held = table_of(
        ("held by the service", "resident MiB", "threads", "handles"),
        [(each.when, f"{each.resident_mib:.0f}", str(each.threads), str(each.handles)) for each in results.held],
    )
    times = f"ready after {results.first_ready_s} s without indexes, {results.ready_s} s with"
    title = f"{results.collections:,} collections of {results.documents_each} documents; {times}"
    return {title: calls, "Memory, threads and file handles": held}


if __name__ == "__main__":
    main()
