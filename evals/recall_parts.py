"""Memory's order of turns put together from memory's own pure parts, so that each can be left out. Pure.

The product has no switches for them, and gets none for the sake of an eval. With nothing left out the order is that of
`memory.index.ScopeIndex`; a test compares them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from memory.recall.bm25 import Bm25, Neighbours
from memory.recall.event_times import event_range
from memory.recall.index import ScopeIndex, Wanted
from memory.recall.query import Understood, understand
from memory.recall.ranking import Floats, Mask, boosts, fused, with_company
from memory.text.words import Words, written_date
from memory.truth.records import Changes, IndexedItem
from shared.fusion import ListFusion, fuse
from shared.vectors import Float32Array

_NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is used. `fusion` `own` is memory's."""

    words: bool = True
    meaning: bool = True
    speaker_in_words: bool = True
    date_in_words: bool = True
    words_beside: bool = True
    question_words_count_less: bool = True
    fusion: Literal["own"] | ListFusion = "own"
    company: bool = True
    recency: bool = True
    times: bool = True
    speakers_named: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as of a moment, with its vector of unit length."""

    text: str
    vector: Float32Array
    as_of: datetime


class TurnRanker:
    """Over one memory. `items` are turns, all with vectors, in the order in which they were said."""

    def __init__(self, items: Sequence[IndexedItem], parts: Parts) -> None:
        self._items = items
        self._parts = parts
        # Says what a question means; its own order is not used.
        self._index = ScopeIndex("")
        self._index.apply(Changes(1, list(items), []))
        self._words = Words()
        self._bm25 = Bm25()
        for item in items:
            text = f"{item.speaker} {item.text}" if parts.speaker_in_words else item.text
            date = written_date(item.created_at) if parts.date_in_words else ""
            self._bm25.append(self._words.terms(text), self._words.terms(date))
        self._vectors = np.stack([np.frombuffer(item.vector or b"", dtype="<f4") for item in items])
        self._times = np.array([item.created_at.timestamp() for item in items])
        self._neighbours = _neighbours(items)

    def ids(self, asked: Asked, limit: int) -> list[int]:
        """The best turns, ties by age."""
        parts = self._parts
        visible: Mask = self._times <= asked.as_of.timestamp()
        words = self._lexical(asked.text, visible) if parts.words else np.zeros(len(visible))
        meaning = (self._vectors @ asked.vector).astype(np.float64)
        judged = visible if parts.meaning else np.zeros_like(visible)
        score = _fused(meaning, words, judged, parts.fusion) * visible
        if parts.company:
            score = with_company(score, self._neighbours)
        score *= self._factors(asked, visible)
        found = np.flatnonzero(judged | (words > 0.0))
        numbers = np.array([item.id for item in self._items])
        order = np.lexsort((numbers[found], self._times[found], -score[found]))[:limit]
        return [int(number) for number in numbers[found[order]]]

    def _lexical(self, text: str, visible: Mask) -> Floats:
        weights: Mapping[str, float] = self._words.weights(text)
        if not self._parts.question_words_count_less:
            weights = dict.fromkeys(weights, 1.0)
        beside = self._neighbours if self._parts.words_beside else _alone(len(visible))
        return self._bm25.scores(weights, visible, beside) * visible

    def _factors(self, asked: Asked, visible: Mask) -> Floats:
        parts, understood = self._parts, self._understood(asked)
        named = np.zeros(len(visible), dtype=bool)
        if parts.speakers_named:
            named = np.array(
                [item.speaker in understood.speakers or item.role in understood.roles for item in self._items]
            )
        times = understood.times if parts.times else ()
        factors = boosts(self._times, times, visible=visible, is_named=named)
        if parts.recency:
            return factors
        # They are added up, so that what recency alone gives can be taken away.
        return factors - boosts(self._times, (), visible=visible, is_named=np.zeros_like(named)) + 1.0

    def _understood(self, asked: Asked) -> Understood:
        index, wanted = self._index, Wanted(kinds=frozenset({"turn"}), until=asked.as_of)
        understood = understand(asked.text, now=asked.as_of, oldest=index.oldest, speakers=index.speakers)
        told = ((event, index.told_of(event.name, wanted)) for event in understood.events)
        return understood.with_times(event_range(event, moment) for event, moment in told if moment is not None)


def _fused(meaning: Floats, words: Floats, judged: Mask, fusion: Literal["own"] | ListFusion) -> Floats:
    if fusion == "own":
        return fused(meaning, words, judged=judged)
    legs = [
        {int(row): float(leg[row]) for row in np.flatnonzero(of)}
        for leg, of in ((meaning, judged), (words, words > 0.0))
    ]
    score = np.zeros(len(meaning))
    for row, found in fuse(*legs, method=fusion):
        score[row] = found
    return score


def _neighbours(items: Sequence[IndexedItem]) -> Neighbours:
    row_at = {(item.session, item.position): row for row, item in enumerate(items)}

    def beside(step: int) -> list[int]:
        return [
            _NOBODY if item.position is None else row_at.get((item.session, item.position + step), _NOBODY)
            for item in items
        ]

    return Neighbours(np.array(beside(-1), dtype=np.int32), np.array(beside(1), dtype=np.int32))


def _alone(count: int) -> Neighbours:
    nobody = np.full(count, _NOBODY, dtype=np.int32)
    return Neighbours(nobody, nobody)
