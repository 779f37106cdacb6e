"""Lists page by key: a cursor is the last key seen, so pages stay right while rows come and go. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    items: list[ItemT]
    next_cursor: str | None


def page_of(found: Sequence[ItemT], limit: int, *, key: Callable[[ItemT], str]) -> Page[ItemT]:
    """`found` holds up to one more than `limit`: that one says that there is a next page, and is not part of this one."""
    items = list(found[:limit])
    return Page(items, key(items[-1]) if len(found) > limit else None)
