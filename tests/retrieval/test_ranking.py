"""Repetition, variety and grouping, over lists that are made up and over random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.searching.ranking import Scored, best_of_each, diversified, without_duplicates
from shared.vectors import Float32Array

LONG = " ".join(f"word{number}" for number in range(60))


def ranked(*ids: int) -> list[Scored]:
    return [(chunk_id, 1.0 - position / 100) for position, chunk_id in enumerate(ids)]


def unit(rows: list[list[float]]) -> Float32Array:
    vectors = np.asarray(rows, dtype=np.float32)
    norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms


@st.composite
def lists_with_vectors(draw: st.DrawFn) -> tuple[list[Scored], Float32Array]:
    count = draw(st.integers(1, 12))
    scores = sorted(draw(st.lists(st.floats(-5, 5), min_size=count, max_size=count)), reverse=True)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return list(enumerate(scores)), unit(rng.normal(size=(count, 4)).tolist())


class TestNearDuplicates:
    @pytest.mark.parametrize(
        "repetition",
        [LONG, LONG.upper(), LONG.replace(" ", ",\n"), LONG.replace("word30", "word99"), LONG + " and more"],
        ids=["the same", "case", "white space and commas", "one word changed", "a few words more"],
    )
    def test_a_repetition_is_named_by_the_best_of_its_kind(self, repetition: str) -> None:
        texts = {1: LONG, 2: "something else entirely, of no great length", 3: repetition}

        kept = list(without_duplicates(ranked(1, 2, 3), texts))

        assert [(scored[0], same) for scored, same in kept] == [(1, [3]), (2, [])]

    @pytest.mark.parametrize(
        "other",
        [" ".join(reversed(LONG.split())), LONG[: len(LONG) // 2], LONG + " " + LONG.replace("word", "term")],
        ids=["another order", "half of it", "twice as much"],
    )
    def test_what_only_shares_words_stays(self, other: str) -> None:
        assert len(list(without_duplicates(ranked(1, 2), {1: LONG, 2: other}))) == 2

    def test_short_texts_are_the_same_only_as_a_whole(self) -> None:
        texts = {1: "port 7801", 2: "port 7802", 3: "Port: 7801", 4: "…", 5: "…", 6: "!"}

        kept = list(without_duplicates(ranked(1, 2, 3, 4, 5, 6), texts))

        assert [(scored[0], same) for scored, same in kept] == [(1, [3]), (2, []), (4, [5]), (6, [])]

    @given(st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=12), st.floats(0.1, 1))
    def test_the_groups_are_those_of_comparing_each_with_each(self, texts: list[str], resemblance_min: float) -> None:
        by_id = dict(enumerate(texts))
        expected: dict[int, list[int]] = {}
        for each, text in by_id.items():
            alike = next((kept for kept in expected if _resemblance(text, by_id[kept]) >= resemblance_min), None)
            if alike is None:
                expected[each] = []
            else:
                expected[alike].append(each)

        found = without_duplicates(ranked(*by_id), by_id, resemblance_min=resemblance_min)

        assert {scored[0]: same for scored, same in found} == expected

    @given(st.lists(st.text(alphabet="ab ", max_size=30), max_size=12))
    def test_every_chunk_is_kept_or_stands_behind_one_that_is(self, texts: list[str]) -> None:
        by_id = dict(enumerate(texts))

        kept = list(without_duplicates(ranked(*by_id), by_id))

        assert sorted(each for (chunk_id, _), same in kept for each in (chunk_id, *same)) == list(by_id)
        assert [scored for scored, _ in kept] == sorted((scored for scored, _ in kept), key=lambda pair: -pair[1])


def _resemblance(one: str, other: str) -> float:
    """Jaccard of runs of four words, or all of the words where there are fewer."""
    first, second = (
        {tuple(words[at : at + 4]) for at in range(max(1, len(words) - 3))} for words in (one.split(), other.split())
    )
    return len(first & second) / len(first | second)


class TestGrouping:
    def test_only_the_best_of_each_group_is_left(self) -> None:
        assert [each for each, _ in best_of_each(ranked(5, 3, 4, 1, 2), {5: 1, 3: 1, 4: 2, 1: 2, 2: 3})] == [5, 4, 2]

    def test_what_is_gone_meanwhile_is_left_out(self) -> None:
        assert [each for each, _ in best_of_each(ranked(1, 2), {2: 7})] == [2]


class TestDiversity:
    def test_the_second_is_unlike_the_first_though_less_relevant(self) -> None:
        candidates = [(1, 1.0), (2, 0.99), (3, 0.6), (4, 0.0)]
        vectors = unit([[1, 0], [1, 0.01], [0, 1], [-1, 0]])

        assert [each for each, _ in diversified(candidates, vectors, diversity=0.5)][:2] == [1, 3]

    def test_a_chunk_keeps_its_score(self) -> None:
        candidates = [(1, 0.9), (2, 0.1)]

        assert sorted(diversified(candidates, unit([[1, 0], [0, 1]]), diversity=1.0)) == candidates

    @given(lists_with_vectors())
    def test_without_diversity_nothing_changes(self, given_list: tuple[list[Scored], Float32Array]) -> None:
        candidates, vectors = given_list

        assert [score for _, score in diversified(candidates, vectors, diversity=0.0)] == [
            score for _, score in candidates
        ]

    @given(lists_with_vectors(), st.floats(0, 1))
    def test_each_choice_is_the_best_of_what_was_left(
        self, given_list: tuple[list[Scored], Float32Array], diversity: float
    ) -> None:
        candidates, vectors = given_list
        scores = [score for _, score in candidates]
        spread = max(scores) - min(scores)

        order = [chunk_id for chunk_id, _ in diversified(candidates, vectors, diversity=diversity)]

        def marginal(chunk_id: int, before: list[int]) -> float:
            relevance = (scores[chunk_id] - min(scores)) / spread if spread > 0 else 1.0
            nearest = max((float(vectors[chunk_id] @ vectors[each]) for each in before), default=0.0)
            return (1 - diversity) * relevance - diversity * max(0.0, nearest)

        assert sorted(order) == list(range(len(candidates)))
        for position, chosen in enumerate(order):
            rest = [marginal(each, order[:position]) for each in order[position:]]
            assert marginal(chosen, order[:position]) >= max(rest) - 1e-5

    def test_nothing_stays_nothing(self) -> None:
        assert list(diversified([], np.empty((0, 4), dtype=np.float32), diversity=0.5)) == []
