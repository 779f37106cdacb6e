"""How fast memory takes what is said, durably: `python -m benchmarks.memory_writes`.

Measured, of the memory service as a process of its own, over HTTP on 127.0.0.1, without retrieval:
- one turn at a time, in turns with the same append by the service's own store in this process, and with a bare commit of the
  same row (SQLite, WAL, `synchronous=FULL`, the table and indexes of turns and nothing else), all on the same disk;
- many writers at once, each to a session of its own and all to one, in batches of one and of several turns. Writers wait for
  each answer, which comes after the commit, and cost little (benchmarks/load.py): requests are made beforehand, as MessagePack.
  Sessions are never full, so nothing is compacted meanwhile, but for one longer crowd, whose sessions are as by default;
- an import of `--turns` turns from a stream that lies ready, until its answer, and the export of the same turns.

Not measured: embedding, which happens after the answer (benchmarks.latency has both), and a network.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click
import msgspec
import sqlite_utils
from rich.table import Table

from benchmarks.load import connected, request_bytes, run_clients
from benchmarks.memory_alone import memory_alone
from benchmarks.output import Output, output_options
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import MemoryClient, Policy, SessionSpec, TurnIn
from diptych.console import command
from memory.truth.schema import migrations
from memory.truth.store import Store
from shared.database import Database
from shared.errors import Internal
from shared.memory_messages import AppendRequest
from shared.memory_records import ExportedSession, ExportedTurn, ExportEnd, ExportHeader
from shared.memory_stream import NDJSON, MemoryStreamWriter
from shared.wire import MSGPACK

_WRITERS: Final = 16
_BATCHES: Final = (1, 4, 16)
# Long enough that each session is folded several times.
_FOLDED_REQUESTS: Final = 4
_WARM_UP: Final = 50
_SESSION_TURNS: Final = 100
_SPANS_MAX: Final = 1000
_PART_BYTES: Final = 256 * 1024
# The last record is shorter.
_END_BYTES: Final = 1000
_CALL_TIMEOUT_S: Final = 600.0
_SENTENCE: Final = (
    "we moved the nightly export of invoices to the second replica because the first one was short of memory"
)
_WORDS: Final = _SENTENCE.split(" ")
# Compaction takes the processor from whoever writes, so it has a row of its own.
_NEVER_FULL: Final = Policy(tail_tokens_max=10_000_000)
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class OneTurn(msgspec.Struct, frozen=True, kw_only=True):
    """`append_ms` is over HTTP, `client_ms` the same by the product's Python client, `store_ms` the same without HTTP: the hop
    to the thread that writes, and all rows that an append makes. Ratios are those of medians to that of the bare commit."""

    append_ms: Percentiles
    client_ms: Percentiles
    store_ms: Percentiles
    bare_ms: Percentiles
    append_ratio: float
    store_ratio: float


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """`ms` is of one request. `sessions` is how many were written to, `folded_turns` what was compacted of them by the end."""

    writers: int
    sessions: int
    turns_per_request: int
    turns_per_s: float
    requests_per_s: float
    ms: Percentiles
    folded_turns: int


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    turns: int
    megabytes: float
    seconds: float
    turns_per_s: float


class MemoryWrites(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    one_turn: OneTurn
    crowds: list[Crowd]
    transfers: list[Transfer]


@click.command()
@click.option("--rounds", default=500, show_default=True, help="Appends of one turn, one at a time.")
@click.option("--requests", default=3000, show_default=True, help="Requests of each crowd.")
@click.option("--turns", default=100_000, show_default=True, help="Turns that are imported and exported.")
@output_options
@command
async def main(rounds: int, requests: int, turns: int, output: Output) -> None:
    """Measure how fast memory takes what is said."""
    other_work = OtherWork()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        async with memory_alone(folder) as memory:
            one_turn = await _one_turn(memory.url, folder, rounds)
            crowds = [
                await _crowd(memory.url, requests, sessions=sessions, size=size)
                for size in _BATCHES
                for sessions in (_WRITERS, 1)
            ]
            crowds.append(
                await _crowd(memory.url, _FOLDED_REQUESTS * requests, sessions=_WRITERS, size=1, policy=Policy())
            )
            transfers = await _transfers(memory.url, turns)
    machine = this_machine(other_work)
    results = MemoryWrites(machine=machine, one_turn=one_turn, crowds=crowds, transfers=transfers)
    output.publish("memory-writes", results, tables_of(results))


async def _one_turn(url: str, folder: Path, rounds: int) -> OneTurn:
    append_ms, client_ms, store_ms, bare_ms = list[float](), list[float](), list[float](), list[float]()
    database = await asyncio.to_thread(Database.open, folder / "store.db", migrations, readers=1)
    store = Store(database)
    with closing(_bare_database(folder / "bare.db")) as bare, progress_bar() as progress:
        async with (
            MemoryClient(url, timeout_s=_CALL_TIMEOUT_S, encoding=MSGPACK) as client,
            connected(url) as connection,
        ):
            for number in progress.track(range(_WARM_UP + rounds), description="one turn"):
                request = _append_bytes(url, f"one-{number % 10}", f"raw-{number}", 1)
                append_ms.append(await connection.ask(request))
                turn = _turn(f"client-{number}")
                started = time.perf_counter()
                await client.append(f"one-{number % 10}", [turn], user_id="u")
                client_ms.append((time.perf_counter() - started) * 1000.0)
                own = AppendRequest(user_id="u", turns=[_turn(f"store-{number}")])
                started = time.perf_counter()
                await store.append("default", f"one-{number % 10}", own)
                store_ms.append((time.perf_counter() - started) * 1000.0)
                bare_ms.append(await asyncio.to_thread(_bare_commit, bare, number))
    await asyncio.to_thread(database.close)
    append, by_client, by_store, commit = (
        percentiles(each[_WARM_UP:]) for each in (append_ms, client_ms, store_ms, bare_ms)
    )
    return OneTurn(
        append_ms=append,
        client_ms=by_client,
        store_ms=by_store,
        bare_ms=commit,
        append_ratio=round(append.p50 / commit.p50, 2),
        store_ratio=round(by_store.p50 / commit.p50, 2),
    )


def _bare_database(path: Path) -> sqlite3.Connection:
    """With the schema of the product, of which only turns are written."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    migrations.apply(sqlite_utils.Database(connection))
    connection.execute(
        "INSERT INTO sessions (tenant, session_id, title, policy, metadata, created_at, updated_at) "
        "VALUES ('default', 's', '', '{}', '{}', '', '')"
    )
    return connection


