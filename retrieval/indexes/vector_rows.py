"""Rows of vectors with the ids of their chunks, in whatever order is good to scan: what the dense index looks at.

`Rows` never changes, so any number of searches read it without a lock. `GrowingRows` is where one writer appends and
strikes out, publishing a new `Rows` after each change: appended rows lie beyond what earlier ones see, and striking out
copies the flags. The latest row of an id is the only one that can be live. Beside the rows stand their ids in order, which is
how the row of an id is found.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
    """`codes` has shape (rows, d); `live` says which rows count; `order` are the rows by id, and by age where an id came twice."""

    ids: Int64Array
    codes: Codes
    live: BoolArray
    dead: int
    order: Int64Array
    sorted_ids: Int64Array

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
        rows = self.order[places]
        is_here = (places >= 0) & (self.sorted_ids[places] == ids) & self.live[rows]
        return np.where(is_here, rows, -1)

    def rows_of(self, ids: Int64Array) -> Int64Array:
        """Live rows of the given ids, which ascend; those that are not here are left out."""
        if len(ids) >= _MANY_SHARE * len(self.ids) > 0:
            first, span = int(self.sorted_ids[0]), int(self.sorted_ids[-1] - self.sorted_ids[0]) + 1
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
        self._order = np.empty(capacity, dtype=np.int64)
        self._sorted_ids = np.empty(capacity, dtype=np.int64)
        self._count = 0
        self._dead = 0

    def rows(self) -> Rows:
        """As it is now; later changes do not show in it."""
        count = self._count
        return Rows(
            self._ids[:count],
            self._codes[:count],
            self._live[:count],
            self._dead,
            self._order[:count],
            self._sorted_ids[:count],
        )

    def append(self, ids: Int64Array, codes: Codes, rows: Int64Array | None = None) -> None:
        """Takes in `codes`, or the chosen rows of it, one for each id."""
        start, stop = self._count, self._count + len(ids)
        if stop > len(self._ids):
            self._grow(stop)
        self._ids[start:stop] = ids
        _copy(codes, self._codes[start:stop], rows)
        self._sort(start, stop)
        self._count = stop

    def fill(self, count: int, read: Callable[[Int64Array, Codes], None]) -> None:
        """Makes room for `count` rows in what is still empty, and lets `read` write their ids and vectors into it."""
        if self._count or count > len(self._ids):
            raise ValueError("only empty rows with room for all can be filled")
        read(self._ids[:count], self._codes[:count])
        self._sort(0, count)
        self._count = count

    def strike_out(self, rows: Int64Array) -> None:
        if len(rows):
            self._live = self._live.copy()
            self._live[rows] = False
            self._dead += len(rows)

    def _sort(self, start: int, stop: int) -> None:
        """Puts the rows from `start` on in order among the others. Ids mostly come ascending, and then only stand last."""
        ids = self._ids[start:stop]
        last = self._sorted_ids[start - 1] if start else -1
        if len(ids) == 0 or (ids[0] > last and (np.diff(ids) > 0).all()):
            self._sorted_ids[start:stop] = ids
            self._order[start:stop] = np.arange(start, stop)
            return
        # Beside the old ones, which are being read.
        self._order, self._sorted_ids = np.empty_like(self._order), np.empty_like(self._sorted_ids)
        self._order[:stop] = np.argsort(self._ids[:stop], kind="stable")
        self._sorted_ids[:stop] = self._ids[self._order[:stop]]

    def _grow(self, count: int) -> None:
        capacity = max(count, 2 * len(self._ids))
        self._ids, self._live, self._order, self._sorted_ids, self._codes = (
            _grown(each, self._count, capacity)
            for each in (self._ids, self._live, self._order, self._sorted_ids, self._codes)
        )
        self._live[self._count :] = True


def _grown(array: NDArray[Any], count: int, capacity: int) -> NDArray[Any]:
    """Room for `capacity` rows, with the first `count` of them."""
    grown = np.empty((capacity, *array.shape[1:]), dtype=array.dtype)
    _copy(array, grown[:count], None)
    return grown


def _copy(source: NDArray[Any], target: NDArray[Any], rows: Int64Array | None) -> None:
    for start in range(0, len(target), _COPIED_ROWS):
        stop = min(start + _COPIED_ROWS, len(target))
        target[start:stop] = source[start:stop] if rows is None else source[rows[start:stop]]
