"""What ingest costs: `python -m benchmarks.ingest`. Real services in processes of their own, the real model.

- Chunks per second through the whole service, against the model alone on the same chunks, before and after in the same
  run, so that a drift of the machine hits both.
- Searches while a large ingest runs, against searches without one; both with vectors that are cached and with new queries.
- A flood: many clients send more than the queue holds. Each is refused at once with a Retry-After, and when they come
  back as they were told, everything is stored.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import data_option, read_documents, unseen_queries
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair, until_jobs_ended
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from benchmarks.workload import COLLECTION, expect, search
from diptych import DocumentIn, RetrievalClient
from diptych.console import command
from shared.errors import Internal, Overloaded

_FILL_TIMEOUT_S: Final = 1800.0
_RUN_TIMEOUT_S: Final = 3600.0
_BATCH_DOCUMENTS: Final = 50
_WARM_UP_DOCUMENTS: Final = 20
_REPEATED_QUERIES: Final = 20
_FLOOD_CLIENTS: Final = 16
# Of the documents of the flood, so that most of them come to a full queue.
_FLOOD_QUEUE_SHARE: Final = 0.2
_FLOOD_BATCH: Final = 10


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """`bare_chunks_per_s` is the model alone on the same chunks, before and after."""

    documents: int
    chunks: int
    chunks_per_s: float
    bare_chunks_per_s: list[float]
    share_of_bare: float


class Searches(msgspec.Struct, frozen=True, kw_only=True):
    queries: str
    during: str
    ms: Percentiles


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of `clients` at once, `refused` of which met 429 with a Retry-After in seconds between its bounds.
    A refusal took `refusal_ms`. `stored` is what was there when all had come back as they were told."""

    clients: int
    queue_documents_max: int
    accepted: int
    refused: int
    retry_after_s: list[float]
    refusal_ms: Percentiles
    search_ms: Percentiles
    sent_documents: int
    stored_documents: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    rate: Rate
    searches: list[Searches]
    flood: Flood


async def measure(data_dir: Path, documents: int, rounds: int, progress: Progress) -> Results:
    other_work = OtherWork()
    texts = read_documents(data_dir, 3 * documents)
    with tempfile.TemporaryDirectory(prefix="diptych-ingest-") as scratch:
        async with running_pair(Path(scratch)) as pair:
            rate = await _measure_rate(pair, Path(scratch) / "retrieval", texts[:documents], progress)
            searches = await _measure_searches(pair, data_dir, texts[documents : 2 * documents], rounds, progress)
    with tempfile.TemporaryDirectory(prefix="diptych-ingest-") as scratch:
        queue_max = round(documents * _FLOOD_QUEUE_SHARE)
        limit = {"DIPTYCH_RETRIEVAL_INGEST_QUEUE_DOCUMENTS_MAX": str(queue_max)}
        async with running_pair(Path(scratch), **limit) as pair:
            flood = await _measure_flood(pair, data_dir, texts[2 * documents :], queue_max, progress)
    machine = this_machine(other_work)
    return Results(machine=machine, rate=rate, searches=searches, flood=flood)


async def _measure_rate(pair: Pair, directory: Path, documents: Sequence[DocumentIn], progress: Progress) -> Rate:
    task = progress.add_task("ingest and the bare model", total=3)
    async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S) as client:
        await client.ingest("warm-up", documents[:_WARM_UP_DOCUMENTS])
        await client.delete_collection("warm-up")
        started = time.perf_counter()
        await _send(client, documents)
        await until_jobs_ended(client, _FILL_TIMEOUT_S)
        seconds = time.perf_counter() - started
        progress.advance(task)
        stored = await client.collection(COLLECTION)
        expect(stored.documents == len(documents), "ingest")
        chunks = [text for each in documents for text in await _embedded_texts(client, each)]
    bare = [round(len(chunks) / await _bare_s(directory, chunks), 2)]
    progress.advance(task)
    async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S) as client:
        # A second time around, in a new collection, so that neither side has the warmer machine.
        started = time.perf_counter()
        await _send(client, documents, collection="again")
        await until_jobs_ended(client, _FILL_TIMEOUT_S)
        again_s = time.perf_counter() - started
        await client.delete_collection("again")
    bare.append(round(len(chunks) / await _bare_s(directory, chunks), 2))
    progress.advance(task)
    rate = 2 * len(chunks) / (seconds + again_s)
    return Rate(
        documents=len(documents),
        chunks=len(chunks),
        chunks_per_s=round(rate, 2),
        bare_chunks_per_s=bare,
        share_of_bare=round(rate / (sum(bare) / len(bare)), 3),
    )


