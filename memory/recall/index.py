"""The recall index of one scope: exact BM25 and exact cosine over what belongs to it, and nothing else.

A projection in memory, made from the scope's own history and caught up with it before every search, so that a turn can be
recalled as soon as its append was answered. A user's memory is thousands of turns, so nothing here is approximate: both
legs score every item, and every step is one operation on arrays with a place for each.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from memory.recall.bm25 import Bm25, Neighbours
from memory.recall.query import Understood
from memory.recall.ranking import Floats, Mask, boosts, fused, with_company
from memory.text.words import Words, written_date
from memory.truth.records import Changes, IndexedItem, ItemKey
from shared.filters import Filter, matches
from shared.memory_messages import RecallKind, RecallScores
from shared.vectors import Float32Array

ScalarT = TypeVar("ScalarT", bound=np.generic)
ValueT = TypeVar("ValueT", bound=Hashable)

_CAPACITY_MIN: Final = 64
# Dead rows cost time in every search; past this share the index is made anew.
_DEAD_SHARE_MAX: Final = 0.3
_NONE: Final = -1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# One row an item. What is text outside is a number of a `_Table` here.
_ROW: Final = np.dtype(
    [
        ("alive", "?"),
        ("has_vector", "?"),
        ("time", "f8"),
        ("kind", "i4"),
        ("id", "i8"),
        ("before", "i4"),
        ("after", "i4"),
        ("speaker", "i4"),
        ("role", "i4"),
        ("metadata", "i4"),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which items may be answered. None is no bound. Nothing later than `until`, and nothing that is passed over, has any
    say in the order either."""

    kinds: frozenset[RecallKind]
    since: datetime | None = None
    until: datetime | None = None
    filter: Filter | None = None
    passed_over: frozenset[ItemKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Scored:
    key: ItemKey
    score: float
    scores: RecallScores


class _Table(Generic[ValueT]):
    """Numbers for values, from 0 in the order of their coming."""

    def __init__(self) -> None:
        self.values: list[ValueT] = []
        self._numbers: dict[ValueT, int] = {}

    def number(self, value: ValueT) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def mask(self, wanted: frozenset[ValueT]) -> Mask:
        return np.fromiter((value in wanted for value in self.values), dtype=bool, count=len(self.values))


class ScopeIndex:
    """Not thread-safe: its owner takes turns."""

    def __init__(self, model: str) -> None:
        self.sequence = 0
        self.model = model
        self._words = Words()
        self._bm25 = Bm25()
        self._row_of: dict[ItemKey, int] = {}
        # Of what stands in a session in order: (session, position).
        self._place_of: dict[int, tuple[int, int]] = {}
        self._row_at: dict[tuple[int, int], int] = {}
        self._kinds = _Table[RecallKind]()
        self._speakers, self._roles, self._metadata = _Table[str](), _Table[str](), _Table[str]()
        self._all = np.zeros(_CAPACITY_MIN, dtype=_ROW)
        self._vectors: Float32Array = np.zeros((_CAPACITY_MIN, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def without_vector(self) -> int:
        return int((self._rows["alive"] & ~self._rows["has_vector"]).sum())

    @property
    def is_worn(self) -> bool:
        count = len(self._bm25)
        return count > _CAPACITY_MIN and len(self._row_of) < (1 - _DEAD_SHARE_MAX) * count

    @property
    def speakers(self) -> Sequence[str]:
        return self._speakers.values

    @property
    def oldest(self) -> datetime | None:
        times = self._rows["time"][self._rows["alive"]]
        return _EPOCH + timedelta(seconds=float(times.min())) if len(times) else None

    def told_of(self, event: str, wanted: Wanted) -> datetime | None:
        """When it was told of what the words name: the middle one of the items that say all of it. None where none does."""
        terms = {term for term, worth in self._words.weights(event).items() if worth == 1.0}
        rows = self._bm25.rows_with(terms)
        times = self._rows["time"][rows][self._visible(wanted)[rows]]
        if not len(times):
            return None
        return _EPOCH + timedelta(seconds=float(np.sort(times)[len(times) // 2]))

    def keys(self) -> set[ItemKey]:
        return set(self._row_of)

    def apply(self, changes: Changes) -> None:
        """Takes in the next changes. Applying them again changes nothing."""
        for item in changes.items:
            row = self._row_of.get(item.key)
            if row is None:
                row = self._add(item)
            if item.vector is not None:
                self._set_vector(row, item.vector)
        for key in changes.removed:
            row = self._row_of.pop(key, None)
            if row is not None:
                self._drop(row)
        self.sequence = changes.sequence

    def search(
        self,
        query: str | None,
        vector: Float32Array | None,
        *,
        wanted: Wanted,
        understood: Understood,
        limit: int,
    ) -> list[Scored]:
        """The best items, ties by age. Without `query` the lexical leg is silent, without `vector` (of unit length) the
        dense one; what neither leg found is not answered."""
        rows = self._rows
        visible = self._visible(wanted)
        eligible = visible & self._eligible(wanted)
        neighbours = Neighbours(rows["before"], rows["after"])
        lexical = np.zeros(len(rows))
        if query is not None:
            lexical = self._bm25.scores(self._words.weights(query), visible, neighbours) * eligible
        dense, judged = self._dense(vector, eligible)
        # What may not be answered has no say in the order of what may.
        score = with_company(fused(dense, lexical, judged=judged) * eligible, neighbours)
        score *= boosts(rows["time"], understood.times, visible=visible, is_named=self._is_named(understood))
        best = _best(score, rows, np.flatnonzero(judged | (lexical > 0.0)), limit)
        details = _leg_scores(dense, judged, lexical, best)
        return [
            Scored((self._kinds.values[rows["kind"][at]], int(rows["id"][at])), float(score[at]), scores)
            for at, scores in zip(best.tolist(), details, strict=True)
        ]

    def _visible(self, wanted: Wanted) -> Mask:
        """As if other kinds were not there: a fold moves nothing in the order of turns."""
        rows = self._rows
        visible: Mask = rows["alive"] & self._kinds.mask(wanted.kinds)[rows["kind"]]
        if wanted.until is not None:
            visible &= rows["time"] <= wanted.until.timestamp()
        visible[[self._row_of[key] for key in wanted.passed_over if key in self._row_of]] = False
        return visible

    def _eligible(self, wanted: Wanted) -> Mask:
        rows = self._rows
        keep: Mask = np.ones(len(rows), dtype=bool)
        if wanted.since is not None:
            keep &= rows["time"] >= wanted.since.timestamp()
        if wanted.filter is not None:
            # Each distinct metadata is looked at once, however many items have it.
            part = wanted.filter
            fits = [matches(part, msgspec.json.decode(raw)) for raw in self._metadata.values]
            keep &= np.array(fits, dtype=bool)[rows["metadata"]]
        return keep

    def _dense(self, vector: Float32Array | None, eligible: Mask) -> tuple[Floats, Mask]:
        """Cosine similarities, and which of them are one."""
        count = len(self._rows)
        if vector is None or self._vectors.shape[1] != len(vector):
            return np.zeros(count), np.zeros(count, dtype=bool)
        return (self._vectors[:count] @ vector).astype(np.float64), eligible & self._rows["has_vector"]

    def _is_named(self, understood: Understood) -> Mask:
        speakers, roles = self._speakers.mask(understood.speakers), self._roles.mask(understood.roles)
        named: Mask = speakers[self._rows["speaker"]] | roles[self._rows["role"]]
        return named

    @property
    def _rows(self) -> NDArray[np.void]:
        return self._all[: len(self._bm25)]

    def _add(self, item: IndexedItem) -> int:
        row = len(self._bm25)
        if row == len(self._all):
            self._all = _resized(self._all, 2 * row)
            self._vectors = _resized(self._vectors, 2 * row)
        before, after = self._neighbours(row, item)
        self._all[row] = (
            True,
            False,
            item.created_at.timestamp(),
            self._kinds.number(item.kind),
            item.id,
            before,
            after,
            self._speakers.number(item.speaker),
            self._roles.number(item.role),
            self._metadata.number(item.metadata),
        )
        self._row_of[item.key] = row
        self._bm25.append(
            self._words.terms(f"{item.speaker} {item.text}"), self._words.terms(written_date(item.created_at))
        )
        return row

    def _neighbours(self, row: int, item: IndexedItem) -> tuple[int, int]:
        """Finds them, and tells them of the new one."""
        session, position = item.session, item.position
        if session is None or position is None:
            return _NONE, _NONE
        self._row_at[session, position] = row
        self._place_of[row] = session, position
        before, after = (
            self._row_at.get((session, position - 1), _NONE),
            self._row_at.get((session, position + 1), _NONE),
        )
        if before != _NONE:
            self._all["after"][before] = row
        if after != _NONE:
            self._all["before"][after] = row
        return before, after

    def _drop(self, row: int) -> None:
        self._all["alive"][row] = self._all["has_vector"][row] = False
        if self._vectors.shape[1]:
            self._vectors[row] = 0.0
        place = self._place_of.pop(row, None)
        if place is None:
            return
        del self._row_at[place]
        before, after = self._all["before"][row], self._all["after"][row]
        if before != _NONE:
            self._all["after"][before] = _NONE
        if after != _NONE:
            self._all["before"][after] = _NONE

    def _set_vector(self, row: int, raw: bytes) -> None:
        vector = np.frombuffer(raw, dtype="<f4")
        if self._vectors.shape[1] == 0:
            self._vectors = np.zeros((len(self._all), len(vector)), dtype=np.float32)
        self._vectors[row] = vector
        self._all["has_vector"][row] = True


def _best(score: Floats, rows: NDArray[np.void], found: NDArray[np.intp], limit: int) -> NDArray[np.intp]:
    if len(found) > limit:
        last = np.partition(score[found], len(found) - limit)[len(found) - limit]
        found = found[score[found] >= last]
    order = np.lexsort((rows["id"][found], rows["kind"][found], rows["time"][found], -score[found]))[:limit]
    best: NDArray[np.intp] = found[order]
    return best


def _leg_scores(dense: Floats, judged: Mask, lexical: Floats, best: NDArray[np.intp]) -> list[RecallScores]:
    """What each leg said, and how many it placed better, plus one."""
    similarities, matched = np.sort(dense[judged]), np.sort(lexical[lexical > 0.0])
    dense_ranks = 1 + len(similarities) - np.searchsorted(similarities, dense[best], side="right")
    lexical_ranks = 1 + len(matched) - np.searchsorted(matched, lexical[best], side="right")
    return [
        RecallScores(
            dense=float(dense[at]) if judged[at] else None,
            dense_rank=int(dense_rank) if judged[at] else None,
            lexical=float(lexical[at]) if lexical[at] > 0.0 else None,
            lexical_rank=int(lexical_rank) if lexical[at] > 0.0 else None,
        )
        for at, dense_rank, lexical_rank in zip(best.tolist(), dense_ranks, lexical_ranks, strict=True)
    ]


def _resized(array: NDArray[ScalarT], capacity: int) -> NDArray[ScalarT]:
    larger = np.zeros((capacity, *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
