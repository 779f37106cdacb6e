"""The recall index of one scope: exact BM25 and exact cosine over what belongs to it, and nothing else.

A projection in memory, made from the scope's own history and caught up with it before every search, so that a turn can be
recalled as soon as its append was answered. A user's memory is thousands of turns, so nothing here is approximate.
"""

from datetime import datetime
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from memory.bm25 import Bm25
from memory.records import Changes, IndexedTurn
from memory.words import Words
from shared.vectors import Float32Array

ScalarT = TypeVar("ScalarT", bound=np.generic)

_CAPACITY_MIN: Final = 64
# Dead rows cost time in every search; past this share the index is made anew.
_DEAD_SHARE_MAX: Final = 0.3


class ScopeIndex:
    """Not thread-safe: its owner takes turns."""

    def __init__(self, model: str) -> None:
        self.sequence = 0
        self.model = model
        self._words = Words()
        self._bm25 = Bm25()
        self._rows: dict[int, int] = {}
        self._ids: list[int] = []
        self._alive = np.zeros(_CAPACITY_MIN, dtype=bool)
        self._times = np.zeros(_CAPACITY_MIN)
        self._has_vector = np.zeros(_CAPACITY_MIN, dtype=bool)
        self._vectors: Float32Array = np.zeros((_CAPACITY_MIN, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def without_vector(self) -> int:
        count = len(self._ids)
        return int((self._alive[:count] & ~self._has_vector[:count]).sum())

    @property
    def is_worn(self) -> bool:
        return len(self._ids) > _CAPACITY_MIN and len(self._rows) < (1 - _DEAD_SHARE_MAX) * len(self._ids)

    def has_vector(self, item_id: int) -> bool:
        return bool(self._has_vector[self._rows[item_id]])

    def ids(self) -> set[int]:
        return set(self._rows)

    def apply(self, changes: Changes) -> None:
        """Takes in the next changes. Applying them again changes nothing."""
        for item in changes.items:
            row = self._rows.get(item.id)
            if row is None:
                row = self._add(item)
            if item.vector is not None and not self._has_vector[row]:
                self._set_vector(row, item.vector)
        for item_id in changes.removed_ids:
            row = self._rows.pop(item_id, None)
            if row is not None:
                self._alive[row] = False
                self._has_vector[row] = False
                if self._vectors.shape[1]:
                    self._vectors[row] = 0.0
        self.sequence = changes.sequence

    def lexical(self, query: str, *, since: datetime | None, until: datetime | None, limit: int) -> dict[int, float]:
        """The best items with their BM25 scores; none where no word of the query occurs."""
        count = len(self._ids)
        scores = self._bm25.scores(self._words.terms(query), self._alive[:count])
        scores[~self._within(since, until)] = 0.0
        return self._best(scores, scores > 0.0, limit)

    def dense(
        self, vector: Float32Array, *, since: datetime | None, until: datetime | None, limit: int
    ) -> dict[int, float]:
        """The nearest items with their cosine similarity to a unit vector of shape (d,)."""
        count = len(self._ids)
        eligible = self._has_vector[:count] & self._within(since, until)
        if self._vectors.shape[1] != len(vector) or not eligible.any():
            return {}
        return self._best(self._vectors[:count] @ vector, eligible, limit)

    def _within(self, since: datetime | None, until: datetime | None) -> NDArray[np.bool_]:
        count = len(self._ids)
        keep = self._alive[:count].copy()
        if since is not None:
            keep &= self._times[:count] >= since.timestamp()
        if until is not None:
            keep &= self._times[:count] <= until.timestamp()
        return keep

    def _best(self, scores: NDArray[np.floating], eligible: NDArray[np.bool_], limit: int) -> dict[int, float]:
        rows = np.flatnonzero(eligible)
        # Ties by age, so that equal scores give the same answer every time.
        order = np.lexsort((rows, -scores[rows]))[:limit]
        return {self._ids[row]: float(scores[row]) for row in rows[order].tolist()}

    def _add(self, item: IndexedTurn) -> int:
        row = len(self._ids)
        if row == len(self._alive):
            self._grow(2 * row)
        self._ids.append(item.id)
        self._rows[item.id] = row
        self._alive[row] = True
        self._times[row] = item.created_at.timestamp()
        self._bm25.append(self._words.terms(f"{item.speaker} {item.text}"))
        return row

    def _set_vector(self, row: int, raw: bytes) -> None:
        vector = np.frombuffer(raw, dtype="<f4")
        if self._vectors.shape[1] == 0:
            self._vectors = np.zeros((len(self._alive), len(vector)), dtype=np.float32)
        self._vectors[row] = vector
        self._has_vector[row] = True

    def _grow(self, capacity: int) -> None:
        self._alive = _resized(self._alive, capacity)
        self._times = _resized(self._times, capacity)
        self._has_vector = _resized(self._has_vector, capacity)
        self._vectors = _resized(self._vectors, capacity)


def _resized(array: NDArray[ScalarT], capacity: int) -> NDArray[ScalarT]:
    larger = np.zeros((capacity, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
