"""Times that a query names by what happened, and how they move what is recalled."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory.recall.event_times import Event, event_range, find_events
from memory.text.time_expressions import TimeRange, find_times
from tests.harness import running_memory

NOW = datetime(2026, 6, 1, 15, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("what did we eat before the move?", [("before", "the move")]),
        ("How did she feel after her charity race", [("after", "her charity race")]),
        ("what was said since Ada's first road trip to relax", [("since", "Ada's first road trip")]),
        ("who called during the outage and why", [("during", "the outage")]),
        ("it was open till the renovation, was it?", [("until", "the renovation")]),
        ("before the move and after the wedding", [("before", "the move"), ("after", "the wedding")]),
        ("before May", []),
        ("before lunch", []),
        ("after I left", []),
        ("the day before", []),
        ("thereafter the move", []),
    ],
)
def test_events_are_read_with_their_relation(query: str, found: list[tuple[str, str]]) -> None:
    assert [(each.relation, each.name) for each in find_events(query)] == found


def test_what_the_calendar_knows_is_no_event() -> None:
    query = "what happened after the 5th of May and before the move?"
    times = find_times(query, now=NOW)

    assert [each.name for each in find_events(query, times=times)] == ["the move"]


@pytest.mark.parametrize(
    ("relation", "since", "until"),
    [("before", None, 0), ("until", None, 0), ("after", 0, None), ("since", 0, None), ("during", 0, 1)],
)
def test_an_event_bounds_by_the_day_on_which_it_was_told(relation: str, since: int | None, until: int | None) -> None:
    midnight = NOW.replace(hour=0)
    event = Event("x", relation, "the move")  # type: ignore[arg-type]  # one of those that are read

    def day(number: int | None) -> datetime | None:
        return None if number is None else midnight + number * DAY

    assert event_range(event, NOW) == TimeRange("x", day(since), day(until))


async def test_what_was_said_before_or_after_an_event_counts_more(tmp_path: Path) -> None:
    said = ["the rent is 900", "we did the move to Porto today", "the rent is 700"]
    async with running_memory(tmp_path) as running:
        turns = [
            {"role": "user", "content": text, "created_at": NOW + number * 40 * DAY} for number, text in enumerate(said)
        ]
        await running.client.append("s", turns, user_id="u")
        asked = {
            words: await running.client.recall(f"rent {words}", user_id="u", explain=True)
            for words in ("", "before the move", "after the move", "before the flood")
        }

    best = {words: next(item.text for item in answer.items if "rent" in item.text) for words, answer in asked.items()}
    assert best == {
        "": "the rent is 700",
        "before the move": "the rent is 900",
        "after the move": "the rent is 700",
        "before the flood": "the rent is 700",
    }
    plan = asked["before the move"].plan
    assert plan is not None
    assert [(each.text, each.since, each.until) for each in plan.times] == [
        ("before the move", None, (NOW + 40 * DAY).replace(hour=0))
    ]
    assert all(not answer.plan.times for words, answer in asked.items() if "move" not in words and answer.plan)
