"""The dense leg: the chunks whose vectors point where the query does.

A projection in memory. Searches take no lock: a change makes a new state beside the one they read and puts it in its place
at once, so a search sees all of a change or nothing of it, and no search waits for a change.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.dense_plan import DensePlan, choose_plan
from retrieval.kernels import Int64Array, decoded, inner_products
from retrieval.records import VectorChanges
from retrieval.vector_rows import GrowingRows, Rows
from shared.vectors import Float32Array

# A tail with more dead rows than this share is written anew, once they are many enough to matter.
_DEAD_SHARE_MAX = 0.2
_DEAD_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _State:
    """What a search reads, whole."""

    tail: Rows
    sequence: int


class DenseIndex:
    """Any number of searches run beside one change."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._writing = threading.Lock()
        self._tail = GrowingRows(dimensions, np.float32)
        self._state = _State(self._tail.rows(), 0)

    def __len__(self) -> int:
        return self._state.tail.living

    @property
    def sequence(self) -> int:
        """The last change it has taken in."""
        return self._state.sequence

    def plan(self, allowed: int | None = None) -> DensePlan:
        """How a search would be done that a filter limits to `allowed` chunks."""
        return choose_plan(chunks=len(self), allowed=allowed, has_lists=False)

    def apply(self, changes: VectorChanges) -> None:
        """Takes in the next changes. Adding again what is there replaces it."""
        added = np.asarray(changes.added_ids, dtype=np.int64)
        gone = np.unique(np.asarray([*changes.removed_ids, *changes.added_ids], dtype=np.int64))
        with self._writing:
            tail = self._state.tail
            self._tail.strike_out(tail.rows_of(gone))
            if len(added):
                self._tail.append(added, changes.added_vectors)
            self._compact()
            self._state = _State(self._tail.rows(), changes.sequence)

    def search(self, vector: Float32Array, limit: int, allowed: Int64Array | None = None) -> dict[int, float]:
        """The `limit` chunks nearest to a unit vector of shape (d,), best first, with their cosine similarity.

        `allowed`, ascending and without repetition, limits the search to these chunks.
        """
        tail = self._state.tail
        rows = None if allowed is None else tail.rows_of(allowed)
        if rows is None and tail.dead:
            rows = tail.living_rows()
        scores = inner_products(vector, tail.codes, rows)
        best = _best(scores, limit)
        ids = tail.ids[best if rows is None else rows[best]]
        return dict(zip(ids.tolist(), scores[best].tolist(), strict=True))

    def score(self, vector: Float32Array, ids: Int64Array) -> dict[int, float]:
        """Exact similarities of the given chunks; those that are not here are left out."""
        tail = self._state.tail
        rows = tail.rows_of(np.asarray(ids, dtype=np.int64))
        scores = inner_products(vector, tail.codes, rows)
        return dict(zip(tail.ids[rows].tolist(), scores.tolist(), strict=True))

    def ids(self) -> set[int]:
        tail = self._state.tail
        return set(tail.ids[tail.live].tolist())

    def vectors(self, ids: Sequence[int]) -> Float32Array:
        """The stored vectors, shape (ids, d). Raises KeyError where one is not here."""
        tail = self._state.tail
        rows = tail.rows_of(np.asarray(ids, dtype=np.int64))
        if len(rows) != len(ids):
            raise KeyError(sorted(set(ids) - self.ids()))
        return decoded(tail.codes[rows])

    def _compact(self) -> None:
        rows = self._tail.rows()
        if rows.dead > max(_DEAD_KEPT, _DEAD_SHARE_MAX * len(rows)):
            living = rows.living_rows()
            self._tail = GrowingRows(self._dimensions, np.float32)
            self._tail.append(rows.ids[living], rows.codes[living])


def _best(scores: Float32Array, limit: int) -> Int64Array:
    """Places of the `limit` greatest, greatest first."""
    if limit < len(scores):
        places = np.argpartition(scores, len(scores) - limit)[len(scores) - limit :]
    else:
        places = np.arange(len(scores))
    order: Int64Array = places[np.argsort(-scores[places], kind="stable")]
    return order
