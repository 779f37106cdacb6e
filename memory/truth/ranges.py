"""Sets of turns' numbers, kept as ranges: what is erased from a session is mostly its oldest part. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final


class Ranges:
    """Never changes. Ranges that touch are one."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        """`ranges` are of a first and a last number, in any order; they may overlap."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(ranges):
            if self._lasts and first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(last, self._lasts[-1])
            else:
                self._firsts.append(first)
                self._lasts.append(last)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> "Ranges":
        return cls((number, number) for number in numbers)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._firsts, self._lasts, strict=True)

    def __or__(self, other: "Ranges") -> "Ranges":
        return Ranges([*self, *other])

    def holds(self, first: int, last: int) -> bool:
        """Whether all from `first` to `last` are in it; of none, true."""
        place = bisect_right(self._firsts, first) - 1
        return last < first or (place >= 0 and last <= self._lasts[place])


NONE: Final = Ranges()
