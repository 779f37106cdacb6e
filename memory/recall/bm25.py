"""BM25 over the items of one scope, exact, with the scope's own statistics (Robertson and Zaragoza 2009, "The Probabilistic
Relevance Framework: BM25 and Beyond"), where an item is read with its neighbours.

A turn often makes no sense alone: "Yes, since last June" is found by the words of the question before it. So an item's words
are its own and, for less, those of the item before and the item after. As in that paper's BM25F, each part is made
comparable by its own length before the parts are added, so that a short question beside a long answer keeps its say. The
parts are put together for each query and not when they are written: what is erased is gone from its neighbours too, and
what is said later counts for what was said before. Writing the turn before into each item was worse (docs/ARCHITECTURE.md).

Kept in memory and changed in place. A shared full-text index was rejected: its word statistics span users, so what one
user writes would move another's ranking, and it scores everybody's matches before a filter drops them.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory.recall.postings import Postings

# The usual values, which tantivy has too.
_K1: Final = 1.2
_B: Final = 0.75

# How much words of the item before and after count beside an item's own. Measured: docs/ARCHITECTURE.md, as all weights here.
_BEFORE: Final = 0.5
_AFTER: Final = 0.4
# How much an item's labels count, which say what it is and not what it says.
_LABEL: Final = 0.5

_NO_ROWS: Final[NDArray[np.uint32]] = np.zeros(0, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """For each row the row before and after it, -1 where there is none."""

    before: NDArray[np.int32]
    after: NDArray[np.int32]


class Bm25:
    """Rows are numbered by the caller, from 0 upwards without gaps."""

    def __init__(self) -> None:
        self._postings = Postings()
        # Few: a day has four.
        self._labels: dict[str, array[int]] = {}
        self._lengths = array("I")

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, terms: Iterable[str], labels: Iterable[str] = ()) -> None:
        """The next row. `labels` say what it is; its length does not depend on them."""
        row = len(self._lengths)
        counts = Counter(terms)
        self._postings.append(row, counts)
        for label in set(labels):
            self._labels.setdefault(label, array("I")).append(row)
        self._lengths.append(counts.total())

    def scores(
        self, weights: Mapping[str, float], visible: NDArray[np.bool_], neighbours: Neighbours
    ) -> NDArray[np.float64]:
        """One score a row, 0 where no term occurs. `weights` are the query's terms, and what each is worth beside the others.

        Rows that are not `visible` count for nothing: not in the statistics, and not beside their neighbours.
        """
        scores = np.zeros(len(self._lengths))
        count = int(visible.sum())
        if count == 0:
            return scores
        lengths = np.frombuffer(self._lengths, dtype=np.uint32)
        mean = max(1.0, float(lengths[visible].mean()))
        per_word = visible / (1.0 - _B + _B * lengths / mean)
        for term, worth in weights.items():
            if term not in self._postings and term not in self._labels:
                continue
            frequencies = self._frequencies(term, per_word, visible, neighbours)
            rows = np.flatnonzero(frequencies)
            found = frequencies[rows]
            rareness = math.log(1 + (count - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += worth * rareness * found * (_K1 + 1) / (found + _K1)
        return scores

    def rows_with(self, terms: Iterable[str]) -> NDArray[np.uint32]:
        """Rows that have each of the terms themselves; none where there are no terms."""
        found: NDArray[np.uint32] | None = None
        for term in terms:
            rows, _ = self._postings.of(term)
            found = rows if found is None else np.intersect1d(found, rows, assume_unique=True)
        return _NO_ROWS if found is None else found

    def _frequencies(
        self, term: str, per_word: NDArray[np.float64], visible: NDArray[np.bool_], neighbours: Neighbours
    ) -> NDArray[np.float64]:
        """How often a term occurs in each row and beside it, in units of a text of mean length."""
        total = np.zeros(len(per_word))
        if term in self._postings:
            rows, frequencies = self._postings.of(term)
            own = frequencies * per_word[rows]
            total[rows] += own
            # A row is what stands before its next one, and after its last one.
            for beside, share in ((neighbours.after[rows], _BEFORE), (neighbours.before[rows], _AFTER)):
                has_one = beside >= 0
                total[beside[has_one]] += share * own[has_one]
        if term in self._labels:
            total[np.frombuffer(self._labels[term], dtype=np.uint32)] += _LABEL
        total[~visible] = 0.0
        return total