def _bare_commit(connection: sqlite3.Connection, number: int) -> float:
    """Milliseconds."""
    turn, now = _turn(f"bare-{number}"), datetime.now(UTC).isoformat(timespec="microseconds")
    row = (number + 1, turn.id, turn.role, turn.content, now, now, bytes(32))
    started = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO turns (session, seq, turn_id, role, content, created_at, stored_at, metadata, content_hash, tokens) "
        "VALUES (1, ?, ?, ?, ?, ?, ?, '{}', ?, 20)",
        row,
    )
    connection.execute("COMMIT")
    return (time.perf_counter() - started) * 1000.0


async def _crowd(url: str, count: int, *, sessions: int, size: int, policy: Policy = _NEVER_FULL) -> Crowd:
    label = f"crowd-{size}-{sessions}-{policy.tail_tokens_max}"
    names = [f"{label}-{number}" for number in range(sessions)]
    prepared = [_append_bytes(url, names[number % sessions], f"{label}-{number}", size) for number in range(count)]
    warming = [_append_bytes(url, names[0], f"{label}-warm-{number}", size) for number in range(_WARM_UP)]
    async with MemoryClient(url) as client:
        for name in names:
            await client.put_session(name, SessionSpec(policy=policy))
        await run_clients(url, warming, clients=4)
        spent_ms, seconds = await run_clients(url, prepared, clients=_WRITERS)
        folded = [await _folded(client, name) for name in names]
    return Crowd(
        writers=_WRITERS,
        sessions=sessions,
        turns_per_request=size,
        turns_per_s=round(count * size / seconds, 1),
        requests_per_s=round(count / seconds, 1),
        ms=percentiles(spent_ms),
        folded_turns=sum(folded),
    )


async def _folded(client: MemoryClient, session: str) -> int:
    """Turns are folded from the first on."""
    spans = await client.spans(session, limit=_SPANS_MAX)
    return max((span.last_seq for span in spans.items), default=0)


