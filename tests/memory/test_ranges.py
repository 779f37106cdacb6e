"""Ranges say what a set of numbers says, and the check of the invariant allows exactly the gaps that they name."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.compaction.coverage import Covered, coverage_problems
from memory.forgetting.remaking import Remakes, plan_remakes
from memory.truth.ranges import Ranges

NUMBERS = st.sets(st.integers(1, 40))


@given(NUMBERS, NUMBERS, st.integers(1, 40), st.integers(0, 40))
def test_they_are_a_set_of_numbers(one: set[int], other: set[int], first: int, last: int) -> None:
    together = Ranges.of(one) | Ranges.of(other)
    assert together.holds(first, last) == (one | other).issuperset(range(first, last + 1))
    assert {number for low, high in together for number in range(low, high + 1)} == one | other
    ranges = list(together)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))


def span(key: int, level: int, first_seq: int, last_seq: int, parent: int | None = None) -> Covered:
    return Covered(id=key, level=level, first_seq=first_seq, last_seq=last_seq, parent=parent)


@pytest.mark.parametrize(
    ("spans", "tail_from", "erased", "is_sound"),
    [
        ([span(1, 0, 3, 4), span(2, 0, 6, 8)], 10, [1, 2, 5, 9], True),
        ([span(1, 0, 3, 4), span(2, 0, 6, 8)], 10, [1, 2, 9], False),
        ([span(1, 0, 3, 4), span(2, 0, 6, 8)], 10, [2, 5, 9], False),
        ([span(1, 0, 3, 4), span(2, 0, 6, 8)], 10, [1, 2, 5], False),
        ([], 4, [1, 2, 3], True),
        ([], 4, [1, 3], False),
    ],
)
def test_only_what_was_erased_may_be_missing(
    spans: list[Covered], tail_from: int, erased: list[int], *, is_sound: bool
) -> None:
    assert (coverage_problems(spans, tail_from, Ranges.of(erased)) == []) is is_sound


LADDER = [
    (span(1, 0, 1, 4, 8), 4),
    (span(2, 0, 5, 5, 8), 1),
    (span(3, 0, 6, 8, 9), 3),
    (span(4, 0, 9, 9), 1),
    (span(8, 1, 1, 5, 10), 5),
    (span(9, 1, 6, 8, 10), 3),
    (span(10, 2, 1, 8), 8),
]


@pytest.mark.parametrize(
    ("erased", "remade", "gone"),
    [
        ([], [], []),
        ([2], [1, 8, 10], []),
        ([5], [8, 10], [2]),
        ([6, 7, 8], [10], [3, 9]),
        ([9, 12], [], [4]),
        (list(range(1, 9)), [], [1, 2, 3, 8, 9, 10]),
    ],
)
def test_a_span_is_made_anew_when_something_below_it_goes_and_goes_with_all_of_it(
    erased: list[int], remade: list[int], gone: list[int]
) -> None:
    assert plan_remakes(LADDER, erased) == Remakes(remade, gone)
