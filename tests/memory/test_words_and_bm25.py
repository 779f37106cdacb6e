"""Terms and BM25, against the formula written out naively."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.bm25 import Bm25
from memory.words import Words

documents = st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), min_size=1, max_size=12)


def naive(rows: list[list[str]], alive: list[bool], query: list[str]) -> list[float]:
    living = [row for row, lives in zip(rows, alive, strict=True) if lives]
    average = max(1.0, sum(map(len, living)) / len(living))
    scores = []
    for row, lives in zip(rows, alive, strict=True):
        score = 0.0
        for term in set(query):
            frequency, containing = Counter(row)[term], sum(term in other for other in living)
            weight = math.log(1 + (len(living) - containing + 0.5) / (containing + 0.5))
            score += (
                weight * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(row) / average)) if frequency else 0.0
            )
        scores.append(score if lives else 0.0)
    return scores


@given(documents, st.lists(st.sampled_from("abcdefgh"), max_size=5), st.data())
def test_bm25_is_the_formula_over_what_is_alive(rows: list[list[str]], query: list[str], data: st.DataObject) -> None:
    alive = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)).filter(any))
    index = Bm25()
    for row in rows:
        index.append(row)

    assert naive(rows, alive, query) == pytest.approx(index.scores(query, np.array(alive)).tolist())


def test_nothing_alive_scores_nothing() -> None:
    index = Bm25()
    index.append(["a"])

    assert index.scores(["a"], np.array([False])).tolist() == [0.0]
    assert Bm25().scores(["a"], np.zeros(0, dtype=bool)).tolist() == []


def test_identifiers_are_found_whole_and_in_parts() -> None:
    terms = Words().terms("Set retry_limit=3 in app.config")

    assert terms == ["set", "retri", "limit", "retry_limit", "3", "in", "app", "config"]


@given(st.text(max_size=300))
def test_any_text_has_terms_of_bounded_length(text: str) -> None:
    assert all(0 < len(term) <= 80 for term in Words().terms(text))
