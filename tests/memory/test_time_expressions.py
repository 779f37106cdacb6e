"""Times in questions: what people say, against a calendar that is counted day by day; and what only looks like a time."""

import calendar
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.text.time_expressions import TimeRange, find_times

# A Friday.
NOW = datetime(2023, 10, 20, 15, 30, tzinfo=UTC)
OLDEST = datetime(2021, 3, 1, tzinfo=UTC)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS = tuple(name.lower() for name in calendar.month_name[1:])


def read(text: str, *, now: datetime = NOW) -> list[tuple[str | None, str | None]]:
    def day(moment: datetime | None) -> str | None:
        return None if moment is None else moment.date().isoformat()

    return [(day(each.since), day(each.until)) for each in find_times(text, now=now, oldest=OLDEST)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("what did we decide yesterday?", [("2023-10-19", "2023-10-20")]),
        ("the day before yesterday", [("2023-10-18", "2023-10-19")]),
        ("earlier today", [("2023-10-20", "2023-10-21")]),
        ("what was it last night", [("2023-10-19", "2023-10-21")]),
        ("what happened last Tuesday", [("2023-10-17", "2023-10-18")]),
        ("on Friday", [("2023-10-20", "2023-10-21")]),
        ("last Friday", [("2023-10-13", "2023-10-14")]),
        ("last week", [("2023-10-09", "2023-10-16")]),
        ("this week", [("2023-10-16", "2023-10-23")]),
        ("last weekend", [("2023-10-14", "2023-10-16")]),
        ("last month", [("2023-09-01", "2023-10-01")]),
        ("last year", [("2022-01-01", "2023-01-01")]),
        ("two weeks ago", [("2023-10-03", "2023-10-10")]),
        ("a couple of months ago", [("2023-08-06", "2023-09-06")]),
        ("5 days ago", [("2023-10-15", "2023-10-16")]),
        ("over the past three weeks", [("2023-09-29", "2023-10-21")]),
        ("in the last month", [("2023-09-20", "2023-10-21")]),
        ("last summer", [("2023-06-01", "2023-09-01")]),
        ("last winter", [("2022-12-01", "2023-03-01")]),
        ("in the winter of 2021", [("2021-12-01", "2022-03-01")]),
        ("Which did Nate win in the beginning of November 2022?", [("2022-11-01", "2022-11-11")]),
        ("in the last week of October 2023", [("2023-10-25", "2023-11-01")]),
        ("was the first half of September 2022 good", [("2022-09-01", "2022-09-16")]),
        ("in Q3 2023", [("2023-07-01", "2023-10-01")]),
        ("in 2022", [("2022-01-01", "2023-01-01")]),
        ("in late 2022", [("2022-09-01", "2023-01-01")]),
        ("in May", [("2023-05-01", "2023-06-01"), ("2022-05-01", "2022-06-01"), ("2021-05-01", "2021-06-01")]),
        ("since March", [("2023-03-01", None)]),
        ("since last Tuesday", [("2023-10-17", None)]),
        ("before June 2023", [(None, "2023-06-01")]),
        ("by April 9, 2023", [(None, "2023-04-10")]),
        ("until 2022", [(None, "2023-01-01")]),
        ("after July 5, 2023", [("2023-07-06", None)]),
        ("between June and August 2023", [("2023-06-01", "2023-09-01")]),
        ("from May 5, 2023 to May 9, 2023", [("2023-05-05", "2023-05-10")]),
        ("in May 2023 or yesterday", [("2023-05-01", "2023-06-01"), ("2023-10-19", "2023-10-20")]),
        ("2023-05-08", [("2023-05-08", "2023-05-09")]),
        ("the release of 2023-05", [("2023-05-01", "2023-06-01")]),
    ],
)
def test_what_people_say_becomes_the_days_that_they_mean(text: str, expected: list[tuple[str, str]]) -> None:
    assert expected == read(text)


@pytest.mark.parametrize(
    "text",
    [
        "may I ask what you may know",
        "May we go?",
        "we march on the second day",
        "why did the prices fall this quarter's",
        "which spring broke in the mattress",
        "do you have a car",
        "march 2 people forward",
        "port 2022",
        "error 2023",
        "the 31st of April",
        "the 30th of February, 2023",
        "version 3.10.2022",
        "tomorrow or next week",
        "99999 days ago",
        "9999 years ago",
        "Julian and Augusta are friends",
        "",
    ],
)
def test_what_only_looks_like_a_time_is_none(text: str) -> None:
    assert read(text) == []


@given(st.dates(min_value=date(1972, 1, 1), max_value=date(2098, 12, 31)))
def test_a_day_is_read_in_every_way_of_writing_it(day: date) -> None:
    month, following = MONTHS[day.month - 1], (day + timedelta(days=1)).isoformat()
    for text in (
        f"{day.isoformat()}",
        f"on {day.day} {month} {day.year}",
        f"on the {day.day}th of {month}, {day.year}",
        f"On {month.title()} {day.day}, {day.year}?",
        f"{month[:3].title()} {day.day} {day.year}",
    ):
        assert read(text) == [(day.isoformat(), following)], text


@given(st.dates(min_value=date(1972, 1, 1), max_value=date(2098, 12, 31)), st.integers(0, 6))
def test_a_weekday_is_the_latest_such_day(today: date, weekday: int) -> None:
    now = datetime(today.year, today.month, today.day, 9, tzinfo=UTC)
    back = [today - timedelta(days=number) for number in range(15)]

    on = next(day for day in back if day.weekday() == weekday)
    last = next(day for day in back[1:] if day.weekday() == weekday)

    assert read(f"on {WEEKDAYS[weekday]}", now=now)[0][0] == on.isoformat()
    assert read(f"last {WEEKDAYS[weekday]}", now=now)[0][0] == last.isoformat()


@given(st.dates(min_value=date(1972, 1, 1), max_value=date(2098, 12, 31)))
def test_weeks_months_and_years_are_whole(today: date) -> None:
    now = datetime(today.year, today.month, today.day, 9, tzinfo=UTC)
    days = [today - timedelta(days=number) for number in range(800)]

    def span_of(name: str) -> list[date]:
        since, until = read(name, now=now)[0]
        assert since is not None
        assert until is not None
        return [day for day in days if since <= day.isoformat() < until]

    assert span_of("last week") == [
        day for day in days if 0 < (today.toordinal() - 1) // 7 - (day.toordinal() - 1) // 7 < 2
    ]
    month_before = (today.replace(day=1) - timedelta(days=1)).replace(day=1)
    assert span_of("last month") == [day for day in days if day.replace(day=1) == month_before]
    assert span_of("last year") == [day for day in days if day.year == today.year - 1]


def test_days_begin_where_the_asker_is() -> None:
    tokyo = timezone(timedelta(hours=9))
    found = find_times("yesterday", now=datetime(2023, 10, 20, 1, tzinfo=tokyo))

    assert found == [TimeRange("yesterday", datetime(2023, 10, 19, tzinfo=tokyo), datetime(2023, 10, 20, tzinfo=tokyo))]


@given(st.text(max_size=80), st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_no_text_and_no_moment_is_too_odd(text: str, now: datetime, oldest: datetime) -> None:
    for said in (text, f"yesterday in may {text} last winter 3 years ago since 2001"):
        for found in find_times(said, now=now, oldest=oldest):
            assert found.text in said
            assert found.since is None or found.until is None or found.since < found.until
