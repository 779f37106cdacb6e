"""Chunks are exact ranges of the text, within the limit, in order, and lose nothing."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunking import Range, TokenCounter, chunk
from retrieval.parsing import parse

_TOKEN = re.compile(r"\w+|[^\w\s]")

markdown = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "# One",
                "## Two",
                "### Three",
                "- a\n- b",
                "```\ncode here\n```",
                "| a | b |\n|---|---|\n| 1 | 2 |",
                "---",
            ]
        ),
        st.text(alphabet=st.sampled_from("ab cd.\n!?;:é漢。\t"), max_size=120),
    ),
    max_size=12,
).map("\n\n".join)


def starts(text: str) -> list[int]:
    return [match.start() for match in _TOKEN.finditer(text)]


def cut(text: str, *, tokens_max: int, overlap: int = 0, kind: str = "text/markdown") -> tuple[str, list[Range]]:
    parsed = parse(text, kind)
    counter = TokenCounter(starts(parsed.text))
    return parsed.text, chunk(parsed.text, parsed.blocks, counter, tokens_max=tokens_max, overlap_tokens=overlap)


@given(markdown, st.integers(1, 40), st.sampled_from(["text/markdown", "text/plain", "text/html"]))
def test_every_token_is_in_exactly_one_chunk_and_no_chunk_exceeds_the_limit(text: str, limit: int, kind: str) -> None:
    stored, ranges = cut(text, tokens_max=limit, kind=kind)

    covered = [token for part in ranges for token in starts(stored) if part.start <= token < part.end]
    assert starts(stored) == covered
    for part in ranges:
        assert sum(part.start <= token < part.end for token in starts(stored)) <= limit
        assert stored[part.start : part.end].strip() == stored[part.start : part.end] != ""


@given(markdown, st.integers(4, 40), st.integers(0, 20))
def test_overlap_repeats_whole_units_and_keeps_the_limit_and_the_order(text: str, limit: int, overlap: int) -> None:
    stored, ranges = cut(text, tokens_max=limit, overlap=overlap)

    tokens = starts(stored)
    assert {token for token in tokens for part in ranges if part.start <= token < part.end} == set(tokens)
    for part in ranges:
        assert sum(part.start <= token < part.end for token in tokens) <= limit
    for earlier, later in itertools.pairwise(ranges):
        assert earlier.start < later.start
        assert earlier.end < later.end
        assert sum(later.start <= token < earlier.end for token in tokens) <= overlap


def test_a_chunk_never_spans_two_sections() -> None:
    text = "# A\n\nalpha\n\n## B\n\nbeta\n\n# C\n\ngamma"

    stored, ranges = cut(text, tokens_max=100)

    assert [part.headings for part in ranges] == [("A",), ("A", "B"), ("C",)]
    assert [stored[part.start : part.end] for part in ranges] == ["# A\n\nalpha", "## B\n\nbeta", "# C\n\ngamma"]


def test_a_heading_without_text_joins_what_follows() -> None:
    stored, ranges = cut("# A\n\n## B\n\nbeta", tokens_max=100)

    assert [stored[part.start : part.end] for part in ranges] == ["# A\n\n## B\n\nbeta"]
    assert ranges[0].headings == ("A", "B")


def test_a_list_and_a_code_block_stay_whole_when_they_fit() -> None:
    text = "intro words here\n\n- one\n- two\n- three\n\n```\nx = 1\n\ny = 2\n```"

    stored, ranges = cut(text, tokens_max=12)

    assert [stored[part.start : part.end] for part in ranges] == [
        "intro words here\n\n- one\n- two\n- three",
        "```\nx = 1\n\ny = 2\n```",
    ]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    stored, ranges = cut("One two three. Four five six. Seven eight nine.", tokens_max=8)

    assert [stored[part.start : part.end] for part in ranges] == ["One two three. Four five six.", "Seven eight nine."]


def test_a_word_run_without_breaks_is_cut_between_tokens() -> None:
    stored, ranges = cut("one two three four five six", tokens_max=4)

    assert [stored[part.start : part.end] for part in ranges] == ["one two three four", "five six"]


def test_chinese_is_cut_after_its_full_stop() -> None:
    stored, ranges = cut("漢字。仮名。文字。", tokens_max=4, kind="text/plain")

    assert [stored[part.start : part.end] for part in ranges] == ["漢字。仮名。", "文字。"]


def test_white_space_alone_makes_no_chunk() -> None:
    assert cut(" \n\n ", tokens_max=10, kind="text/plain") == (" \n\n ", [])