async def _send(client: RetrievalClient, documents: Sequence[DocumentIn], *, collection: str = COLLECTION) -> None:
    for begin in range(0, len(documents), _BATCH_DOCUMENTS):
        await client.ingest(collection, documents[begin : begin + _BATCH_DOCUMENTS], wait=False)


async def _embedded_texts(client: RetrievalClient, document: DocumentIn) -> list[str]:
    """What the model read of each chunk: its place, then its text."""
    stored = await client.document(COLLECTION, document.id or "")
    return [
        "\n".join(
            part
            for part in (
                " > ".join(dict.fromkeys(name for name in (stored.title, *passage.headings) if name)),
                passage.context,
                passage.text,
            )
            if part
        )
        for passage in stored.passages
    ]


async def _bare_s(directory: Path, texts: Sequence[str]) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.bare_model", str(directory)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate(msgspec.json.encode(texts))
    if process.returncode != 0:
        raise Internal("the bare model could not be run")
    return msgspec.json.decode(printed, type=float)


async def _measure_searches(
    pair: Pair, data_dir: Path, documents: Sequence[DocumentIn], rounds: int, progress: Progress
) -> list[Searches]:
    """Repeated and unseen queries turn by turn, first alone and then beside an ingest that lasts until the end."""
    unseen = unseen_queries(data_dir)
    repeated = [next(unseen) for _ in range(_REPEATED_QUERIES)]
    found: list[Searches] = []
    async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S, retries=False) as client:
        for query in repeated:
            await search(client, query)
        for during in ("nothing", "ingest"):
            times: dict[str, list[float]] = {"repeated": [], "unseen": []}
            async with _feeding(client, documents if during == "ingest" else []):
                for number in progress.track(range(rounds), description=f"searches beside {during}"):
                    for name, query in (("repeated", repeated[number % len(repeated)]), ("unseen", next(unseen))):
                        started = time.perf_counter()
                        await search(client, query)
                        times[name].append((time.perf_counter() - started) * 1000.0)
            found += [Searches(queries=name, during=during, ms=percentiles(ms)) for name, ms in times.items()]
    return found


@asynccontextmanager
async def _feeding(client: RetrievalClient, documents: Sequence[DocumentIn]) -> AsyncIterator[None]:
    """An ingest of `documents`, over and over, for as long as the body runs."""
    if not documents:
        yield
        return
    feeding = asyncio.create_task(_feed(client, documents))
    try:
        yield
        expect(not feeding.done(), "an ingest beside the searches")
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
    await _cancel_jobs(client)


async def _feed(client: RetrievalClient, documents: Sequence[DocumentIn]) -> None:
    """Always more than one job in the queue, for as long as it is not cancelled. Every lap is other text."""
    lap = 0
    while True:
        lap += 1
        for begin in range(0, len(documents), _BATCH_DOCUMENTS):
            batch = [
                msgspec.structs.replace(each, id=f"{each.id}-{lap}", text=f"({lap}) {each.text}")
                for each in documents[begin : begin + _BATCH_DOCUMENTS]
            ]
            await client.ingest("background", batch, wait=False)
            while len((await client.jobs(status="running", limit=3)).items) > 1:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.2)


async def _cancel_jobs(client: RetrievalClient) -> None:
    for job in (await client.jobs(status="running")).items + (await client.jobs(status="queued")).items:
        await client.cancel_job(job.id)


