"""Spans are recalled as turns are, once a fold has made them, and are gone with their session."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlite_utils

from memory.truth.schema import migrations
from shared.database import Database
from shared.memory_messages import RecallAnswer
from tests.harness import RunningMemory, until
from tests.memory.test_recall import vectors_filled

START = datetime(2026, 1, 1, tzinfo=UTC)


def said(number: int, text: str) -> dict[str, Any]:
    return {"id": str(number), "role": "user", "content": text, "created_at": START + timedelta(days=number)}


async def remember_and_fold(memory: RunningMemory) -> None:
    """Two sessions of a user, a span each."""
    for session, first, texts in (
        ("hens", 0, ["the hen lays eggs", "eggs are white"]),
        ("cars", 5, ["red cars drive"]),
    ):
        turns = [said(first + place, text) for place, text in enumerate(texts)]
        await memory.client.append(session, turns, user_id="u")
        await memory.client.compact(session, tail_tokens_keep=0)
    await vectors_filled(memory)


def named(answer: RecallAnswer) -> list[tuple[str, str | None]]:
    return [(item.kind, item.session_id) for item in answer.items]


async def test_a_span_is_found_by_words_and_meaning_and_opens_to_its_turns(memory: RunningMemory) -> None:
    await remember_and_fold(memory)

    for mode in ("hybrid", "dense", "lexical"):
        answer = await memory.client.recall("white eggs", user_id="u", kinds=["span"], mode=mode)
        best = answer.items[0]
        assert (best.kind, best.session_id, best.level, best.first_seq, best.last_seq) == ("span", "hens", 0, 1, 2)
        assert (best.seq, best.role, best.before, best.since, best.created_at) == (
            None,
            None,
            None,
            START,
            START + timedelta(days=1),
        )
        assert "the hen lays eggs" in best.text
        assert [turn.id for turn in (await memory.client.span_turns(best.id)).items] == ["0", "1"]


async def test_only_the_kinds_that_are_asked_for_are_recalled(memory: RunningMemory) -> None:
    await remember_and_fold(memory)

    usual = await memory.client.recall("eggs", user_id="u")
    both = await memory.client.recall("eggs", user_id="u", kinds=["turn", "span"], neighbours=1)
    newest = await memory.client.recall(user_id="u", kinds=["span", "turn"])

    assert {item.kind for item in usual.items} == {"turn"}
    assert {("turn", "hens"), ("span", "hens")} <= set(named(both))
    assert all((item.before is None) == (item.kind == "span") for item in both.items)
    assert named(newest) == [("span", "cars"), ("turn", "cars"), ("span", "hens"), ("turn", "hens"), ("turn", "hens")]


async def test_time_and_filters_bound_spans_too(memory: RunningMemory) -> None:
    await remember_and_fold(memory)

    for query in ("eggs and cars", None):
        early = await memory.client.recall(query, user_id="u", kinds=["span"], as_of=START + timedelta(days=1))
        half = await memory.client.recall(query, user_id="u", kinds=["span"], as_of=START)
        late = await memory.client.recall(query, user_id="u", kinds=["span"], since=START + timedelta(days=2))
        tagged = await memory.client.recall(query, user_id="u", kinds=["span"], filter={"tag": "x"})
        untagged = await memory.client.recall(query, user_id="u", kinds=["span"], filter={"tag": {"$exists": False}})
        assert [named(answer) for answer in (early, half, late, tagged)] == [
            [("span", "hens")],
            [],
            [("span", "cars")],
            [],
        ]
        assert len(untagged.items) == 2


async def test_a_fold_moves_nothing_in_the_order_of_turns(memory: RunningMemory) -> None:
    turns = [said(number, f"note {number} of {'eggs' if number % 3 else 'cars'}") for number in range(9)]
    await memory.client.append("s", turns, user_id="u")
    await vectors_filled(memory)
    before = await memory.client.recall("which eggs", user_id="u")

    await memory.client.compact("s", tail_tokens_keep=0)
    await vectors_filled(memory)

    assert await memory.client.recall("which eggs", user_id="u") == before


async def test_the_spans_of_a_session_go_with_it(memory: RunningMemory) -> None:
    await remember_and_fold(memory)
    report = await memory.client.erase_session("hens")

    left = await memory.client.recall("eggs", user_id="u", kinds=["span", "turn"])

    assert (report.turns, report.vectors, report.verified) == (2, 3, True)
    assert {session for _, session in named(left)} <= {"cars"}
    assert (await memory.client.check()).clean


async def test_a_span_without_a_vector_gets_one_without_another_append(memory: RunningMemory) -> None:
    await memory.client.append("s", [said(0, "the hen lays eggs")], user_id="u")
    await vectors_filled(memory)
    await memory.client.compact("s", tail_tokens_keep=0)

    async def is_found() -> bool:
        return bool((await memory.client.recall("eggs", user_id="u", kinds=["span"], mode="dense")).items)

    await until(is_found)


async def test_a_span_that_forgetting_made_anew_gets_its_vector_by_itself(memory: RunningMemory) -> None:
    await memory.client.append("s", [said(number, f"hen {number} lays eggs") for number in range(3)], user_id="u")
    await memory.client.compact("s", tail_tokens_keep=0)
    await vectors_filled(memory)
    [turn] = (await memory.client.turns("s", limit=1)).items
    report = await memory.client.forget(session_id="s", ids=[turn.id], dry_run=False)
    await vectors_filled(memory)

    assert report.spans_remade == 1


def test_spans_from_before_they_could_be_recalled_are_entered(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.apply(sqlite_utils.Database(connection), stop_before="m005_spans_are_recalled")
    connection.execute(
        "INSERT INTO sessions (tenant, session_id, user_id, title, policy, metadata, last_seq, tail_from, created_at, "
        "updated_at) VALUES ('t', 's', 'u', '', '{}', '{}', 0, 1, '', '')"
    )
    connection.execute(
        "INSERT INTO spans (session, span_id, level, first_seq, last_seq, since, until, text, ledger, tokens, source_tokens, "
        "turns, summarizer, source_hash, created_at) VALUES (1, 'x', 0, 1, 1, '', '', 'a', '[]', 1, 1, 1, 'm', x'', '')"
    )
    connection.close()

    database = Database.open(path, migrations, readers=1)
    database.close()

    connection = sqlite3.connect(path)
    entered = connection.execute("SELECT kind, item_kind, item_id, tenant, user_id, session FROM ops").fetchall()
    pending = connection.execute("SELECT item_kind, item_id FROM pending").fetchall()
    connection.close()
    assert (entered, pending) == ([("add", "span", 1, "t", "u", 1)], [("span", 1)])
