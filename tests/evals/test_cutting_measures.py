"""The measures of excerpts against counting characters one by one, and the plain cutters against what they promise."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.cutters import every_so_many, recursively
from evals.excerpts import Span, best_precision, coverage, within

spans = st.lists(
    st.builds(
        lambda corpus, start, length: Span(corpus, start, start + length),
        st.sampled_from("ab"),
        st.integers(0, 30),
        st.integers(1, 9),
    ),
    max_size=6,
)


def characters(parts: list[Span]) -> set[tuple[str, int]]:
    return {(part.corpus, at) for part in parts for at in range(part.start, part.end)}


@given(spans.filter(bool), spans)
def test_coverage_is_that_of_characters_counted_one_by_one(excerpts: list[Span], retrieved: list[Span]) -> None:
    sought, found = characters(excerpts), characters(excerpts) & characters(retrieved)
    read = sum(part.length for part in retrieved)

    measured = coverage(excerpts, retrieved)

    assert measured.recall == pytest.approx(len(found) / len(sought))
    assert measured.precision == pytest.approx(len(found) / read if read else 0.0)
    assert measured.iou == pytest.approx(len(found) / (read + len(sought - found)))


@given(spans, st.integers(0, 40))
def test_within_keeps_the_first_characters(retrieved: list[Span], limit: int) -> None:
    kept = within(retrieved, limit)

    assert sum(part.length for part in kept) == min(limit, sum(part.length for part in retrieved))
    assert [part.start for part in kept] == [part.start for part in retrieved[: len(kept)]]


def test_the_best_precision_is_of_the_chunks_that_touch_an_excerpt() -> None:
    chunks = [Span("a", 0, 10), Span("a", 10, 20), Span("b", 0, 10)]

    assert best_precision([Span("a", 8, 12)], chunks) == pytest.approx(4 / 20)


@settings(deadline=None)
@given(st.text(alphabet="ab. \n", max_size=200), st.integers(1, 9))
def test_cutters_keep_the_limit_and_lose_no_token(text: str, tokens: int) -> None:
    starts = [at for at, character in enumerate(text) if not character.isspace()]

    for cut in (every_so_many, recursively):
        ranges = cut(text, starts, tokens=tokens, overlap=0)
        assert [at for start, end in ranges for at in starts if start <= at < end] == starts
        assert all(sum(start <= at < end for at in starts) <= tokens for start, end in ranges)


def test_overlap_repeats_the_end_of_the_chunk_before() -> None:
    text = "a b c d e f"
    starts = list(range(0, 11, 2))

    assert every_so_many(text, starts, tokens=4, overlap=2) == [(0, 8), (4, 11)]
    assert recursively(text, starts, tokens=4, overlap=2) == [(0, 8), (4, 11)]


def test_recursive_cutting_prefers_paragraphs_to_lines_and_lines_to_words() -> None:
    text = "a b\nc d\n\ne f"
    starts = [at for at, character in enumerate(text) if not character.isspace()]

    def parts(tokens: int) -> list[str]:
        return [text[slice(*part)].strip() for part in recursively(text, starts, tokens=tokens, overlap=0)]

    assert parts(4) == ["a b\nc d", "e f"]
    assert parts(3) == ["a b", "c d", "e f"]
