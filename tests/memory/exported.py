"""What tests of exports and imports share: a memory, its export as bytes, and its facts, put in as rows."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from diptych import MemoryClient
from shared.memory_records import ImportReport
from shared.memory_stream import NDJSON
from tests.harness import RunningMemory

MOMENT = datetime(2026, 3, 1, 10, tzinfo=UTC)


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
    """Two sessions, one of them compacted, four facts, two of which took the place of others, and two judged queries."""
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
    judged = [
        {"session_id": f"{user_id}-b", "id": "t3", "relevance": 2},
        {"kind": "fact", "id": f"{user_id}-f1", "relevance": 0},
    ]
    await client.add_feedback("what was é?", judged, user_id=user_id, comment="é, I think", judged_at=MOMENT)
    await client.add_feedback(
        "and then?", [{"id": "t0", "relevance": "right"}], session_id=f"{user_id}-a", as_of=datetime.now(UTC)
    )


async def put_facts(running: RunningMemory, user_id: str, *, session_id: str) -> None:
    """Two values of one key, and one that came from turns and was corrected."""
    put = running.client.put_fact
    await put(id=f"{user_id}-f0", user_id=user_id, key="x", text="é 0", valid_from=MOMENT, pinned=True)
    await put(id=f"{user_id}-f1", user_id=user_id, key="x", text="é 1", valid_from=MOMENT + timedelta(days=1))
    sources = [{"session_id": session_id, "turn_id": f"t{number}"} for number in (1, 0)]
    await put(id=f"{user_id}-f2", user_id=user_id, text="misspelt", valid_from=MOMENT, sources=sources)
    await running.client.change_fact(f"{user_id}-f2", text="spelt")


async def erase(running: RunningMemory, user_id: str = "u") -> None:
    report = await running.client.forget(user_id=user_id, dry_run=False)
    assert report.verified
