"""Recall over the wire: filters on metadata, what a question says beside its words, and vectors of an older text."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidFields
from shared.memory_messages import RecallAnswer
from tests.harness import RunningMemory, running_memory, running_retrieval, until


def texts(answer: RecallAnswer) -> list[str]:
    return [item.text for item in answer.items]


async def remember(memory: RunningMemory, *turns: dict[str, Any], session: str = "s") -> None:
    await memory.client.append(session, [{"role": "user", **turn} for turn in turns], user_id="u")


async def vectors_filled(memory: RunningMemory) -> None:
    async def nothing_pending() -> bool:
        return (await memory.client.check()).checked["pending"] == 0

    await until(nothing_pending)


async def test_a_filter_is_over_the_metadata_of_turns_with_a_query_and_without(memory: RunningMemory) -> None:
    await remember(
        memory,
        {"content": "the first plan", "metadata": {"channel": "mail", "tags": ["x"]}},
        {"content": "the second plan", "metadata": {"channel": "chat"}},
        {"content": "the third plan"},
    )
    await vectors_filled(memory)

    for mode in ("hybrid", "dense", "lexical"):
        found = await memory.client.recall("plan", user_id="u", filter={"channel": {"$exists": True}}, mode=mode)
        assert set(texts(found)) == {"the first plan", "the second plan"}
    by_time = await memory.client.recall(user_id="u", filter={"channel": {"$ne": "mail"}}, limit=1)
    tagged = await memory.client.recall(user_id="u", filter={"tags": {"$contains": "x"}})
    nothing = await memory.client.recall("plan", user_id="u", filter={"channel": "fax"})

    assert texts(by_time) == ["the third plan"]
    assert texts(tagged) == ["the first plan"]
    assert texts(nothing) == []
    for query in ("plan", None):
        with pytest.raises(InvalidFields, match=r"\$\.filter\.channel\.\$like"):
            await memory.client.recall(query, user_id="u", filter={"channel": {"$like": "m%"}})


async def test_a_plan_says_what_was_understood_of_the_query(memory: RunningMemory) -> None:
    await remember(
        memory,
        {"content": "we went to the lake", "name": "Caroline", "created_at": "2023-05-08T10:00:00Z"},
        {"content": "we went to the hills", "name": "Melanie", "created_at": "2023-06-08T10:00:00Z"},
    )

    answer = await memory.client.recall(
        "where did Caroline go yesterday, and what did I do in May?",
        user_id="u",
        as_of=datetime(2023, 6, 10, tzinfo=UTC),
        explain=True,
    )

    assert answer.plan is not None
    assert answer.plan.speakers == ["Caroline", "user"]
    assert [
        (each.text, each.since and each.since.day, each.until and each.until.day) for each in answer.plan.times
    ] == [
        ("yesterday", 9, 10),
        ("May", 1, 1),
    ]


async def test_a_time_in_the_query_moves_turns_up_and_hides_none(memory: RunningMemory) -> None:
    days = ("2023-05-08", "2023-06-08", "2023-07-08")
    await remember(memory, *({"content": "went to the lake", "created_at": f"{day}T10:00:00Z"} for day in days))
    await vectors_filled(memory)

    for query, first in (("who went to the lake in june 2023", 6), ("went to the lake two months ago", 5)):
        answer = await memory.client.recall(query, user_id="u", as_of=datetime(2023, 7, 9, tzinfo=UTC))
        assert answer.items[0].created_at.month == first
        assert len(answer.items) == 3


async def test_whose_turn_is_asked_for_decides_among_equals(memory: RunningMemory) -> None:
    for name in ("Caroline", "Melanie"):
        await remember(memory, {"content": "I painted a sunrise", "name": name}, session=name)
    await vectors_filled(memory)

    for name in ("Caroline", "Melanie"):
        answer = await memory.client.recall(f"what did {name} paint", user_id="u")
        assert answer.items[0].name == name


async def test_vectors_of_an_older_text_serve_until_new_ones_are_made(tmp_path: Path) -> None:
    async with (
        running_retrieval(tmp_path / "r") as retrieval,
        running_memory(tmp_path / "m", retrieval_url=retrieval.url) as memory,
    ):
        await remember(memory, {"content": "alpha"}, {"content": "beta"})
        await vectors_filled(memory)
        database = memory.settings.directory / "memory.db"

    before = await asyncio.to_thread(_vectors, database)
    await asyncio.to_thread(_make_older, database)

    async with running_memory(tmp_path / "m") as memory:
        counted = (await memory.client.check()).checked
        assert (counted["pending"], counted["vectors"]) == (2, 2)

    async with (
        running_retrieval(tmp_path / "r") as retrieval,
        running_memory(tmp_path / "m", retrieval_url=retrieval.url) as memory,
    ):
        await vectors_filled(memory)
        answer = await memory.client.recall("alpha", user_id="u", mode="dense", limit=1)
        assert texts(answer) == ["alpha"]
        assert (await memory.client.check()).clean

    assert before == await asyncio.to_thread(_vectors, database)


def _vectors(database: Path) -> dict[int, bytes]:
    with closing(sqlite3.connect(database)) as connection:
        return dict(connection.execute("SELECT item_id, vector FROM vectors"))


def _make_older(database: Path) -> None:
    """As if the model had read another text."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO state (name, value) VALUES ('embed_text', 'older')")
        connection.execute("UPDATE vectors SET vector = zeroblob(length(vector))")