async def _transfers(url: str, turns: int) -> list[Transfer]:
    data = await asyncio.to_thread(lambda: b"".join(_stream(turns)))

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), _PART_BYTES):
            yield data[start : start + _PART_BYTES]

    found: list[Transfer] = []
    async with MemoryClient(url, timeout_s=_CALL_TIMEOUT_S) as client:
        for what in ("import", "the same again"):
            started = time.perf_counter()
            report = await client.import_bytes(parts())
            found.append(_transfer(what, turns, len(data), time.perf_counter() - started))
            if report.turns.created + report.turns.unchanged != turns:
                raise Internal(f"{report.turns} of {turns} turns were imported")
        started = time.perf_counter()
        size, last = 0, b""
        async for part in client.export_bytes(everything=True):  # with what was appended before
            size, last = size + len(part), last[-_END_BYTES:] + part
        seconds = time.perf_counter() - started
        end = msgspec.json.decode(last.splitlines()[-1], type=ExportEnd)
        found.append(_transfer("export", end.turns, size, seconds))
    return found


def _transfer(what: str, turns: int, size: int, seconds: float) -> Transfer:
    return Transfer(
        what=what,
        turns=turns,
        megabytes=round(size / 1e6, 1),
        seconds=round(seconds, 2),
        turns_per_s=round(turns / seconds, 1),
    )


def _stream(turns: int) -> Iterator[bytes]:
    writer = MemoryStreamWriter(NDJSON)
    yield writer.write(ExportHeader(version=1))
    for number in range(0, turns, _SESSION_TURNS):
        session, count = f"import-{number:09}", min(_SESSION_TURNS, turns - number)
        yield writer.write(
            ExportedSession(
                id=session,
                user_id=f"user-{number // _SESSION_TURNS % 100}",
                policy=Policy(),
                metadata={},
                last_seq=count,
                tail_from=1,
                created_at=_START,
                updated_at=_START,
            )
        )
        for seq in range(1, count + 1):
            turn, moment = _turn(f"{session}-{seq}"), _START + timedelta(seconds=number + seq)
            yield writer.write(
                ExportedTurn(
                    session_id=session,
                    id=turn.id or "",
                    seq=seq,
                    role=turn.role,
                    content=turn.content,
                    created_at=moment,
                    stored_at=moment,
                    metadata={},
                )
            )
    yield writer.end()


def _append_bytes(url: str, session: str, label: str, size: int) -> bytes:
    request = AppendRequest(user_id="u", turns=[_turn(f"{label}-{index}") for index in range(size)])
    return request_bytes(url, f"/v1/sessions/{session}/turns", request)


def _turn(turn_id: str) -> TurnIn:
    """A sentence of 20 words or so, another one for each id."""
    shift = sum(turn_id.encode()) % len(_WORDS)
    return TurnIn(id=turn_id, role="user", content=f"{turn_id} {' '.join(_WORDS[shift:] + _WORDS[:shift])}")


def tables_of(results: MemoryWrites) -> dict[str, Table]:
    one = results.one_turn
    rows = [
        ("append over HTTP", one.append_ms),
        ("append by the Python client", one.client_ms),
        ("append by the store, without HTTP", one.store_ms),
        ("bare commit of the row", one.bare_ms),
    ]
    single = table_of(
        ("one turn at a time, ms", "p50", "p95", "p99"),
        [(what, *(f"{number:.2f}" for number in (each.p50, each.p95, each.p99))) for what, each in rows],
    )
    crowds = table_of(
        ("writers", "sessions", "turns a request", "folded", "turns/s", "requests/s", "p50 ms", "p99 ms"),
        [
            (
                str(each.writers),
                str(each.sessions),
                str(each.turns_per_request),
                f"{each.folded_turns:,}",
                f"{each.turns_per_s:,.0f}",
                f"{each.requests_per_s:,.0f}",
                f"{each.ms.p50:.1f}",
                f"{each.ms.p99:.1f}",
            )
            for each in results.crowds
        ],
        texts=0,
    )
    transfers = table_of(
        ("of a whole memory", "turns", "MB", "s", "turns/s"),
        [
            (each.what, f"{each.turns:,}", f"{each.megabytes:.1f}", f"{each.seconds:.2f}", f"{each.turns_per_s:,.0f}")
            for each in results.transfers
        ],
    )
    return {
        f"One turn: {one.append_ratio} x the bare commit, without HTTP {one.store_ratio} x": single,
        "Many writers": crowds,
        "Import and export": transfers,
    }


if __name__ == "__main__":
    main()
