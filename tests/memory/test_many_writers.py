"""Many agents at once: nothing lost, nothing twice, nothing torn apart, and an answer only for what is durable."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from diptych import MemoryClient
from shared.database import Database
from shared.errors import Conflict
from shared.memory_messages import Turn
from tests.harness import WAIT_S, RunningMemory, running_memory, until

_REPLICAS = 2
_WRITERS = 8
_BATCHES = 12


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    """Memory without any retrieval."""
    async with running_memory(tmp_path) as running:
        yield running


def batch(writer: str, number: int, size: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{writer}.{number}.{index}", "role": "user", "content": f"{writer} {number} {index}"}
        for index in range(size)
    ]


async def all_turns(client: MemoryClient, session: str) -> list[Turn]:
    found: list[Turn] = []
    cursor = None
    while True:
        page = await client.turns(session, limit=100, cursor=cursor)
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found


async def write(url: str, session: str, writer: str, sizes: list[int]) -> list[list[tuple[str, int]]]:
    """A client of its own, with connections of its own. What it was told of each batch."""
    async with MemoryClient(url, timeout_s=WAIT_S) as client:
        told = []
        for number, size in enumerate(sizes):
            answer = await client.append(session, batch(writer, number, size), user_id="u")
            told.append([(turn.id, turn.seq) for turn in answer.turns])
        return told


async def test_writers_to_one_session_neither_lose_nor_interleave_a_batch(alone: RunningMemory) -> None:
    sizes = {f"w{writer}": [1 + (writer + 3 * number) % 9 for number in range(_BATCHES)] for writer in range(_WRITERS)}

    told = await asyncio.gather(*(write(alone.url, "s", writer, given) for writer, given in sizes.items()))

    turns = await all_turns(alone.client, "s")
    assert [turn.seq for turn in turns] == list(range(1, sum(map(sum, sizes.values())) + 1))
    assert {(turn.id, turn.seq) for turn in turns} == {each for writer in told for one in writer for each in one}
    for writer in told:
        firsts = [one[0][1] for one in writer]
        assert firsts == sorted(firsts), "a writer's batches stand in the order in which it sent them"
        for one in writer:
            assert [seq for _, seq in one] == list(range(one[0][1], one[0][1] + len(one))), (
                "a batch stands in one piece"
            )
    assert (await alone.client.check()).clean


async def test_two_replicas_of_an_agent_that_send_the_same_turns_store_them_once(alone: RunningMemory) -> None:
    told = await asyncio.gather(*(write(alone.url, "s", "agent", [3] * _BATCHES) for _ in range(_REPLICAS)))

    assert told[0] == told[1]
    turns = await all_turns(alone.client, "s")
    assert [(turn.id, turn.seq) for turn in turns] == [each for one in told[0] for each in one]
    assert len(turns) == 3 * _BATCHES
    assert (await alone.client.check()).clean


async def test_a_batch_that_was_partly_there_is_completed_in_order(alone: RunningMemory) -> None:
    await alone.client.append("s", batch("a", 0, 2), user_id="u")
    answer = await alone.client.append("s", batch("a", 0, 4), user_id="u")

    assert [(turn.seq, turn.status) for turn in answer.turns] == [
        (1, "duplicate"), (2, "duplicate"), (3, "stored"), (4, "stored")
    ]  # fmt: skip


async def test_a_batch_that_conflicts_leaves_nothing_and_harms_no_other(alone: RunningMemory) -> None:
    await alone.client.append("s", [{"id": "taken", "role": "user", "content": "mine"}], user_id="u")
    conflicting = [*batch("bad", 0, 3), {"id": "taken", "role": "user", "content": "not mine"}]

    outcomes = await asyncio.gather(
        *(alone.client.append("s", batch("good", number, 3), user_id="u") for number in range(8)),
        *(alone.client.append("s", conflicting, user_id="u") for _ in range(8)),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes[8:]] == [Conflict] * 8
    turns = await all_turns(alone.client, "s")
    assert [turn.seq for turn in turns] == list(range(1, 26))
    assert not [turn.id for turn in turns if turn.id.startswith("bad")]


async def all_wait(database: Database, count: int) -> bool:
    return database._queue.qsize() == count


async def test_appends_that_wait_together_share_a_commit(alone: RunningMemory) -> None:
    """And each can be read from the file by anybody, the moment that it is answered."""
    database = alone.service.store.database
    before = database.commits

    def is_in_file(turn_id: str) -> bool:
        with closing(sqlite3.connect(f"file:{alone.settings.directory}/memory.db?mode=ro", uri=True)) as other:
            return other.execute("SELECT 1 FROM turns WHERE turn_id = ?", (turn_id,)).fetchone() is not None

    async def append_and_look(writer: int) -> bool:
        answer = await alone.client.append(f"s{writer}", batch("a", writer, 1), user_id="u")
        return await asyncio.to_thread(is_in_file, answer.turns[0].id)

    # The writer is held for as long as it takes all of them to queue.
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    held = asyncio.create_task(
        database.write(lambda _: asyncio.run_coroutine_threadsafe(release.wait(), loop).result(WAIT_S))
    )
    looks = [asyncio.create_task(append_and_look(writer)) for writer in range(16)]
    await until(lambda: all_wait(database, len(looks)))
    release.set()

    assert all(await asyncio.gather(*looks))
    await held
    assert database.commits - before == 2
