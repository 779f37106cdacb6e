"""How fast the pair answers over HTTP, how fast it ingests, and how soon it is ready: `python -m benchmarks.latency`.

Measured: the whole call of the product's Python client on 127.0.0.1, against both services as real processes with the real
model. Client and services share the machine's cores, as they do where an agent runs beside them. Queries that were never
seen cost one run of the model; repeated ones find their vector in retrieval's cache.

Not measured: a network, more than one user's memory, collections larger than `--documents`, a cold page cache (the first
start has a new data folder, but the system may have the libraries and the model in memory), and quality.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import Conversation, data_option, read_conversation, read_documents, unseen_queries
from benchmarks.measuring import Samples, Side, interleaved
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair, until_jobs_ended, until_vectors_filled
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from benchmarks.searches import CLIENTS, Load, Overhead, measure_loads, measure_overheads
from benchmarks.workload import COLLECTION, Workload, expect
from diptych import DocumentIn, MemoryClient, RetrievalClient
from diptych.console import command
from shared.client import JSON, MSGPACK

_TURNS_MIN: Final = 500
_BATCH_DOCUMENTS: Final = 50
_WARM_UP_DOCUMENTS: Final = 20
_WARM_UP_ROUNDS: Final = 10
# Of one call; of ingesting a batch or filling the memory's vectors; of the whole run, so that it ends whatever happens.
_CALL_TIMEOUT_S: Final = 60.0
_FILL_TIMEOUT_S: Final = 600.0
_RUN_TIMEOUT_S: Final = 3600.0


class Start(msgspec.Struct, frozen=True, kw_only=True):
    data: str
    ready_s: float


class Ingest(msgspec.Struct, frozen=True, kw_only=True):
    """One client sends batch after batch and waits for each until it is searchable. The median over the batches is moved
    less than the total by a burst of other work on the machine."""

    documents: int
    chunks: int
    seconds: float
    documents_per_s: float
    chunks_per_s: float
    documents_per_s_median: float


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes are those of the bodies, at the median."""

    operation: str
    encoding: str
    ms: Percentiles
    sent_bytes: int
    received_bytes: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    documents: int
    turns: int
    rounds: int
    starts: list[Start]
    ingest: Ingest
    calls: list[Call]
    overheads: list[Overhead]
    loads: list[Load]


async def measure(data_dir: Path, documents: int, rounds: int, progress: Progress) -> Results:
    other_work = OtherWork()
    texts = read_documents(data_dir, documents)
    conversation = read_conversation(data_dir, _TURNS_MIN)
    workload = Workload(conversation, unseen_queries(data_dir))
    full = f"{documents:,} documents, {len(conversation.turns)} turns"
    with tempfile.TemporaryDirectory(prefix="diptych-latency-") as scratch:
        async with running_pair(Path(scratch)) as pair:
            starts = [Start(data="new", ready_s=pair.ready_s)]
            ingested = await _ingest(pair, texts, progress)
            await _remember(pair, conversation)
        async with running_pair(Path(scratch)) as pair:
            starts.append(Start(data=full, ready_s=pair.ready_s))
        async with running_pair(Path(scratch)) as pair:
            starts.append(Start(data=full, ready_s=pair.ready_s))
            calls = await _measure_calls(pair, workload, rounds, progress)
            overheads = await measure_overheads(pair, workload, rounds, progress)
            loads = await measure_loads(pair, workload, rounds, progress)
    return Results(
        machine=this_machine(other_work),
        documents=documents,
        turns=len(conversation.turns),
        rounds=rounds,
        starts=starts,
        ingest=ingested,
        calls=calls,
        overheads=overheads,
        loads=loads,
    )


async def _ingest(pair: Pair, documents: Sequence[DocumentIn], progress: Progress) -> Ingest:
    """After a small warm-up in a collection of its own."""
    async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S) as client:
        await client.ingest("warm-up", documents[:_WARM_UP_DOCUMENTS])
        await client.delete_collection("warm-up")
        rates: list[float] = []
        started = time.perf_counter()
        for begin in progress.track(range(0, len(documents), _BATCH_DOCUMENTS), description="ingest, batches"):
            batch, before = documents[begin : begin + _BATCH_DOCUMENTS], time.perf_counter()
            answer = await client.ingest(COLLECTION, batch)
            if answer.results is None:  # a slow machine: the server waited as long as it may
                await until_jobs_ended(client, _FILL_TIMEOUT_S)
            rates.append(len(batch) / (time.perf_counter() - before))
        seconds = time.perf_counter() - started
        stored = await client.collection(COLLECTION)
    expect(stored.documents == len(documents), "ingest")
    return Ingest(
        documents=stored.documents,
        chunks=stored.chunks,
        seconds=round(seconds, 2),
        documents_per_s=round(stored.documents / seconds, 2),
        chunks_per_s=round(stored.chunks / seconds, 2),
        documents_per_s_median=round(median(rates), 2),
    )


