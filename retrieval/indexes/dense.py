"""The dense leg: the chunks whose vectors point where the query does.

A projection in memory. Small collections are scanned; from `exact_chunks_max` chunks on, lists (retrieval/indexes/lists.py) say
which rows are worth a look. All rows stand in one place, those of a list side by side when it was made and later ones in the
order they came, so that a new write is a row outside the lists, a delete is a flag, and a filter is a choice of rows: none of
them needs the lists made anew, and every similarity in an answer is exact.

Nobody waits for anybody. A change, and each step of upkeep, makes a new state beside the one that searches read and puts it
in its place at once: a search sees all of a change or nothing of it, and lists are built while searches and changes go on.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from retrieval.indexes.dense_plan import DensePlan, Upkeep, choose_plan, choose_upkeep
from retrieval.indexes.kernels import Codes, Int64Array, decoded, inner_products
from retrieval.indexes.lists import Lists, fold, train, with_members
from retrieval.indexes.vector_rows import GrowingRows, Rows
from retrieval.truth.records import VectorChanges, VectorStorage
from shared.vectors import Float32Array

Float64Array = NDArray[np.float64]
# A piece that fits the cache.
_SUMMED_ROWS: Final = 8192
EXACT_CHUNKS_MAX: Final = 50_000
DTYPES: Final[dict[VectorStorage, type[np.floating[Any]]]] = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True, slots=True)
class DenseState:
    """What a search reads, and what a snapshot keeps: whole, and never changed."""

    rows: Rows
    lists: Lists | None
    sequence: int

    @property
    def tail(self) -> int:
        """How many rows stand in no list."""
        return len(self.rows) - (self.lists.listed if self.lists else 0)


class DenseIndex:
    """Any number of searches run beside one change and one step of upkeep."""

    def __init__(
        self, dimensions: int, *, storage: VectorStorage = "float32", exact_chunks_max: int = EXACT_CHUNKS_MAX
    ) -> None:
        self.dimensions = dimensions
        self.storage: VectorStorage = storage
        self._exact_chunks_max = exact_chunks_max
        self._writing = threading.Lock()
        self._upkeeping = threading.Lock()
        self._growing = GrowingRows(dimensions, DTYPES[storage])
        self._state = DenseState(self._growing.rows(), None, 0)
        # Of the living vectors, in more precision than they have, since it is added to and taken from for ever.
        self._sum = np.zeros(dimensions, dtype=np.float64)

    def __len__(self) -> int:
        return self._state.rows.living

    @property
    def sequence(self) -> int:
        """The last change it has taken in."""
        return self._state.sequence

    @property
    def state(self) -> DenseState:
        return self._state

    def plan(self, allowed: int | None = None) -> DensePlan:
        """How a search would be done that a filter limits to `allowed` chunks."""
        state = self._state
        return choose_plan(chunks=state.rows.living, allowed=allowed, has_lists=state.lists is not None)

    def apply(self, changes: VectorChanges) -> None:
        """Takes in the next changes. Adding again what is there replaces it; the same vector again changes nothing."""
        added = np.asarray(changes.added_ids, dtype=np.int64)
        with self._writing:
            rows = self._state.rows
            codes = self._encoded(changes.added_vectors)
            here = rows.find(added)
            is_new = here < 0
            if not is_new.all():
                is_new[~is_new] = (rows.codes[here[~is_new]] != codes[~is_new]).any(axis=1)
            removed = rows.find(np.asarray(sorted(set(changes.removed_ids)), dtype=np.int64))
            gone = np.unique(np.concatenate([removed[removed >= 0], here[is_new & (here >= 0)]]))
            self._sum = self._sum + codes[is_new].sum(axis=0, dtype=np.float64)
            self._sum -= rows.codes[gone].sum(axis=0, dtype=np.float64)
            self._growing.strike_out(gone)
            if is_new.any():
                self._growing.append(added[is_new], codes, np.flatnonzero(is_new))
            self._state = DenseState(self._growing.rows(), self._state.lists, changes.sequence)

    def restore(self, growing: GrowingRows, lists: Lists | None, sequence: int) -> None:
        """Takes over what a snapshot held, in place of everything here."""
        with self._upkeeping, self._writing:
            self._growing = growing
            self._sum = _sum_of(growing.rows())
            self._state = DenseState(growing.rows(), lists, sequence)

    def search(self, vector: Float32Array, limit: int, allowed: Int64Array | None = None) -> dict[int, float]:
        """The `limit` chunks nearest to a unit vector of shape (d,), best first, with their cosine similarity.

        `allowed`, ascending and without repetition, limits the search to these chunks.
        """
        state = self._state
        if allowed is None:
            rows = _all_rows(state) if state.lists is None else _near_rows(state, state.lists, vector, limit)
            return _best(state.rows, vector, rows, limit)
        rows = state.rows.rows_of(allowed)
        plan = choose_plan(chunks=state.rows.living, allowed=len(allowed), has_lists=state.lists is not None)
        if plan == "approximate_filtered" and state.lists is not None:
            is_listed = rows < state.lists.listed
            near = state.lists.near_among(vector, rows[is_listed], limit)
            found = _best(state.rows, vector, np.concatenate([near, rows[~is_listed]]), limit)
            if len(found) == min(limit, len(rows)):
                return found
        return _best(state.rows, vector, rows, limit)

    def score(self, vector: Float32Array, ids: Int64Array | Sequence[int]) -> dict[int, float]:
        """Exact similarities of the given chunks; those that are not here are left out."""
        rows = self._state.rows
        wanted = rows.find(np.asarray(ids, dtype=np.int64))
        wanted = wanted[wanted >= 0]
        scores = inner_products(vector, rows.codes, wanted)
        return dict(zip(rows.ids[wanted].tolist(), scores.tolist(), strict=True))

    def background(self, vector: Float32Array) -> float:
        """The mean cosine similarity of all chunks to a unit vector: what a chunk that has nothing to do with it gets."""
        living = len(self)
        return float(self._sum @ vector) / living if living else 0.0

    def ids(self) -> set[int]:
        rows = self._state.rows
        return set(rows.ids[rows.live].tolist())

    def vectors(self, ids: Sequence[int]) -> Float32Array:
        """The stored vectors, shape (ids, d), as precise as `storage` is. Raises KeyError where one is not here."""
        rows = self._state.rows
        wanted = rows.find(np.asarray(ids, dtype=np.int64))
        if (wanted < 0).any():
            raise KeyError([chunk_id for chunk_id, row in zip(ids, wanted, strict=True) if row < 0])
        return decoded(rows.codes[wanted])

    def next_upkeep(self) -> Upkeep | None:
        """What `upkeep` would do now."""
        state = self._state
        return choose_upkeep(
            living=state.rows.living,
            dead=state.rows.dead,
            tail=state.tail,
            trained=state.lists.trained if state.lists else None,
            exact_chunks_max=self._exact_chunks_max,
        )

    def upkeep(self, is_stopping: Callable[[], bool] = lambda: False) -> Upkeep | None:
        """Takes one step of upkeep, if one is due; says which. Milliseconds to minutes; searches and changes go on.

        Raises UpkeepStopped, with nothing changed, soon after `is_stopping` says so.
        """
        with self._upkeeping:
            step, state = self.next_upkeep(), self._state
            match step:
                case "train":
                    self._lay_out(state, train(state.rows, is_stopping=is_stopping))
                case "fold" if state.lists is not None:
                    self._take(fold(state.lists, state.rows, is_stopping=is_stopping))
                case "flatten":
                    self._take(None)
                case "compact":
                    lists = state.lists and fold(state.lists, state.rows, is_stopping=is_stopping)
                    self._lay_out(state, lists)
            return step

    def _take(self, lists: Lists | None) -> None:
        """Only `_lay_out` and `restore` number rows anew, and neither runs beside this."""
        with self._writing:
            self._state = replace(self._state, lists=lists)

    def _lay_out(self, state: DenseState, lists: Lists | None) -> None:
        """Copies the living rows, all of them in `lists` where there are any, then what has changed since, and drops the rest.

        Rows of a list are put side by side: the 2,000 that a search of 100,000 chunks looks at were scored in .57 ms where they
        lay scattered, and in .15 ms so. For a moment the memory holds both copies.
        """
        kept = state.rows.alive(lists.members) if lists else state.rows.living_rows()
        growing = GrowingRows(self.dimensions, DTYPES[self.storage], capacity=len(kept) + len(kept) // 8)
        growing.append(state.rows.ids[kept], state.rows.codes, kept)
        if lists is not None:
            list_of = lists.list_of[kept]
            lists = with_members(lists.centroids, list_of, growing.rows(), probes=lists.probes, trained=lists.trained)
        with self._writing:
            now = self._state.rows
            growing.strike_out(np.flatnonzero(~now.live[kept]))
            later = len(state.rows) + np.flatnonzero(now.live[len(state.rows) :])
            growing.append(now.ids[later], now.codes, later)
            self._growing = growing
            self._state = DenseState(growing.rows(), lists, self._state.sequence)

    def _encoded(self, vectors: Float32Array) -> Codes:
        return np.asarray(vectors, dtype=DTYPES[self.storage]).reshape(-1, self.dimensions)


def _sum_of(rows: Rows) -> Float64Array:
    total = np.zeros(rows.codes.shape[1], dtype=np.float64)
    for start in range(0, len(rows), _SUMMED_ROWS):
        part = slice(start, start + _SUMMED_ROWS)
        total += rows.codes[part][rows.live[part]].sum(axis=0, dtype=np.float64)
    return total


def _all_rows(state: DenseState) -> Int64Array | None:
    return state.rows.living_rows() if state.rows.dead else None


def _near_rows(state: DenseState, lists: Lists, vector: Float32Array, limit: int) -> Int64Array:
    near = lists.near(vector, limit)
    return state.rows.alive(np.concatenate([near, np.arange(lists.listed, len(state.rows))]))


def _best(rows: Rows, vector: Float32Array, chosen: Int64Array | None, limit: int) -> dict[int, float]:
    """The `limit` most similar of the chosen rows, or of all, best first and ties by id."""
    scores = inner_products(vector, rows.codes, chosen)
    best = np.argpartition(scores, len(scores) - limit)[len(scores) - limit :] if limit < len(scores) else slice(None)
    scores = scores[best]
    ids = rows.ids[best] if chosen is None else rows.ids[chosen[best]]
    order = np.lexsort((ids, -scores))
    return dict(zip(ids[order].tolist(), scores[order].tolist(), strict=True))
