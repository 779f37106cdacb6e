"""The measures, against values worked out by hand and what must hold for any ranking."""

import math
import random

import pytest

from evals.scoring import best_of_each, ndcg, paired_bootstrap, recall


def test_ndcg_is_as_trec_eval_has_it() -> None:
    # Gains are the grades themselves; ranks 1, 2 and 3 are discounted by 1, log2(3) and 2.
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert ndcg(["b", "x", "a"], {"a": 3, "b": 2, "c": 1}, depth=10) == pytest.approx((2 + 3 / 2) / ideal)
    assert ndcg(["a", "b", "c"], {"a": 3, "b": 2, "c": 1}, depth=10) == pytest.approx(1.0)
    assert ndcg(["x", "a"], {"a": 1}, depth=1) == 0.0
    assert ndcg(["a"], {"a": 1, "b": 1}, depth=1) == 1.0
    assert ndcg([], {"a": 1}, depth=10) == 0.0
    assert ndcg(["a"], {}, depth=10) == 0.0


def test_recall_is_the_share_of_what_is_relevant() -> None:
    assert recall(["a", "x", "b"], {"a": 1, "b": 2, "c": 1, "d": 0}, depth=3) == pytest.approx(2 / 3)
    assert recall(["a", "x", "b"], {"a": 1, "b": 2}, depth=2) == 0.5
    assert recall(["a"], {"a": 0}, depth=2) == 0.0


def test_a_document_stands_where_its_best_chunk_stands() -> None:
    assert best_of_each([("a", 0.4), ("b", 0.9), ("a", 0.95), ("c", 0.9)]) == ["a", "b", "c"]
    assert best_of_each([]) == []


def test_the_bootstrap_surrounds_the_mean_and_repeats() -> None:
    chance = random.Random(1)  # noqa: S311 - a test's dice
    ours = [chance.random() for _ in range(200)]
    theirs = [value - 0.1 + 0.02 * chance.random() for value in ours]

    difference = paired_bootstrap(ours, theirs)

    assert difference.low < difference.mean < difference.high
    assert difference.mean == pytest.approx(0.09, abs=0.005)
    assert difference == paired_bootstrap(ours, theirs)
    assert paired_bootstrap(ours, ours).high == 0.0
