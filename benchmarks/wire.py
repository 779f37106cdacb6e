"""JSON against MessagePack, the same messages: `python -m benchmarks.wire`.

A running pair is asked for real answers; each message is then encoded and decoded by the product's codec in this process, in turns, so that
a drift of the machine hits both. Shown: bytes, also compressed as a proxy would, and microseconds of one encoding and one decoding, with
the check of every field that decoding is.

Not measured: HTTP around it (benchmarks.latency has both encodings, whole calls).
"""

import gc
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import data_option, read_conversation, read_documents, unseen_queries
from benchmarks.output import Output, output_options
from benchmarks.pair import limited, running_pair, until_vectors_filled
from benchmarks.report import Machine, OtherWork, Percentiles, percentiles, progress_bar, table_of, this_machine
from diptych import MemoryClient, RetrievalClient
from diptych.console import command
from shared.memory_messages import AppendRequest
from shared.retrieval_messages import IngestRequest
from shared.wire import JSON, MSGPACK, decode, encode

_ENCODINGS: Final = {"JSON": JSON, "MessagePack": MSGPACK}
_COLLECTION: Final = "papers"
_TURNS_MIN: Final = 300
_EMBED_TEXTS: Final = 32
_CALL_TIMEOUT_S: Final = 120.0
_FILL_TIMEOUT_S: Final = 600.0
_RUN_TIMEOUT_S: Final = 1800.0
_WARM_UP: Final = 20


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """`compressed_bytes` is by deflate at its default level."""

    encoding: str
    bytes: int
    compressed_bytes: int
    encode_us: Percentiles
    decode_us: Percentiles


class Message(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    encoded: list[Encoded]


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    rounds: int
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class Sample:
    what: str
    message: msgspec.Struct


async def measure(data_dir: Path, documents: int, rounds: int, progress: Progress) -> Wire:
    watch = OtherWork()
    samples = await _samples(data_dir, documents, progress)
    messages = [measured(sample, rounds) for sample in progress.track(samples, description="messages")]
    return Wire(machine=this_machine(watch), rounds=rounds, messages=messages)


async def _samples(data_dir: Path, documents: int, progress: Progress) -> list[Sample]:
    texts, talk = read_documents(data_dir, documents), read_conversation(data_dir, _TURNS_MIN)
    query = next(islice(unseen_queries(data_dir), 1))
    task = progress.add_task("answers of a running pair", total=3)
    with tempfile.TemporaryDirectory(prefix="diptych-wire-") as scratch:
        async with (
            running_pair(Path(scratch)) as pair,
            RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as retrieval,
            MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as memory,
        ):
            await retrieval.ingest(_COLLECTION, texts)
            progress.advance(task)
            for session, turns in talk.sessions.items():
                await memory.append(session, turns, user_id=talk.user_id)
            await until_vectors_filled(pair.memory_url, _FILL_TIMEOUT_S)
            progress.advance(task)
            last = list(talk.sessions)[-1]
            contents = [turn.content for turn in talk.turns[:_EMBED_TEXTS]]
            answers = [
                Sample("answer: 10 hits of a search", await retrieval.search(query, collection=_COLLECTION)),
                Sample("answer: 10 turns recalled", await memory.recall(query, user_id=talk.user_id)),
                Sample(
                    "answer: a context of 2,000 tokens",
                    await memory.context(
                        query, session_id=last, user_id=talk.user_id, collections=[_COLLECTION], max_tokens=2000
                    ),
                ),
                Sample(f"answer: {_EMBED_TEXTS} vectors of 384", await retrieval.embed(contents, kind="document")),
            ]
            progress.advance(task)
    return [
        Sample("request: append 2 turns", AppendRequest(user_id=talk.user_id, turns=talk.turns[:2])),
        Sample("request: ingest 50 documents", IngestRequest(documents=texts[:50])),
        *answers,
    ]


def measured(sample: Sample, rounds: int) -> Message:
    kind = type(sample.message)
    data = {name: encode(sample.message, media) for name, media in _ENCODINGS.items()}
    encode_us: dict[str, list[float]] = {name: [] for name in _ENCODINGS}
    decode_us: dict[str, list[float]] = {name: [] for name in _ENCODINGS}
    # A collection would fall into some of the times, as large as many of them.
    gc.disable()
    for _ in range(_WARM_UP + rounds):
        for name, media in _ENCODINGS.items():
            encode_us[name].append(_spent_us(encode, sample.message, media))
            decode_us[name].append(_spent_us(decode, data[name], media, kind))
    gc.enable()
    return Message(
        what=sample.what,
        encoded=[
            Encoded(
                encoding=name,
                bytes=len(data[name]),
                compressed_bytes=len(zlib.compress(data[name])),
                encode_us=percentiles(encode_us[name][_WARM_UP:]),
                decode_us=percentiles(decode_us[name][_WARM_UP:]),
            )
            for name in _ENCODINGS
        ],
    )


def _spent_us(call: Callable[..., Any], *arguments: Any) -> float:
    started = time.perf_counter()
    call(*arguments)
    return (time.perf_counter() - started) * 1e6


def tables_of(results: Wire) -> dict[str, Table]:
    columns = ("message", "encoding", "bytes", "compressed", "encode p50 µs", "p95", "decode p50 µs", "p95")
    rows = [
        (
            message.what,
            each.encoding,
            f"{each.bytes:,}",
            f"{each.compressed_bytes:,}",
            *(f"{us:,.0f}" for us in (each.encode_us.p50, each.encode_us.p95, each.decode_us.p50, each.decode_us.p95)),
        )
        for message in results.messages
        for each in message.encoded
    ]
    return {f"The same messages in both encodings, {results.rounds:,} times": table_of(columns, rows, texts=2)}


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=50), default=200, help="How many to ingest and search.")
@click.option("--rounds", type=click.IntRange(min=1), default=2000, help="Samples of each.")
@output_options
@data_option
@command
async def main(documents: int, rounds: int, output: Output, data_dir: Path) -> None:
    """Measure both encodings. The results are also written to benchmarks/results/wire.json."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, documents, rounds, progress)
    output.publish("wire", results, tables_of(results))


if __name__ == "__main__":
    main()
