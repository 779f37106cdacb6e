"""The library's measures, against values worked out by hand and against slow ones that are plainly right."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.evaluation.metrics import (
    evidence_names,
    metric_names,
    score_evidence,
    score_rankings,
)

# Names that would be ordered otherwise than they stand, where ties were broken by name.
NAMES = st.sampled_from(["z", "a", "m", "10", "9", "b:1", "é"])
RANKINGS = st.lists(NAMES, unique=True)
GRADES = st.dictionaries(NAMES, st.integers(1, 3), min_size=1)


def slow_ndcg(ranking: list[str], grades: dict[str, int], depth: int) -> float:
    def gain(found: list[int]) -> float:
        return sum(grade / math.log2(place + 1) for place, grade in enumerate(found[:depth], start=1))

    return gain([grades.get(each, 0) for each in ranking]) / gain(sorted(grades.values(), reverse=True))


def slow_rr(ranking: list[str], grades: dict[str, int], depth: int) -> float:
    return next((1 / place for place, each in enumerate(ranking[:depth], start=1) if each in grades), 0.0)


def slow_recall(ranking: list[str], grades: dict[str, int], depth: int) -> float:
    return len(set(ranking[:depth]) & set(grades)) / len(grades)


def test_metrics_are_as_worked_out_by_hand() -> None:
    # Gains are the grades themselves; places 1, 2 and 3 are discounted by 1, log2(3) and 2.
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    grades = {"q": {"a": 3, "b": 2, "c": 1}}

    scores = score_rankings({"q": ["b", "x", "a"]}, grades, (10, 2))["q"]

    assert list(scores) == metric_names((10, 2)) == ["nDCG@10", "MRR@10", "recall@10", "recall@2"]
    assert scores["nDCG@10"] == pytest.approx((2 + 3 / 2) / ideal)
    assert scores["MRR@10"] == 1.0
    assert scores["recall@10"] == pytest.approx(2 / 3)
    assert scores["recall@2"] == pytest.approx(1 / 3)
    assert score_rankings({"q": ["x", "y", "c"]}, grades, (10,))["q"]["MRR@10"] == pytest.approx(1 / 3)
    assert score_rankings({"q": ["a", "b", "c"]}, grades, (10,))["q"]["nDCG@10"] == pytest.approx(1.0)


@given(RANKINGS, GRADES, st.integers(1, 8))
def test_metrics_are_what_their_definitions_say(ranking: list[str], grades: dict[str, int], depth: int) -> None:
    scores = score_rankings({"q": ranking}, {"q": grades}, (depth,))["q"]

    assert scores[f"nDCG@{depth}"] == pytest.approx(slow_ndcg(ranking, grades, depth))
    assert scores[f"MRR@{depth}"] == pytest.approx(slow_rr(ranking, grades, depth))
    assert scores[f"recall@{depth}"] == pytest.approx(slow_recall(ranking, grades, depth))


def test_a_query_that_found_nothing_scores_nothing_and_counts() -> None:
    scores = score_rankings(
        {"found": ["a"], "empty": []}, {name: {"a": 1} for name in ("found", "empty", "none")}, (5,)
    )

    assert [scores[name]["recall@5"] for name in ("found", "empty", "none")] == [1.0, 0.0, 0.0]
    assert score_rankings({}, {"none": {"a": 1}}, (5,)) == {"none": dict.fromkeys(metric_names((5,)), 0.0)}


def test_a_document_that_comes_twice_counts_where_it_came_first() -> None:
    scores = score_rankings({"q": ["x", "a", "a", "b"]}, {"q": {"a": 1, "b": 1}}, (3,))["q"]

    assert (scores["MRR@3"], scores["recall@3"]) == (0.5, 1.0)


def test_evidence_is_found_in_part_or_in_whole() -> None:
    scores = score_evidence({"q": ["t1", "t9", "t2", "t3"]}, {"q": ["t2", "t3", "t1"]}, (1, 3, 5))["q"]

    assert set(scores) == set(evidence_names((1, 3, 5)))
    assert [scores[f"any@{depth}"] for depth in (1, 3, 5)] == [1.0, 1.0, 1.0]
    assert [scores[f"share@{depth}"] for depth in (1, 3, 5)] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert [scores[f"all@{depth}"] for depth in (1, 3, 5)] == [0.0, 0.0, 1.0]
    assert score_evidence({}, {"q": ["t1"]}, (5,))["q"] == {"any@5": 0.0, "share@5": 0.0, "all@5": 0.0}
