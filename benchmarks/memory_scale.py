"""Recall and context over many users' memories: `python -m benchmarks.memory_scale --turns 1000000 --folder DIR`.

Both services run as real processes with the real model. The memory is made: `--users` users with as many turns each, in
sessions of 50, of sentences whose words are as unequally common as real ones. Their vectors are made too and come along in an
import, so nothing is embedded: every path but the model's is the product's. With `--folder` the data stays there, and a run
that was interrupted goes on where it stopped.

Measured, one call at a time by the product's client: the first recall of a user, which builds the user's index, recalls and
contexts of users whose index is there, the size of the database, and how soon memory is ready again. Each query was asked
once before, so its vector is in retrieval's cache: a call to retrieval is in the times, a run of the model is not.

Not measured: quality (the vectors mean nothing), and many callers at once (benchmarks.throughput).
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np
from rich.progress import Progress
from rich.table import Table

from benchmarks.memory_alone import memory_alone
from benchmarks.output import Output, output_options
from benchmarks.pair import running_pair
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import MemoryClient, Policy
from diptych.console import command
from shared.errors import Internal, NotFound
from shared.memory_records import ExportedSession, ExportedTurn, ExportHeader, MemoryRecord
from shared.memory_stream import MemoryStreamWriter
from shared.vectors import Vector
from shared.wire import MSGPACK

_DIMENSIONS: Final = 384
_SESSION_TURNS: Final = 50
_WORDS: Final = 20_000
_WORDS_PER_TURN: Final = 25
_QUERIES: Final = 40
_CONTEXT_TOKENS: Final = 2000
_ASKED_USERS_MAX: Final = 200
_CALL_TIMEOUT_S: Final = 600.0
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryScale(msgspec.Struct, frozen=True, kw_only=True):
    """`fill_s` is of what was not there yet. Recalls and contexts are of users whose index is in memory."""

    machine: Machine
    turns: int
    users: int
    filled: int
    fill_s: float
    first_recall_ms: Percentiles
    recall_ms: Percentiles
    context_ms: Percentiles
    database_mb: float
    restart_s: float


@click.command()
@click.option("--turns", default=100_000, show_default=True, help="Turns over all users.")
@click.option("--users", default=1000, show_default=True, help="Users.")
@click.option("--calls", default=1000, show_default=True, help="Recalls and contexts each.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Where the data is kept for another run."
)
@output_options
@command
async def main(turns: int, users: int, calls: int, folder: Path | None, output: Output) -> None:
    """Measure recall and context over many users' memories."""
    other_work = OtherWork()
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = folder or Path(scratch)
        async with running_pair(data_dir) as pair, MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as client:
            filled, fill_s = await _fill(client, users, turns // users)
            with progress_bar() as progress:
                first, recalls, contexts = await _ask(client, users, turns // users, calls, progress)
        async with memory_alone(data_dir) as again:
            restart_s = again.ready_s
        size = await asyncio.to_thread(_bytes_below, data_dir / "memory")
    results = MemoryScale(
        machine=this_machine(other_work),
        turns=turns,
        users=users,
        filled=filled,
        fill_s=round(fill_s, 1),
        first_recall_ms=percentiles(first),
        recall_ms=percentiles(recalls),
        context_ms=percentiles(contexts),
        database_mb=round(size / 1e6, 1),
        restart_s=restart_s,
    )
    output.publish(f"memory-scale-{turns}", results, tables_of(results))


async def _fill(client: MemoryClient, users: int, turns_each: int) -> tuple[int, float]:
    """One import a user, so that what is there is not sent again. How many turns were sent, and seconds."""
    header = await _header(client)
    sent, started = 0, time.perf_counter()
    with progress_bar() as progress:
        for user in progress.track(range(users), description="filling"):
            if await _is_there(client, _session_id(user, (turns_each - 1) // _SESSION_TURNS)):
                continue
            data = await asyncio.to_thread(_stream, header, user, turns_each)
            report = await client.import_bytes(_parts(data), media=MSGPACK)
            if report.vectors != turns_each:
                raise Internal(f"{report.vectors} of {turns_each} vectors were taken: {report}")
            sent += turns_each
    return sent, time.perf_counter() - started


async def _header(client: MemoryClient) -> ExportHeader:
    """As this server's own exports begin. It knows its model from the first query on."""
    await client.recall("which model", user_id="nobody")
    async for record in client.export_records(user_id="nobody", vectors=True):
        if isinstance(record, ExportHeader) and record.model:
            return record
        break
    raise Internal("memory does not know what vectors are of: is retrieval away?")


async def _is_there(client: MemoryClient, session_id: str) -> bool:
    try:
        await client.session(session_id)
    except NotFound:
        return False
    return True


async def _parts(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _stream(header: ExportHeader, user: int, turns_each: int) -> bytes:
    writer = MemoryStreamWriter(MSGPACK)
    return b"".join(writer.write(record) for record in (header, *_records(user, turns_each))) + writer.end()


def _records(user: int, turns_each: int) -> Iterator[MemoryRecord]:
    chance = np.random.default_rng(user)
    for first in range(0, turns_each, _SESSION_TURNS):
        session, count = _session_id(user, first // _SESSION_TURNS), min(_SESSION_TURNS, turns_each - first)
        vectors = chance.standard_normal((count, _DIMENSIONS), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        moment = _START + timedelta(hours=first)
        yield ExportedSession(
            id=session,
            user_id=_user_id(user),
            policy=Policy(),
            metadata={},
            last_seq=count,
            tail_from=1,
            created_at=moment,
            updated_at=moment,
        )
        for index in range(count):
            said = moment + timedelta(minutes=index)
            yield ExportedTurn(
                session_id=session,
                id=f"{session}-{index}",
                seq=index + 1,
                role="assistant" if index % 2 else "user",
                content=_sentence(chance, _WORDS_PER_TURN),
                created_at=said,
                stored_at=said,
                metadata={},
                vector=Vector(vectors[index]),
            )


def _sentence(chance: np.random.Generator, words: int) -> str:
    """Words by Zipf's law."""
    return " ".join(f"word{rank}" for rank in np.minimum(chance.zipf(1.2, words), _WORDS).tolist())


async def _ask(
    client: MemoryClient, users: int, turns_each: int, calls: int, progress: Progress
) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of first recalls, of recalls and of contexts."""
    chance = np.random.default_rng(7)
    asked = chance.permutation(users)[: min(users, _ASKED_USERS_MAX)].tolist()
    queries = [_sentence(chance, 8) for _ in range(_QUERIES)]
    for query in queries:  # into retrieval's cache
        await client.recall(query, user_id="nobody")
    last = (turns_each - 1) // _SESSION_TURNS

    async def recall(number: int) -> None:
        user = _user_id(asked[number % len(asked)])
        answer = await client.recall(queries[number % _QUERIES], user_id=user)
        if answer.degraded or not answer.items:
            raise Internal(f"the recall of {user} found {len(answer.items)} items, degraded: {answer.degraded}")

    async def context(number: int) -> None:
        user = asked[number % len(asked)]
        answer = await client.context(
            queries[number % _QUERIES],
            user_id=_user_id(user),
            session_id=_session_id(user, last),
            max_tokens=_CONTEXT_TOKENS,
        )
        if answer.degraded or {part.kind for part in answer.parts} < {"recalled", "turn"}:
            raise Internal(f"the context of {_user_id(user)} lacks something, degraded: {answer.degraded}")

    first = await _timed(recall, range(len(asked)), progress, "first recalls")
    recalls = await _timed(recall, range(calls), progress, "recalls")
    return first, recalls, await _timed(context, range(calls), progress, "contexts")


async def _timed(
    call: Callable[[int], Awaitable[None]], numbers: Sequence[int], progress: Progress, description: str
) -> list[float]:
    spent: list[float] = []
    for number in progress.track(numbers, description=description):
        started = time.perf_counter()
        await call(number)
        spent.append((time.perf_counter() - started) * 1000.0)
    return spent


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("memory.db*"))


def _user_id(user: int) -> str:
    return f"user-{user:05}"


def _session_id(user: int, number: int) -> str:
    return f"{_user_id(user)}-{number:05}"


def tables_of(results: MemoryScale) -> dict[str, Table]:
    times = (
        ("first recall of a user", results.first_recall_ms),
        ("recall", results.recall_ms),
        ("context, 2,000 tokens", results.context_ms),
    )
    table = table_of(
        ("ms, query's vector cached", "p50", "p95", "p99"),
        [(what, f"{each.p50:.1f}", f"{each.p95:.1f}", f"{each.p99:.1f}") for what, each in times],
    )
    rest = table_of(
        ("", "value"),
        [
            ("filled", f"{results.filled:,} turns in {results.fill_s:,.0f} s"),
            ("database", f"{results.database_mb:,.0f} MB"),
            ("restart to ready", f"{results.restart_s:.1f} s"),
        ],
    )
    return {f"{results.turns:,} turns of {results.users:,} users": table, "Around it": rest}


if __name__ == "__main__":
    main()
