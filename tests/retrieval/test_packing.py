"""Packing an answer to a budget: passages within it, in order, without a text twice, and never without the best hit."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.searching.packing import CUT_TOKENS_MIN, Part, Passage, beginning_within, pack
from shared.tokens import estimate_tokens

WORDS = ("alpha", "beta gamma", "漢字 かな", "delta, epsilon; zeta", "eta " * 12 + "theta", "iota\tkappa", "é" * 9)
GAPS = (" ", "\n\n", "\n \t\n", "\u3000")


def library(texts: Sequence[Sequence[tuple[str, str, str]]]) -> tuple[list[str], list[Part]]:
    """Documents, each of (text, gap behind it, section), and their chunks."""
    documents: list[str] = []
    parts: list[Part] = []
    for document, chunks in enumerate(texts):
        whole = ""
        for ordinal, (text, gap, section) in enumerate(chunks):
            part = Part(
                chunk_id=len(parts),
                document=document,
                ordinal=ordinal,
                start=len(whole),
                end=len(whole) + len(text),
                section=section,
                cost=estimate_tokens(text),
            )
            parts.append(part)
            whole += text + gap
        documents.append(whole)
    return documents, parts


chunks = st.tuples(st.sampled_from(WORDS), st.sampled_from(GAPS), st.sampled_from("AAAB"))
libraries = st.lists(st.lists(chunks, min_size=1, max_size=12), min_size=1, max_size=3).map(library)


def packed(found: Sequence[Part], budget: int, parts: Sequence[Part]) -> list[Passage]:
    return pack(found, budget, lambda hits: [part for part in parts if any(_near(part, hit) for hit in hits)])


def _near(part: Part, hit: Part) -> bool:
    return part.document == hit.document and abs(part.ordinal - hit.ordinal) <= 3


@settings(deadline=None)
@given(libraries, st.integers(1, 120), st.data())
def test_a_packed_answer_keeps_the_budget_the_order_and_the_best_hit_and_repeats_nothing(
    made: tuple[list[str], list[Part]], budget: int, data: st.DataObject
) -> None:
    documents, parts = made
    found = data.draw(st.lists(st.sampled_from(parts), unique=True))

    passages = packed(found, budget, parts)

    texts = [read(documents, passage) for passage in passages]
    assert (not found) == (not passages)
    assert not found or passages[0].hits[0] == found[0]
    assert sum(map(estimate_tokens, texts)) <= budget
    assert estimate_tokens("".join(texts)) <= budget
    assert all(passage.tokens_max is None for passage in passages[:-1])
    rank = {part: at for at, part in enumerate(found)}
    assert [hit for passage in passages for hit in passage.hits] != [] or not found
    for passage in passages:
        assert [rank[hit] for hit in passage.hits] == sorted(rank[hit] for hit in passage.hits)
        assert all(passage.start <= hit.start and hit.end <= passage.end for hit in passage.hits)
        assert {hit.section for hit in passage.hits} == {passage.first.section}
        assert passage.first.start == passage.start
    assert [rank[passage.hits[0]] for passage in passages] == sorted(rank[passage.hits[0]] for passage in passages)
    for one, other in itertools.combinations(passages, 2):
        assert one.document != other.document or one.end <= other.start or other.end <= one.start


@settings(deadline=None)
@given(libraries, st.integers(1, 120), st.data())
def test_every_hit_that_fits_beside_those_before_it_is_in_the_answer(
    made: tuple[list[str], list[Part]], budget: int, data: st.DataObject
) -> None:
    _, parts = made
    found = data.draw(st.lists(st.sampled_from(parts), unique=True))

    kept = {hit for passage in packed(found, budget, parts) for hit in passage.hits}

    # The white space between touching hits costs at most three tokens on each side.
    if sum(part.cost + 6 for part in found) <= budget:
        assert set(found) == kept


def of_sections(*sections: str) -> list[Part]:
    return library([[("one two three", "\n\n", section) for section in sections]])[1]


def read(documents: Sequence[str], passage: Passage) -> str:
    text = documents[passage.document][passage.start : passage.end]
    return text if passage.tokens_max is None else beginning_within(text, passage.tokens_max)


def ordinals(passages: Sequence[Passage], parts: Sequence[Part]) -> list[list[int]]:
    return [
        [part.ordinal for part in parts if passage.start <= part.start and part.end <= passage.end]
        for passage in passages
    ]


def test_what_is_left_widens_a_hit_within_its_section() -> None:
    parts = of_sections("A", "B", "B", "B", "B", "C")

    assert ordinals(packed([parts[2]], 1000, parts), parts) == [[1, 2, 3, 4]]
    assert ordinals(packed([parts[2]], 2 * parts[2].cost + 2, parts), parts) == [[2, 3]]
    assert ordinals(packed([parts[2]], 2 * parts[2].cost + 1, parts), parts) == [[2]]


def test_hits_come_before_neighbours_and_touching_hits_become_one_passage() -> None:
    parts = of_sections(*"AAAAAAAA")

    passages = packed([parts[6], parts[1], parts[2]], 3 * parts[0].cost + 2, parts)

    assert ordinals(passages, parts) == [[6], [1, 2]]
    assert [[hit.ordinal for hit in passage.hits] for passage in passages] == [[6], [1, 2]]


def test_hits_are_widened_by_turns_the_best_one_first() -> None:
    parts = of_sections(*"AAAAAAAAAAAAAA")

    assert ordinals(packed([parts[10], parts[2]], 3 * parts[0].cost + 2, parts), parts) == [[10, 11], [2]]
    assert ordinals(packed([parts[10], parts[2]], 4 * parts[0].cost + 4, parts), parts) == [[10, 11], [2, 3]]


def test_two_hits_that_grow_together_are_one_passage_at_the_place_of_the_better_one() -> None:
    parts = of_sections(*"AAAAA")

    passages = packed([parts[4], parts[0]], 1000, parts)

    assert ordinals(passages, parts) == [[0, 1, 2, 3, 4]]
    assert [hit.ordinal for hit in passages[0].hits] == [4, 0]


def test_the_first_hit_that_does_not_fit_is_cut_where_a_sentence_of_it_does() -> None:
    _, parts = library([[("a " * 8, "\n", "A")], [("b " * 90, "\n", "A")], [("c", "\n", "A")]])

    passages = packed(parts, parts[0].cost + CUT_TOKENS_MIN, parts)

    assert [(passage.document, passage.tokens_max) for passage in passages] == [(0, None), (1, CUT_TOKENS_MIN)]
    passages = packed(parts, parts[0].cost + CUT_TOKENS_MIN - 1, parts)
    assert [(passage.document, passage.tokens_max) for passage in passages] == [(0, None), (2, None)]


def test_a_hit_of_which_little_fits_is_passed_over_unless_it_is_the_best() -> None:
    _, parts = library([[("a " * 40, "\n", "A")], [("b", "\n", "A")], [("c", "\n", "A")]])

    assert [passage.document for passage in packed([parts[1], parts[0], parts[2]], 2, parts)] == [1, 2]
    assert [passage.document for passage in packed([parts[0], parts[1]], 2, parts)] == [0]


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(0, 20))
def test_a_beginning_is_within_the_budget_and_as_long_as_words_allow(text: str, budget: int) -> None:
    beginning = beginning_within(text, budget)

    assert text.startswith(beginning)
    assert estimate_tokens(beginning) <= budget
    if estimate_tokens(text) > budget and text[:1].strip() and estimate_tokens(text[0]) <= budget:
        assert beginning


def test_a_beginning_ends_with_a_word_where_it_can() -> None:
    assert beginning_within("one two three", 2) == "one two"
    assert beginning_within("extraordinary", 2) == "extraord"
    assert beginning_within("漢字漢字", 2) == "漢字"


def test_a_hit_is_not_cut_beside_a_neighbour_whose_text_it_repeats() -> None:
    _, (first, second) = library([[("a " * 90, "", "A"), ("b " * 90, "", "A")]])
    overlapping = replace(second, start=second.start - 20)
    budget = first.cost + CUT_TOKENS_MIN

    assert [passage.tokens_max for passage in packed([first, second], budget, [])] == [None, CUT_TOKENS_MIN]
    assert [passage.tokens_max for passage in packed([first, overlapping], budget, [])] == [None]
