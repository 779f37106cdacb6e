"""BM25 over the items of one scope, exact, with the scope's own statistics (Robertson and Zaragoza 2009, "The Probabilistic
Relevance Framework: BM25 and Beyond").

Kept in memory and changed in place. A shared full-text index was rejected: its word statistics span users, so what one
user writes would move another's ranking, and it scores everybody's matches before a filter drops them.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

# The usual values, which tantivy has too.
_K1: Final = 1.2
_B: Final = 0.75


class Bm25:
    """Rows are numbered by the caller, from 0 upwards without gaps."""

    def __init__(self) -> None:
        self._postings: dict[str, tuple[array[int], array[int]]] = {}
        self._lengths = array("I")

    def __len__(self) -> int:
        return len(self._lengths)

    def append(self, terms: Iterable[str]) -> None:
        """The next row."""
        row = len(self._lengths)
        counts = Counter(terms)
        for term, count in counts.items():
            rows, frequencies = self._postings.setdefault(term, (array("I"), array("I")))
            rows.append(row)
            frequencies.append(count)
        self._lengths.append(counts.total())

    def scores(self, terms: Iterable[str], alive: NDArray[np.bool_]) -> NDArray[np.float64]:
        """One score a row, 0 where no term occurs. Rows that are not `alive` count for nothing, statistics included."""
        scores = np.zeros(len(self._lengths))
        count = int(alive.sum())
        if count == 0:
            return scores
        lengths = np.frombuffer(self._lengths, dtype=np.uint32)
        norms = _K1 * (1 - _B + _B * lengths / max(1.0, float(lengths[alive].mean())))
        for term in set(terms):
            if term not in self._postings:
                continue
            rows, frequencies = (np.frombuffer(part, dtype=np.uint32) for part in self._postings[term])
            keep = alive[rows]
            rows, frequencies = rows[keep], frequencies[keep]
            weight = math.log(1 + (count - len(rows) + 0.5) / (len(rows) + 0.5))
            scores[rows] += weight * frequencies * (_K1 + 1) / (frequencies + norms[rows])
        return scores
