"""Feedback in a memory that is taken along: all of it, only where what it judges is, and never over what was said there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidFields
from shared.memory_records import ImportReport
from tests.harness import RunningMemory, running_memory
from tests.memory.exported import MOMENT, export, fill, joined, lines, take_in


@pytest.fixture
async def records(tmp_path: Path) -> list[dict[str, Any]]:
    async with running_memory(tmp_path / "from") as running:
        await fill(running)
        return lines(await export(running.client))


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    async with running_memory(tmp_path / "to") as running:
        yield running


def judged(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["type"] == "feedback"]


async def take(other: RunningMemory, records: list[dict[str, Any]]) -> ImportReport:
    """With the count that the end should have."""
    whole = [record if record["type"] != "end" else {**record, "feedback": len(judged(records))} for record in records]
    return await take_in(other.client, joined(whole))


def changed(records: list[dict[str, Any]], number: int, **fields: Any) -> list[dict[str, Any]]:
    """Of the feedback, by its place."""
    wanted = judged(records)[number]
    return [{**record, **fields} if record is wanted else record for record in records]


async def test_it_comes_with_its_times_and_without_keys(other: RunningMemory, records: list[dict[str, Any]]) -> None:
    of_user, of_session = judged(records)
    assert (of_user["user_id"], of_user["comment"], of_user["judged_at"]) == ("u", "é, I think", "2026-03-01T10:00:00Z")
    assert (of_session["session_id"], of_session["user_id"], of_session["agent_id"]) == ("u-a", "u", "planner")
    assert records[-1]["feedback"] == 2

    report = await take(other, records)
    again = await take(other, records)

    assert (report.feedback.created, again.feedback.unchanged, again.conflicts) == (2, 2, [])
    assert lines(await export(other.client)) == records
    kept = (await other.client.feedback(user_id="u")).items
    assert [each.judged_at == MOMENT for each in kept] == [True, False]
    # And it goes on: a later judgment of the same query replaces the one that came.
    item = [{"session_id": "u-b", "id": "t3", "relevance": "wrong"}]
    answer = await other.client.add_feedback("what was é?", item, user_id="u")
    assert (answer.status, answer.id) == ("changed", of_user["id"])
    assert (await other.client.check()).clean


@pytest.mark.parametrize(
    ("number", "fields", "message"),
    [
        (0, {"user_id": "v"}, "not here"),
        (0, {"user_id": None}, "of nobody's memory"),
        (1, {"session_id": "u-c"}, "the session 'u-c'"),
        (1, {"user_id": "v"}, "somebody else's"),
        (0, {"id": "TAKEN"}, None),
    ],
)
async def test_what_does_not_fit_is_refused_by_itself(
    other: RunningMemory, records: list[dict[str, Any]], number: int, fields: dict[str, Any], message: str | None
) -> None:
    report = await take(other, changed(records, number, **fields))
    if message is None:
        report, message = await take(other, records), "was judged here already, as 'TAKEN'"

    assert [(each.type, message in each.message) for each in report.conflicts] == [("feedback", True)]
    assert (await other.client.check()).clean


async def test_what_was_said_there_is_not_changed(other: RunningMemory, records: list[dict[str, Any]]) -> None:
    await take(other, records)
    first = judged(records)[0]
    again = [{**first["judgments"][0], "relevance": 0}, *first["judgments"][1:]]
    report = await take(other, changed(records, 0, judgments=again))
    other_id = await take(other, changed(records, 0, query="something else"))

    assert [each.message for each in report.conflicts] == ["it is judged otherwise here"]
    assert [each.message for each in other_id.conflicts] == ["its id is that of other feedback"]
    assert lines(await export(other.client)) == records


async def test_no_more_is_taken_in_than_is_kept(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    async with running_memory(tmp_path / "small", feedback_max=1) as small:
        report = await take(small, records)
        assert (report.feedback.created, report.feedback.refused) == (1, 1)
        assert "feedback_max" in report.conflicts[0].message


async def test_records_come_in_order_and_streams_from_before_there_was_feedback_are_taken(
    other: RunningMemory, records: list[dict[str, Any]]
) -> None:
    facts = [record for record in records if record["type"] == "fact"]
    late = [record for record in records if record["type"] not in {"fact", "end"}] + facts + records[-1:]
    with pytest.raises(InvalidFields, match="facts come before feedback"):
        await take_in(other.client, joined(late))
    session = next(record for record in records if record["type"] == "session")
    with pytest.raises(InvalidFields, match="sessions come before"):
        await take_in(other.client, joined([*records[:-1], session]))
    with pytest.raises(InvalidFields, match="feedback"):
        await take_in(other.client, joined([*records[:-1], {**records[-1], "feedback": 1}]))

    old = [record for record in records if record["type"] != "feedback"]
    del old[-1]["feedback"]
    report = await take_in(other.client, joined(old))
    assert (report.turns.created, report.feedback.created, report.conflicts) == (24, 0, [])
