"""What goes into SQL and comes out of it in one form everywhere: lists of keys, moments, and the key of a new row. Pure."""

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec


def listed(values: Iterable[object]) -> str:
    """For `json_each`, so that a statement takes any number of them."""
    return msgspec.json.encode(list(values)).decode()


def now_stored() -> str:
    """In UTC and of one length, so that moments sort as texts."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def inserted_key(cursor: sqlite3.Cursor) -> int:
    """The key of the row that an INSERT has just made."""
    if cursor.lastrowid is None:  # an INSERT that did not raise has one
        raise AssertionError(cursor)
    return cursor.lastrowid


def stored_time(moment: datetime | None) -> str | None:
    """Times are stored in UTC with microseconds always, so that their texts sort as they do."""
    if moment is None:
        return None
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:  # the first or last day of the calendar, in a zone beyond it
        edge = datetime.min if moment.year == 1 else datetime.max  # noqa: DTZ901 - the zone is added below
        return edge.replace(tzinfo=UTC).isoformat(timespec="microseconds")
