"""Sessions and turns: append-only, in order, exactly once, and erased when asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from diptych import Policy, SessionSpec
from shared.errors import Conflict, InvalidFields, NotFound
from tests.harness import RunningMemory, raw_session, running_memory


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    """Memory without any retrieval."""
    async with running_memory(tmp_path) as running:
        yield running


def said(*texts: str, first: int = 1) -> list[dict[str, str]]:
    return [{"id": f"t{number}", "role": "user", "content": text} for number, text in enumerate(texts, start=first)]


async def test_turns_come_back_in_order_as_they_were_sent(alone: RunningMemory) -> None:
    turns: list[dict[str, Any]] = [
        {
            "id": "a",
            "role": "user",
            "content": "hé\n",
            "created_at": "2026-03-01T10:00:00+02:00",
            "metadata": {"k": [1]},
        },
        {"id": "b", "role": "tool", "content": "", "name": "grep"},
        {"role": "assistant", "content": "done"},
    ]
    answer = await alone.client.append("s", turns, user_id="u")

    assert [(each.id, each.seq, each.status) for each in answer.turns[:2]] == [("a", 1, "stored"), ("b", 2, "stored")]
    page = await alone.client.turns("s")
    assert [(each.id, each.content, each.name) for each in page.items[:2]] == [("a", "hé\n", None), ("b", "", "grep")]
    assert page.items[0].created_at.isoformat() == "2026-03-01T08:00:00+00:00"
    assert page.items[0].metadata == {"k": [1]}
    assert answer.compaction == "none"
    assert answer.tail_tokens == sum(each.tokens for each in page.items)


async def test_turns_are_read_page_by_page_and_between_numbers(alone: RunningMemory) -> None:
    await alone.client.append("s", said(*(f"text {number}" for number in range(1, 10))), user_id="u")

    first = await alone.client.turns("s", limit=4)
    second = await alone.client.turns("s", limit=4, cursor=first.next_cursor)
    third = await alone.client.turns("s", limit=4, cursor=second.next_cursor)

    assert [turn.seq for turn in first.items] == [1, 2, 3, 4]
    assert [turn.seq for turn in second.items] == [5, 6, 7, 8]
    assert ([turn.seq for turn in third.items], third.next_cursor) == ([9], None)
    assert [turn.seq for turn in (await alone.client.turns("s", after=3, before=6)).items] == [4, 5]
    with pytest.raises(InvalidFields, match=r"query\.cursor"):
        await alone.client.turns("s", cursor="x")


async def test_the_same_batch_again_stores_nothing(alone: RunningMemory) -> None:
    first = await alone.client.append("s", said("one", "two"), user_id="u")
    again = await alone.client.append(
        "s", [*said("one", "two"), {"id": "t3", "role": "user", "content": "three"}], user_id="u"
    )

    assert [turn.status for turn in again.turns] == ["duplicate", "duplicate", "stored"]
    assert [turn.seq for turn in first.turns] == [turn.seq for turn in again.turns[:2]]
    assert (await alone.client.session("s")).turns == 3


async def test_an_id_with_other_content_is_a_conflict_and_the_batch_changes_nothing(alone: RunningMemory) -> None:
    await alone.client.append("s", said("one"), user_id="u")

    with pytest.raises(Conflict) as caught:
        await alone.client.append(
            "s",
            [{"id": "new", "role": "user", "content": "x"}, {"id": "t1", "role": "user", "content": "other"}],
            user_id="u",
        )

    assert [error.path for error in caught.value.errors] == ["$.turns[1].id"]
    assert [turn.id for turn in (await alone.client.turns("s")).items] == ["t1"]


async def test_a_session_with_turns_does_not_change_hands(alone: RunningMemory) -> None:
    await alone.client.put_session("s", SessionSpec(user_id="ada"))
    await alone.client.put_session("s", SessionSpec(user_id="bob"))
    await alone.client.append("s", said("one"))

    with pytest.raises(Conflict):
        await alone.client.put_session("s", SessionSpec(user_id="ada"))
    with pytest.raises(Conflict):
        await alone.client.append("s", said("two", first=2), user_id="ada")

    assert ((await alone.client.session("s")).user_id, (await alone.client.session("s")).turns) == ("bob", 1)


async def test_a_session_keeps_what_is_put_and_not_mentioned_again(alone: RunningMemory) -> None:
    policy = Policy(tail_tokens_max=1000, tail_tokens_keep=500)
    await alone.client.put_session("s", SessionSpec(title="T", policy=policy, metadata={"a": 1}, agent_id="bot"))

    session = await alone.client.put_session("s", SessionSpec(title="New"))

    assert ("New", policy, {"a": 1}, "bot") == (session.title, session.policy, session.metadata, session.agent_id)
    with pytest.raises(InvalidFields, match="tail_tokens_keep"):
        await alone.client.put_session("s", SessionSpec(policy=Policy(tail_tokens_max=300, tail_tokens_keep=400)))


async def test_sessions_are_listed_for_somebody(alone: RunningMemory) -> None:
    for name, user, agent in (("a", "ada", "x"), ("b", "bob", "x"), ("c", "ada", "y")):
        await alone.client.put_session(name, SessionSpec(user_id=user, agent_id=agent))

    assert [each.id for each in (await alone.client.sessions(user_id="ada")).items] == ["a", "c"]
    assert [each.id for each in (await alone.client.sessions(agent_id="x")).items] == ["a", "b"]
    assert [each.id for each in (await alone.client.sessions(user_id="ada", agent_id="x")).items] == ["a"]
    page = await alone.client.sessions(user_id="ada", limit=1)
    assert [
        each.id for each in (await alone.client.sessions(user_id="ada", limit=1, cursor=page.next_cursor)).items
    ] == ["c"]
    with pytest.raises(InvalidFields, match="never for everybody"):
        await alone.client.sessions()


async def test_concurrent_batches_are_neither_lost_nor_interleaved(alone: RunningMemory) -> None:
    batches = [
        [{"id": f"{writer}-{number}", "role": "user", "content": f"{writer} {number}"} for number in range(5)]
        for writer in range(20)
    ]
    await asyncio.gather(*(alone.client.append("s", batch, user_id="u") for batch in batches * 2))

    turns = (await alone.client.turns("s", limit=1000)).items

    assert list(range(1, 101)) == [turn.seq for turn in turns]
    groups = [[turn.id for turn in turns[start : start + 5]] for start in range(0, 100, 5)]
    assert sorted([turn["id"] for turn in batch] for batch in batches) == sorted(groups)
    assert (await alone.client.check()).clean


async def test_erasing_a_session_leaves_nothing_and_says_what_went(alone: RunningMemory) -> None:
    await alone.client.append("s", said("secret one", "secret two"), user_id="u")
    await alone.client.append("other", said("kept"), user_id="u")
    assert (
        len((await alone.client.recall("secret kept", user_id="u")).items)
        + len((await alone.client.recall("nothing", user_id="u")).items)
        == 3
    )

    report = await alone.client.erase_session("s")

    assert (report.turns, report.spans_remade, report.facts, report.vectors, report.verified) == (2, 0, 0, 0, True)
    with pytest.raises(NotFound):
        await alone.client.turns("s")
    assert [item.text for item in (await alone.client.recall("secret kept", user_id="u")).items] == ["kept"]
    assert (await alone.client.check()).clean
    again = await alone.client.append("s", said("fresh"), user_id="u")
    assert (again.turns[0].seq, again.turns[0].status) == (1, "stored")


async def test_what_was_acknowledged_is_there_after_a_restart(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.append("s", said("one", "two"), user_id="u")
    async with running_memory(tmp_path) as running:
        assert [turn.content for turn in (await running.client.turns("s")).items] == ["one", "two"]
        assert [item.text for item in (await running.client.recall("two", user_id="u", limit=1)).items] == ["two"]
        assert (await running.client.check()).clean


@pytest.mark.parametrize(
    ("turns", "path"),
    [
        ([], "$.turns"),
        ([{"role": "robot", "content": "x"}], "$.turns[0].role"),
        ([{"role": "user"}], "$.turns[0].content"),
        ([{"role": "user", "content": "a\x00b"}], "$.turns[0].content"),
        ([{"role": "user", "content": "x", "id": ""}], "$.turns[0].id"),
        ([{"role": "user", "content": "x", "id": "i" * 257}], "$.turns[0].id"),
        ([{"role": "user", "content": "x", "created_at": "2026-01-01T00:00:00"}], "$.turns[0].created_at"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": "x" * 1_000_001}], "$.turns[1].content"),
        (
            [{"role": "user", "content": "x", "metadata": {"deep": [[[[[[[[1]]]]]]]]}}],
            "$.turns[0].metadata.deep[0][0][0][0][0][0][0]",
        ),
        ([{"role": "user", "content": "x", "metadata": {"big": "y" * 20_000}}], "$.turns[0].metadata"),
    ],
)
async def test_a_bad_batch_is_refused_by_field_and_makes_no_session(
    alone: RunningMemory, turns: list[dict[str, Any]], path: str
) -> None:
    async with (
        raw_session(alone.url) as session,
        session.post("/v1/sessions/s/turns", json={"turns": turns}) as response,
    ):
        problem = await response.json(content_type=None)

    assert (422, path) == (response.status, problem["errors"][0]["path"])
    with pytest.raises(NotFound):
        await alone.client.session("s")
