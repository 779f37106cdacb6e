"""Terms and BM25, against the formula written out naively."""

import math
from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.recall.bm25 import Bm25, Neighbours
from memory.text.words import Words, written_date

documents = st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=1, max_size=12)


def naive(rows: list[list[str]], labels: list[str], visible: list[bool], query: dict[str, float]) -> list[float]:
    """The formula, a row at a time: rows are neighbours in pairs, 0 and 1, 2 and 3, and so on."""
    living = [row for row, lives in zip(rows, visible, strict=True) if lives]
    average = max(1.0, sum(map(len, living)) / len(living))

    def own(at: int, term: str) -> float:
        if not 0 <= at < len(rows) or not visible[at]:
            return 0.0
        return Counter(rows[at])[term] / (0.25 + 0.75 * len(rows[at]) / average)

    def frequency(at: int, term: str) -> float:
        if not visible[at]:
            return 0.0
        beside = 0.5 * own(at - 1, term) if at % 2 else 0.4 * own(at + 1, term)
        return own(at, term) + beside + 0.5 * (labels[at] == term)

    scores = [0.0] * len(rows)
    for term, worth in query.items():
        found = [frequency(at, term) for at in range(len(rows))]
        containing = sum(each > 0 for each in found)
        weight = math.log(1 + (len(living) - containing + 0.5) / (containing + 0.5))
        for at, each in enumerate(found):
            scores[at] += worth * weight * each * 2.2 / (each + 1.2)
    return scores


def neighbours_of(count: int) -> Neighbours:
    rows = np.arange(count, dtype=np.int32)
    before, after = np.where(rows % 2, rows - 1, -1), np.where((rows % 2 == 0) & (rows + 1 < count), rows + 1, -1)
    return Neighbours(before.astype(np.int32), after.astype(np.int32))


@given(documents, st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.2, 1.0]), max_size=5), st.data())
def test_bm25_is_the_formula_over_what_is_visible(
    rows: list[list[str]], query: dict[str, float], data: st.DataObject
) -> None:
    visible = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)).filter(any))
    labels = data.draw(st.lists(st.sampled_from("aghi"), min_size=len(rows), max_size=len(rows)))
    index = Bm25()
    for row, label in zip(rows, labels, strict=True):
        index.append(row, [label])

    found = index.scores(query, np.array(visible), neighbours_of(len(rows)))

    assert naive(rows, labels, visible, query) == pytest.approx(found.tolist())


def test_nothing_visible_scores_nothing() -> None:
    index = Bm25()
    index.append(["a"])

    assert index.scores({"a": 1.0}, np.array([False]), neighbours_of(1)).tolist() == [0.0]
    assert Bm25().scores({"a": 1.0}, np.zeros(0, dtype=bool), neighbours_of(0)).tolist() == []


@pytest.mark.parametrize(
    ("day", "written"),
    [(datetime(2023, 5, 9, tzinfo=UTC), "Tuesday 9 May 2023"), (datetime(1, 1, 1, tzinfo=UTC), "Monday 1 January 1")],
)
def test_a_day_is_written_as_people_write_it(day: datetime, written: str) -> None:
    assert written_date(day) == written


def test_identifiers_are_found_whole_and_in_parts() -> None:
    terms = Words().terms("Set retry_limit=3 in app.config")

    assert terms == ["set", "retri", "limit", "retry_limit", "3", "in", "app", "config"]


def test_words_that_make_a_question_one_are_worth_less_and_still_something() -> None:
    weights = Words().weights("What did the Who play?")

    assert weights["play"] == 1.0
    assert all(0.0 < weights[term] < 0.5 for term in ("what", "did", "the", "who"))
    assert Words().weights("retry_limit") == {"retri": 1.0, "limit": 1.0, "retry_limit": 1.0}


@given(st.text(max_size=300))
def test_any_text_has_terms_of_bounded_length(text: str) -> None:
    assert all(0 < len(term) <= 80 for term in Words().terms(text))
