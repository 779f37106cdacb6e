"""Intervals and differences: what must hold for any values, and what is known of some."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.evaluation.statistics import interval, paired, percentile

VALUES = st.lists(st.floats(0, 1).map(lambda value: round(value, 3)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=40)
@given(VALUES)
def test_an_interval_surrounds_its_mean_within_the_values_and_repeats(values: list[float]) -> None:
    found = interval(values)

    assert min(values) - 1e-9 <= found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high <= max(values) + 1e-9
    assert found.mean == pytest.approx(sum(values) / len(values))
    assert found.count == len(values)
    assert found == interval(values)


def test_an_interval_is_as_wide_as_the_normal_distribution_says() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 400).tolist()

    found = interval(values)

    expected = 1.96 * float(np.std(values)) / 20
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.1)


def test_more_queries_say_more() -> None:
    values = np.random.default_rng(1).uniform(size=50).tolist()
    few, many = interval(values), interval(values * 16)

    assert many.high - many.low < 0.4 * (few.high - few.low)


def test_values_without_spread_leave_chance_nothing() -> None:
    assert interval([0.25, 0.25]).low == interval([0.25]).high == 0.25


@settings(deadline=None, max_examples=20)
@given(VALUES, st.randoms(use_true_random=False))
def test_a_difference_turns_round_with_its_sides(ours: list[float], chance: random.Random) -> None:
    theirs = [chance.random() for _ in ours]
    there, back = paired(ours, theirs), paired(theirs, ours)

    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert (there.ours, there.better, there.worse) == (back.theirs, back.worse, back.better)
    assert there.p == pytest.approx(back.p, abs=0.03)
    assert 0.0 < there.p <= 1.0


def test_the_randomisation_test_is_exact_where_all_signs_can_be_tried() -> None:
    # Of the 32 ways to give five equal differences a sign, two are as far from 0 as what was seen.
    assert paired([0.6] * 5, [0.5] * 5).p == pytest.approx(2 / 32)
    # Of the 8 ways, all but the four whose sums are 0 or nearer to it: 3+2+1, 3+2-1 and their opposites.
    assert paired([0.3, 0.2, -0.1], [0.0, 0.0, 0.0]).p == pytest.approx(4 / 8)


def test_a_small_difference_everywhere_is_significant_and_a_large_one_by_chance_is_not() -> None:
    chance = random.Random(1)  # noqa: S311 - a test's dice
    theirs = [chance.random() for _ in range(200)]
    steady = paired([value + 0.01 for value in theirs], theirs)
    noisy = paired([chance.random() for _ in theirs], theirs)

    assert steady.difference.mean == pytest.approx(0.01)
    assert steady.p == pytest.approx(0.0002)
    assert steady.difference.low > 0.0
    assert noisy.p > 0.05
    assert noisy.difference.low < 0.0 < noisy.difference.high


def test_what_is_the_same_does_not_differ() -> None:
    same = paired([0.1, 0.9], [0.1, 0.9])

    assert (same.difference.mean, same.p, same.better, same.worse) == (0.0, 1.0, 0, 0)
    assert paired([1.0], [0.0]).p == 1.0
    with pytest.raises(ValueError, match="2 values cannot be paired with 1"):
        paired([1.0, 0.0], [1.0])


def test_percentiles_are_linear() -> None:
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([0.0, 10.0], 95) == pytest.approx(9.5)
