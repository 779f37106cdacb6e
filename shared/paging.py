"""Lists page by key: a cursor is the last key seen, so pages stay right while rows come and go. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.errors import invalid

ItemT = TypeVar("ItemT")


# More digits than any number that was given out.
_DIGITS_MAX = 18


def number_of(cursor: str) -> int:
    """A cursor of a list that is ordered by a number. Raises InvalidFields for one that no page gave."""
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _DIGITS_MAX):
        raise invalid("query.cursor", "not a cursor of this list")
    return int(cursor)


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    items: list[ItemT]
    next_cursor: str | None


def page_of(found: Sequence[ItemT], limit: int, *, key: Callable[[ItemT], str]) -> Page[ItemT]:
    """`found` holds up to one more than `limit`: that one says that there is a next page, and is not part of this one."""
    items = list(found[:limit])
    return Page(items, key(items[-1]) if len(found) > limit else None)


def numbered_page(found: Sequence[tuple[int, ItemT]], limit: int) -> Page[ItemT]:
    """As `page_of`, of items beside the numbers that order them; for `number_of`."""
    page = page_of(found, limit, key=lambda numbered: str(numbered[0]))
    return Page([item for _, item in page.items], page.next_cursor)