async def _remember(pair: Pair, conversation: Conversation) -> None:
    async with MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as client:
        for session_id, turns in conversation.sessions.items():
            await client.append(session_id, turns, user_id=conversation.user_id)
    await until_vectors_filled(pair.memory_url, _FILL_TIMEOUT_S)


async def _measure_calls(pair: Pair, workload: Workload, rounds: int, progress: Progress) -> list[Call]:
    calls: list[Call] = []
    async with (
        Side.of(pair, "JSON", JSON, timeout_s=_CALL_TIMEOUT_S) as text,
        Side.of(pair, "MessagePack", MSGPACK, timeout_s=_CALL_TIMEOUT_S) as packed,
    ):
        await workload.fill_cache(packed.retrieval)
        for name, operation in workload.operations.items():
            samples = await interleaved(
                operation,
                (text, packed),
                rounds=rounds,
                warm_up=_WARM_UP_ROUNDS,
                progress=progress,
                description=name,
            )
            calls += [_call(name, encoding, found) for encoding, found in samples.items()]
            # What was appended is embedded in the background; that must not run into the next operation.
            await until_vectors_filled(pair.memory_url, _FILL_TIMEOUT_S)
    return calls


def _call(operation: str, encoding: str, samples: Samples) -> Call:
    return Call(
        operation=operation,
        encoding=encoding,
        ms=percentiles(samples.ms),
        sent_bytes=round(median(samples.sent)),
        received_bytes=round(median(samples.received)),
    )


def tables_of(results: Results) -> dict[str, Table]:
    return {
        "Start: from spawning both services until both are ready": table_of(
            ("start", "data folder", "seconds"),
            [(str(number), start.data, f"{start.ready_s:.2f}") for number, start in enumerate(results.starts, start=1)],
            texts=2,
        ),
        f"Ingest: one client, batches of {_BATCH_DOCUMENTS}, searchable when answered": _ingest_table(results.ingest),
        f"Calls over HTTP: one client, one call at a time, {results.rounds} rounds": _calls_table(results.calls),
        "Hybrid search: what is not embedding, FAISS or tantivy; medians": _overheads_table(results.overheads),
        f"Hybrid search: {CLIENTS} clients at once": _loads_table(results.loads),
    }


def _ingest_table(ingest: Ingest) -> Table:
    columns = ("documents", "chunks", "seconds", "documents/s", "chunks/s", "documents/s of the median batch")
    numbers = (ingest.seconds, ingest.documents_per_s, ingest.chunks_per_s, ingest.documents_per_s_median)
    row = (f"{ingest.documents:,}", f"{ingest.chunks:,}", *(f"{number:.1f}" for number in numbers))
    return table_of(columns, [row], texts=0)


def _calls_table(calls: Sequence[Call]) -> Table:
    return table_of(
        ("operation", "encoding", "p50 ms", "p90 ms", "p99 ms", "sent bytes", "received bytes"),
        [
            (
                call.operation,
                call.encoding,
                *(f"{ms:.2f}" for ms in (call.ms.p50, call.ms.p90, call.ms.p99)),
                f"{call.sent_bytes:,}",
                f"{call.received_bytes:,}",
            )
            for call in calls
        ],
        texts=2,
    )


def _overheads_table(overheads: Sequence[Overhead]) -> Table:
    return table_of(
        ("queries", "HTTP ms", "took_ms", "work ms", "not work, of took_ms", "not work, of HTTP"),
        [
            (
                each.queries,
                *(f"{ms:.2f}" for ms in (each.http_ms, each.took_ms, each.work_ms)),
                *(f"{share:.1%}" for share in (each.share_of_took, each.share_of_http)),
            )
            for each in overheads
        ],
    )


def _loads_table(loads: Sequence[Load]) -> Table:
    return table_of(
        ("queries", "searches", "searches/s", "p50 ms", "p99 ms"),
        [
            (load.queries, str(load.ms.count), f"{load.searches_per_s:.1f}", f"{load.ms.p50:.2f}", f"{load.ms.p99:.2f}")
            for load in loads
        ],
    )


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=_WARM_UP_DOCUMENTS), default=1000, help="How many to ingest.")
@click.option("--rounds", type=click.IntRange(min=1, max=5000), default=200, help="Samples of each operation.")
@output_options
@data_option
@command
async def main(documents: int, rounds: int, output: Output, data_dir: Path) -> None:
    """Measure start, ingest and latency. The results are also written to benchmarks/results/latency.json."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, documents, rounds, progress)
    output.publish("latency", results, tables_of(results))


if __name__ == "__main__":
    main()
