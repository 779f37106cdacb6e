"""Rows of vectors with the ids of their chunks: what the dense index scans.

`Rows` never changes, so any number of searches read it without a lock. `GrowingRows` is where one writer appends and
strikes out, publishing a new `Rows` after each change: appended rows lie beyond what earlier ones see, and striking out
copies the flags. The latest row of an id is the only one that can be live.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retrieval.indexes.kernels import Codes, Int64Array

BoolArray = NDArray[np.bool_]

_CAPACITY_MIN: Final = 16
# numpy may copy rows without letting the interpreter go; a piece of 1,000 takes less than a millisecond.
_COPIED_ROWS: Final = 1000
# From this share on, one pass over all rows is quicker than a binary search for each of the wanted.
_MANY_SHARE: Final = 1 / 32
# A table of this many times the rows is still small beside the vectors.
_TABLE_TIMES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Rows:
    """`codes` has shape (rows, d); `live` says which rows count; `order` sorts `ids`, None where they ascend."""

    ids: Int64Array
    codes: Codes
    live: BoolArray
    dead: int
    order: Int64Array | None
    sorted_ids: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sorted_ids", self.ids if self.order is None else self.ids[self.order])

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def living(self) -> int:
        return len(self.ids) - self.dead

    def find(self, ids: Int64Array) -> Int64Array:
        """The live row of each id, -1 where it has none."""
        if not len(self.ids):
            return np.full(len(ids), -1, dtype=np.int64)
        # The last of equal ids: an id that came twice lives in its latest row.
        places = np.searchsorted(self.sorted_ids, ids, side="right") - 1
        rows = places if self.order is None else self.order[places]
        is_here = (places >= 0) & (self.ids[rows] == ids) & self.live[rows]
        return np.where(is_here, rows, -1)

    def rows_of(self, ids: Int64Array) -> Int64Array:
        """Live rows of the given ids, which ascend; those that are not here are left out."""
        if len(ids) >= _MANY_SHARE * len(self.ids) > 0 and self.order is None:
            first, span = int(self.ids[0]), int(self.ids[-1] - self.ids[0]) + 1
            if span <= _TABLE_TIMES_MAX * len(self.ids):
                wanted = np.zeros(span, dtype=np.bool_)
                begin, end = np.searchsorted(ids, (first, first + span))
                wanted[ids[begin:end] - first] = True
                return np.flatnonzero(wanted[self.ids - first] & self.live)
        rows = self.find(ids)
        return rows[rows >= 0]

    def alive(self, rows: Int64Array) -> Int64Array:
        return rows if not self.dead else rows[self.live[rows]]

    def living_rows(self) -> Int64Array:
        return np.flatnonzero(self.live)


class GrowingRows:
    """Owned by one writer at a time."""

    def __init__(self, dimensions: int, dtype: type[np.floating[Any]], *, capacity: int = 0) -> None:
        capacity = max(capacity, _CAPACITY_MIN)
        self._ids = np.empty(capacity, dtype=np.int64)
        self._codes: Codes = np.empty((capacity, dimensions), dtype=dtype)
        self._live = np.ones(capacity, dtype=np.bool_)
        self._count = 0
        self._dead = 0
        self._ascending = True

    def rows(self) -> Rows:
        """As it is now; later changes do not show in it."""
        ids = self._ids[: self._count]
        order = None if self._ascending else np.argsort(ids, kind="stable")
        return Rows(ids, self._codes[: self._count], self._live[: self._count], self._dead, order)

    def append(self, ids: Int64Array, codes: Codes, rows: Int64Array | None = None) -> None:
        """Takes in `codes`, or the chosen rows of it, one for each id."""
        start, stop = self._count, self._count + len(ids)
        if stop > len(self._ids):
            self._grow(stop)
        self._ids[start:stop] = ids
        _copy(codes, self._codes[start:stop], rows)
        last = self._ids[start - 1] if start else -1
        self._ascending &= bool(len(ids) == 0 or (ids[0] > last and (np.diff(ids) > 0).all()))
        self._count = stop

    def fill(self, count: int, read: Callable[[Int64Array, Codes], None]) -> None:
        """Makes room for `count` rows in what is still empty, and lets `read` write their ids and vectors into it."""
        if self._count or count > len(self._ids):
            raise ValueError("only empty rows with room for all can be filled")
        read(self._ids[:count], self._codes[:count])
        self._ascending = bool((np.diff(self._ids[:count]) > 0).all())
        self._count = count

    def strike_out(self, rows: Int64Array) -> None:
        if len(rows):
            self._live = self._live.copy()
            self._live[rows] = False
            self._dead += len(rows)

    def _grow(self, count: int) -> None:
        capacity = max(count, 2 * len(self._ids))
        ids, codes = np.empty(capacity, dtype=np.int64), np.empty((capacity, self._codes.shape[1]), self._codes.dtype)
        live = np.ones(capacity, dtype=np.bool_)
        ids[: self._count], live[: self._count] = self._ids[: self._count], self._live[: self._count]
        _copy(self._codes[: self._count], codes[: self._count], None)
        self._ids, self._codes, self._live = ids, codes, live


def _copy(source: Codes, target: Codes, rows: Int64Array | None) -> None:
    for start in range(0, len(target), _COPIED_ROWS):
        stop = min(start + _COPIED_ROWS, len(target))
        target[start:stop] = source[start:stop] if rows is None else source[rows[start:stop]]
