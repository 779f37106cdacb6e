"""Adaptive fusion: levels, the weight of a query, and what holds for any two legs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.fusion import dense_levels, dense_weight, fuse_adaptive, lexical_levels, ranked
from tests.shared.strategies import PROPERTY

LEVELS = st.dictionaries(st.integers(0, 30), st.floats(0.015625, 1, width=32), min_size=1, max_size=12)
SIMILARITIES = st.dictionaries(st.integers(0, 30), st.floats(-1, 1, width=32), min_size=1, max_size=12)
INNER_ALPHAS = st.floats(0.01, 0.99)


def test_levels_run_from_the_background_to_the_best_possible() -> None:
    assert dense_levels({1: 1.0, 2: 0.2, 3: 0.1}, 0.2) == pytest.approx({1: 1.0, 2: 0.0, 3: -0.125})
    assert lexical_levels({1: 8.0, 2: 0.0}, 16.0) == {1: 0.5, 2: 0.0}
    assert lexical_levels({1: 0.0}, 0.0) == {1: 0.0}
    assert dense_levels({1: 1.0}, 1.0) == {1: 0.0}


def test_the_weight_is_as_worked_out_by_hand() -> None:
    dense, lexical = {1: 0.8, 2: 0.4}, {1: 0.1, 2: 0.5}
    # Both have the same favourites: the dense leg gives them .6 / .8, the lexical one .3 / .5.
    odds = 1.5 * math.exp(4.0 * (0.3 / 0.5 - 0.6 / 0.8))

    fused, weight = fuse_adaptive(dense, lexical)

    assert weight == pytest.approx(odds / (1 + odds))
    assert dict(fused) == pytest.approx({1: weight * 0.8 + (1 - weight) * 0.1, 2: weight * 0.4 + (1 - weight) * 0.5})


def test_words_win_where_the_model_sees_no_difference() -> None:
    dense = {item: 0.2 + item / 1000 for item in range(20)}
    lexical = dict.fromkeys(range(20), 0.0) | {3: 0.6}

    assert fuse_adaptive(dense, lexical)[0][0][0] == 3
    assert dense_weight(dense, lexical) < 0.1


def test_meaning_wins_where_words_are_met_by_chance() -> None:
    dense = dict.fromkeys(range(20), 0.05) | {7: 0.7, 8: 0.65, 9: 0.6}
    lexical = {item: 0.1 if item < 12 else 0.12 for item in range(20)}

    assert [item for item, _ in fuse_adaptive(dense, lexical)[0][:3]] == [7, 8, 9]
    assert dense_weight(dense, lexical) > 0.9


@given(SIMILARITIES)
@PROPERTY
def test_a_silent_leg_leaves_the_other_s_order(leg: dict[int, float]) -> None:
    silent = dict.fromkeys(leg, 0.0)

    for nothing in ({}, silent):
        assert fuse_adaptive(leg, nothing) == (ranked({item: leg[item] + 0.0 for item in leg}), 1.0)
    loud = {item: abs(level) + 0.01 for item, level in leg.items()}
    assert fuse_adaptive({}, loud) == (ranked(loud), 0.0)


@given(LEVELS, LEVELS, INNER_ALPHAS)
@PROPERTY
def test_the_weight_and_the_scores_stay_between_the_legs(
    dense: dict[int, float], lexical: dict[int, float], alpha: float
) -> None:
    fused, weight = fuse_adaptive(dense, lexical, alpha=alpha)

    assert 0.0 < weight < 1.0
    assert [item for item, _ in fused] == [item for item, _ in ranked(dict(fused))]
    assert dense.keys() | lexical.keys() == {item for item, _ in fused}
    for item, score in fused:
        low, high = sorted((dense.get(item, 0.0), lexical.get(item, 0.0)))
        assert low - 1e-9 <= score <= high + 1e-9


@given(LEVELS, LEVELS, st.floats(0.25, 4))
@PROPERTY
def test_the_weight_does_not_depend_on_the_unit_of_a_leg(
    dense: dict[int, float], lexical: dict[int, float], unit: float
) -> None:
    scaled = {item: unit * level for item, level in lexical.items()}

    assert dense_weight(dense, scaled) == pytest.approx(dense_weight(dense, lexical), abs=1e-6)


@given(LEVELS, LEVELS, st.tuples(INNER_ALPHAS, INNER_ALPHAS))
@PROPERTY
def test_a_larger_alpha_never_takes_from_the_dense_leg(
    dense: dict[int, float], lexical: dict[int, float], alphas: tuple[float, float]
) -> None:
    smaller, larger = sorted(alphas)

    assert dense_weight(dense, lexical, alpha=smaller) <= dense_weight(dense, lexical, alpha=larger)
    assert dense_weight(dense, lexical, alpha=0.0) == 0.0
    assert dense_weight(dense, lexical, alpha=1.0) == 1.0


@given(LEVELS)
@PROPERTY
def test_what_is_better_in_both_legs_is_better_fused(leg: dict[int, float]) -> None:
    fused = [item for item, _ in fuse_adaptive(leg, {item: level / 2 for item, level in leg.items()})[0]]

    assert [leg[item] for item in fused] == sorted(leg.values(), reverse=True)


def test_ties_are_ordered_by_id() -> None:
    level = {5: 0.5, 2: 0.5, 9: 0.5}

    assert [item for item, _ in fuse_adaptive(level, level)[0]] == [2, 5, 9]
