"""Fusion against values worked out by hand, and what holds for any two legs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.fusion import ListFusion, fuse, ranked, ranks
from tests.shared.strategies import PROPERTY

METHODS: tuple[ListFusion, ...] = ("relative", "rrf", "dbsf")
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)

# Scores of the legs are cosines and BM25 sums: far from the ends of the floats.
LEGS = st.dictionaries(st.integers(0, 30), st.floats(-100, 100, width=32), max_size=10)
ALPHAS = st.floats(0, 1)
DENSE = {1: 0.9, 2: 0.7, 3: 0.5}
LEXICAL = {2: 12.0, 4: 8.0, 3: 4.0}


def approximately(pairs: list[tuple[int, float]]) -> list[tuple[int, object]]:
    return [(item, pytest.approx(score)) for item, score in pairs]


def test_relative_scales_each_leg_to_its_own_range_and_weighs_it() -> None:
    # dense 1: 1, 2: 0.5, 3: 0; lexical 2: 1, 4: 0.5, 3: 0
    assert fuse(DENSE, LEXICAL, method="relative", alpha=0.5) == approximately(
        [(2, 0.75), (1, 0.5), (4, 0.25), (3, 0.0)]
    )
    assert fuse(DENSE, LEXICAL, method="relative", alpha=0.8) == approximately([(1, 0.8), (2, 0.6), (4, 0.1), (3, 0.0)])


def test_rrf_adds_the_reciprocals_of_ranks() -> None:
    half = 0.5
    expected = [
        (2, half / 62 + half / 61),
        (3, half / 63 + half / 63),
        (1, half / 61),
        (4, half / 62),
    ]

    assert fuse(DENSE, LEXICAL, method="rrf") == approximately(expected)


def test_the_constant_of_rrf_is_the_caller_s() -> None:
    assert fuse({1: 5.0, 2: 4.0}, {}, method="rrf", alpha=1.0, k=1) == approximately([(1, 1 / 2), (2, 1 / 3)])


def test_dbsf_scales_by_three_deviations_around_the_mean() -> None:
    # Mean 0.7; deviations of 0.2, 0 and -0.2 have a standard deviation of sqrt(0.08 / 3).
    spread = 3 * math.sqrt(0.08 / 3)
    top, bottom = (0.2 + spread) / (2 * spread), (-0.2 + spread) / (2 * spread)

    assert fuse(DENSE, {}, method="dbsf", alpha=1.0) == approximately([(1, top), (2, 0.5), (3, bottom)])


def test_dbsf_cuts_what_lies_beyond_three_deviations() -> None:
    leg = dict.fromkeys(range(20), 0.0) | {20: 1000.0}

    assert fuse(leg, {}, method="dbsf", alpha=1.0)[0] == (20, 1.0)


@EVERY_METHOD
def test_ties_are_broken_by_id(method: ListFusion) -> None:
    scores = {9: 0.5, 3: 0.5, 7: 0.5, 1: 0.1}

    fused = fuse(scores, scores, method=method)

    assert [item for item, _ in fused] == [3, 7, 9, 1]
    assert fused == fuse(dict(reversed(scores.items())), scores, method=method)


@EVERY_METHOD
def test_alpha_one_is_the_order_of_the_dense_leg(method: ListFusion) -> None:
    fused = fuse(DENSE, LEXICAL, method=method, alpha=1.0)

    assert [item for item, _ in fused] == [1, 2, 3, 4]
    assert dict(fused)[4] == 0.0


@EVERY_METHOD
def test_alpha_zero_is_the_order_of_the_lexical_leg(method: ListFusion) -> None:
    fused = fuse(DENSE, LEXICAL, method=method, alpha=0.0)

    assert [item for item, score in fused if score > 0][:2] == [2, 4]
    assert dict(fused)[1] == 0.0


@EVERY_METHOD
def test_two_empty_legs_give_nothing(method: ListFusion) -> None:
    assert fuse({}, {}, method=method) == []


@EVERY_METHOD
def test_one_empty_leg_leaves_the_other_s_order(method: ListFusion) -> None:
    assert [item for item, _ in fuse(DENSE, {}, method=method)] == [1, 2, 3]
    assert [item for item, _ in fuse({}, LEXICAL, method=method)] == [2, 4, 3]


@pytest.mark.parametrize("method", ["relative", "dbsf"])
def test_a_leg_whose_scores_are_all_the_same_counts_fully(method: ListFusion) -> None:
    assert fuse({1: 0.3, 2: 0.3}, {}, method=method, alpha=0.5) == [(1, 0.5), (2, 0.5)]
    assert fuse({}, {7: -4.0}, method=method, alpha=0.25) == [(7, 0.75)]


def test_ranks_start_at_one_and_follow_the_score() -> None:
    assert ranks({5: 0.1, 6: 0.9, 4: 0.1}) == {6: 1, 4: 2, 5: 3}
    assert ranked({5: 0.1, 6: 0.9, 4: 0.1}) == [(6, 0.9), (4, 0.1), (5, 0.1)]


@EVERY_METHOD
@PROPERTY
@given(dense=LEGS, lexical=LEGS, alpha=ALPHAS)
def test_every_id_of_either_leg_comes_back_once_best_first(
    method: ListFusion, dense: dict[int, float], lexical: dict[int, float], alpha: float
) -> None:
    fused = fuse(dense, lexical, method=method, alpha=alpha)

    assert sorted(item for item, _ in fused) == sorted(dense.keys() | lexical.keys())
    assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))
    assert all(0.0 <= score <= 1.0 + 1e-9 for _, score in fused)


@EVERY_METHOD
@PROPERTY
@given(dense=LEGS, lexical=LEGS, alpha=ALPHAS)
def test_the_order_of_the_input_does_not_matter(
    method: ListFusion, dense: dict[int, float], lexical: dict[int, float], alpha: float
) -> None:
    turned = (dict(reversed(dense.items())), dict(reversed(lexical.items())))

    assert dict(fuse(*turned, method=method, alpha=alpha)) == pytest.approx(
        dict(fuse(dense, lexical, method=method, alpha=alpha))
    )


@EVERY_METHOD
@PROPERTY
@given(dense=LEGS, alpha=st.floats(0.1, 1))
def test_within_one_leg_the_better_score_never_comes_later(
    method: ListFusion, dense: dict[int, float], alpha: float
) -> None:
    fused = dict(fuse(dense, {}, method=method, alpha=alpha))

    assert all(fused[first] >= fused[second] for first in dense for second in dense if dense[first] > dense[second])


@pytest.mark.parametrize("method", ["relative", "dbsf"])
@PROPERTY
@given(dense=st.dictionaries(st.integers(0, 9), st.integers(-50, 50).map(float), min_size=1), shift=st.integers(-9, 9))
def test_the_scale_of_a_leg_does_not_matter(method: ListFusion, dense: dict[int, float], shift: int) -> None:
    scaled = {item: 4.0 * score + shift for item, score in dense.items()}

    assert dict(fuse(scaled, LEXICAL, method=method)) == pytest.approx(dict(fuse(dense, LEXICAL, method=method)))
