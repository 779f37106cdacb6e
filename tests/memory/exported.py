"""What tests of exports and imports share: a memory, its export as bytes, and its facts, put in as rows."""

import sqlite3
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from diptych import MemoryClient
from shared.memory_records import ImportReport
from shared.memory_stream import NDJSON
from tests.harness import RunningMemory

MOMENT = "2026-03-01T10:00:00.000000+00:00"


async def export(client: MemoryClient, user_id: str | None = "u", **options: Any) -> bytes:
    whose = {"everything": True} if user_id is None else {"user_id": user_id}
    return b"".join([part async for part in client.export_bytes(**whose, **options)])


async def take_in(client: MemoryClient, data: bytes, *, media: str = NDJSON, part_bytes: int = 1000) -> ImportReport:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(data), part_bytes):
            yield data[start : start + part_bytes]

    return await client.import_bytes(parts(), media=media)


def lines(data: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in data.splitlines()]


def joined(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


async def fill(running: RunningMemory, user_id: str = "u", *, words: str = "word " * 40) -> None:
    """Two sessions, one of them compacted, and three facts, one of which took the place of another."""
    client = running.client
    for session in ("a", "b"):
        turns = [
            {
                "id": f"t{number}",
                "role": role,
                "content": f"{session}, {role} {number}: {words}",
                "metadata": {"n": number},
            }
            for number, role in enumerate(["user", "assistant"] * 6)
        ]
        await client.append(f"{user_id}-{session}", turns, user_id=user_id, agent_id="planner")
    await client.compact(f"{user_id}-a", tail_tokens_keep=0)
    await put_facts(running, user_id, session_id=f"{user_id}-a")


async def put_facts(running: RunningMemory, user_id: str, *, session_id: str) -> None:
    def unit(connection: sqlite3.Connection) -> None:
        keys = [_put_fact(connection, user_id, f"{user_id}-f{number}", key) for number, key in enumerate("xx")]
        keys.append(_put_fact(connection, user_id, f"{user_id}-f2", None))
        connection.execute("UPDATE facts SET replaced_by = ?, valid_to = ? WHERE id = ?", (keys[1], MOMENT, keys[0]))
        connection.execute(
            "INSERT INTO fact_sources (fact, turn) SELECT ?, t.id FROM turns t JOIN sessions s ON s.id = t.session "
            "WHERE s.session_id = ? AND t.seq <= 2",
            (keys[2], session_id),
        )

    await running.service.store.database.write(unit)


async def erase(running: RunningMemory, user_id: str = "u") -> None:
    for session in (await running.client.sessions(user_id=user_id)).items:
        await running.client.erase_session(session.id)
    await running.service.store.database.write(
        lambda connection: connection.execute("DELETE FROM facts WHERE user_id = ?", (user_id,)).rowcount
    )


def _put_fact(connection: sqlite3.Connection, user_id: str, fact_id: str, key: str | None) -> int:
    found = connection.execute(
        "INSERT INTO facts (tenant, user_id, fact_id, kind, key, text, status, pinned, valid_from, origin, derived, "
        "content_hash, tokens, created_at, updated_at) VALUES "
        "('default', ?, ?, 'fact', ?, ?, 'active', 1, ?, 'caller', ?, ?, 3, ?, ?) RETURNING id",
        (user_id, fact_id, key, f"{fact_id} says é", MOMENT, key is None, bytes(32), MOMENT, MOMENT),
    ).fetchone()
    return int(found[0])