async def _measure_flood(
    pair: Pair, data_dir: Path, documents: Sequence[DocumentIn], queue_max: int, progress: Progress
) -> Flood:
    seen: Counter[str] = Counter()
    asked_s: list[float] = []
    refusal_ms: list[float] = []
    search_ms: list[float] = []
    batches = [documents[begin : begin + _FLOOD_BATCH] for begin in range(0, len(documents), _FLOOD_BATCH)]
    waiting = iter(batches)
    task = progress.add_task("flood", total=len(batches))

    async def flood(client: RetrievalClient) -> None:
        for batch in waiting:
            while True:
                started = time.perf_counter()
                try:
                    await client.ingest(COLLECTION, batch, wait=False)
                except Overloaded as refusal:
                    refusal_ms.append((time.perf_counter() - started) * 1000.0)
                    seen["refused"] += 1
                    asked_s.append(refusal.retry_after_s or 0.0)
                    await asyncio.sleep(refusal.retry_after_s or 0.0)
                else:
                    seen["accepted"] += 1
                    progress.advance(task)
                    break

    async def searching(client: RetrievalClient) -> None:
        for query in unseen_queries(data_dir):
            started = time.perf_counter()
            await client.search(query, collection=COLLECTION)
            search_ms.append((time.perf_counter() - started) * 1000.0)
            await asyncio.sleep(0.05)

    async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S, retries=False) as client:
        await client.put_collection(COLLECTION)
        searches = asyncio.create_task(searching(client))
        await asyncio.gather(*(flood(client) for _ in range(_FLOOD_CLIENTS)))
        await until_jobs_ended(client, _FILL_TIMEOUT_S)
        searches.cancel()
        with suppress(asyncio.CancelledError):
            await searches
        stored = (await client.collection(COLLECTION)).documents
    return Flood(
        clients=_FLOOD_CLIENTS,
        queue_documents_max=queue_max,
        accepted=seen["accepted"],
        refused=seen["refused"],
        retry_after_s=[min(asked_s, default=0.0), max(asked_s, default=0.0)],
        refusal_ms=percentiles(refusal_ms or [0.0]),
        search_ms=percentiles(search_ms),
        sent_documents=len(documents),
        stored_documents=stored,
    )


def tables_of(results: Results) -> dict[str, Table]:
    rate, flood = results.rate, results.flood
    bare = " / ".join(f"{each:.1f}" for each in rate.bare_chunks_per_s)
    return {
        "Ingest against the model alone, chunks per second": table_of(
            ("documents", "chunks", "ingest", "model alone, twice", "share"),
            [(str(rate.documents), str(rate.chunks), f"{rate.chunks_per_s:.1f}", bare, f"{rate.share_of_bare:.2f}")],
        ),
        "Hybrid searches, one after the other, ms": table_of(
            ("queries", "beside", "searches", "p50", "p95", "p99"),
            [
                (each.queries, each.during, str(each.ms.count), *(f"{part:.1f}" for part in _three(each.ms)))
                for each in results.searches
            ],
            texts=2,
        ),
        f"Flood: {flood.clients} clients, a queue of {flood.queue_documents_max} documents": table_of(
            ("accepted", "refused", "Retry-After s", "refusal p95 ms", "search p95 ms", "sent", "stored"),
            [
                (
                    str(flood.accepted),
                    str(flood.refused),
                    f"{flood.retry_after_s[0]:.0f} to {flood.retry_after_s[1]:.0f}",
                    f"{flood.refusal_ms.p95:.1f}",
                    f"{flood.search_ms.p95:.1f}",
                    str(flood.sent_documents),
                    str(flood.stored_documents),
                )
            ],
        ),
    }


def _three(ms: Percentiles) -> tuple[float, float, float]:
    return ms.p50, ms.p95, ms.p99


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=20, max=1700), default=1000, help="How many a phase ingests.")
@click.option("--rounds", type=click.IntRange(min=5), default=300, help="Searches of each kind.")
@output_options
@data_option
@command
async def main(documents: int, rounds: int, output: Output, data_dir: Path) -> None:
    """Measure ingest, searches beside it, and refusals. The results are also written to benchmarks/results/ingest.json.
    Exits with 1 when a document of the flood was lost."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, documents, rounds, progress)
    output.publish("ingest", results, tables_of(results))
    if results.flood.stored_documents != results.flood.sent_documents:
        sys.exit(1)


if __name__ == "__main__":
    main()
