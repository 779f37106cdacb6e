"""Which rows have a term, and how often: three flat arrays for all terms together.

Two arrays for each term were simpler, but a user's few thousand terms were as many objects that Python's garbage collector walks
over: with a hundred users in memory it stopped the whole service for half a second at a time, and never found any garbage. These
are sorted by term, but for the newest ones, among which a term is looked for one by one.
"""

from array import array
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint32]

# So many newest ones, and a share of the sorted ones, may be unsorted: looking through them costs microseconds.
_UNSORTED_MIN: Final = 8192
_UNSORTED_SHARE: Final = 0.125


class Postings:
    """Rows come in ascending order."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        # Of term n they stand from `_starts[n]` to `_starts[n + 1]`, in the order of their coming.
        self._starts: NDArray[np.int64] = np.zeros(1, dtype=np.int64)
        self._rows: Numbers = np.zeros(0, dtype=np.uint32)
        self._counts: Numbers = np.zeros(0, dtype=np.uint32)
        self._new_terms, self._new_rows, self._new_counts = array("I"), array("I"), array("I")

    def __contains__(self, term: str) -> bool:
        return term in self._numbers

    def append(self, row: int, counts: Mapping[str, int]) -> None:
        """What the next row says, and how often."""
        numbers = self._numbers
        self._new_terms.extend([numbers.setdefault(term, len(numbers)) for term in counts])
        self._new_rows.extend([row] * len(counts))
        self._new_counts.extend(counts.values())

    def of(self, term: str) -> tuple[Numbers, Numbers]:
        """Rows that have the term, ascending, and how often each has it."""
        number = self._numbers.get(term)
        if number is None:
            return self._rows[:0], self._counts[:0]
        if len(self._new_terms) > _UNSORTED_MIN + _UNSORTED_SHARE * len(self._rows):
            self._sort()
        rows, counts = self._rows[:0], self._counts[:0]
        if number + 1 < len(self._starts):
            start, end = self._starts[number : number + 2]
            rows, counts = self._rows[start:end], self._counts[start:end]
        newest = np.flatnonzero(_numbers(self._new_terms) == number)
        if not len(newest):
            return rows, counts
        return (
            np.concatenate([rows, _numbers(self._new_rows)[newest]]),
            np.concatenate([counts, _numbers(self._new_counts)[newest]]),
        )

    def _sort(self) -> None:
        sorted_terms = np.repeat(np.arange(len(self._starts) - 1, dtype=np.uint32), np.diff(self._starts))
        terms = np.concatenate([sorted_terms, _numbers(self._new_terms)])
        order = np.argsort(terms, kind="stable")
        self._rows = np.concatenate([self._rows, _numbers(self._new_rows)])[order]
        self._counts = np.concatenate([self._counts, _numbers(self._new_counts)])[order]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(terms, minlength=len(self._numbers)))])
        self._new_terms, self._new_rows, self._new_counts = array("I"), array("I"), array("I")


def _numbers(values: "array[int]") -> Numbers:
    return np.frombuffer(values, dtype=np.uint32)
