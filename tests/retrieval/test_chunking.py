"""Chunks are exact ranges of the text, within the limit, in order, and lose nothing."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.chunks.chunking import Limits, Range, TokenCounter, chunk
from retrieval.chunks.parsing import parse

_TOKEN = re.compile(r"\w+|[^\w\s]")
KINDS = st.sampled_from(["text/markdown", "text/plain", "text/html"])

# White space as it comes: some of it ends lines, some is not ASCII.
_words = st.text(alphabet=st.sampled_from("ab cd.\n!?;:é漢。、\t\f\u3000|#-`"), max_size=120)
_rows = st.lists(st.tuples(_words, _words), max_size=6).map(
    lambda rows: "| name | size |\n|---|---|\n" + "".join(f"| {a} | {b} |\n".replace("\n", " ") + "\n" for a, b in rows)
)
_code = st.lists(
    st.sampled_from(["def f(x):", "    return x + 1", "", "", "class A:", "    y = 'a b c d e f g'"]), max_size=14
)
_fenced = st.builds(
    lambda info, lines: f"```{info}\n" + "\n".join(lines) + "\n```", st.sampled_from(["", "python"]), _code
)
_items = st.lists(
    st.sampled_from(["- one two", "  - nested words here", "1. first", "- last one. And more."]), max_size=9
)
_html = st.sampled_from(
    ["<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>", "<pre>x\n\ny</pre>"]
)
markdown = st.lists(
    st.one_of(
        st.sampled_from(
            ["# One", "## Two", "### Three", "---", "Setext\n======", "> quoted\n> words", "[a]: http://b.example 'c'"]
        ),
        _words,
        _rows,
        _fenced,
        _items.map("\n".join),
        _html,
    ),
    max_size=10,
).map("\n\n".join)


def starts(text: str) -> list[int]:
    return [match.start() for match in _TOKEN.finditer(text)]


def headings_tokens(headings: tuple[str, ...]) -> int:
    return min(3, len(starts(" > ".join(headings))))


def cut(
    text: str,
    *,
    tokens_max: int,
    overlap: int = 0,
    kind: str = "text/markdown",
    context: int = 0,
    headings: bool = False,
) -> tuple[str, list[Range]]:
    parsed = parse(text, kind)
    counter = TokenCounter(starts(parsed.text))
    limits = Limits(
        tokens_max=tokens_max,
        overlap_tokens=overlap,
        context_tokens_max=context,
        headings_tokens=headings_tokens if headings else lambda _: 0,
    )
    return parsed.text, chunk(parsed.text, parsed.blocks, counter, limits)


def texts(text: str, *, tokens_max: int, kind: str = "text/markdown", context: int = 0) -> list[str]:
    stored, ranges = cut(text, tokens_max=tokens_max, kind=kind, context=context)
    return [stored[part.start : part.end] for part in ranges]


@settings(deadline=None)
@given(markdown, st.integers(1, 40), KINDS)
def test_every_token_is_in_exactly_one_chunk_and_no_chunk_exceeds_the_limit(text: str, limit: int, kind: str) -> None:
    stored, ranges = cut(text, tokens_max=limit, kind=kind)

    tokens = starts(stored)
    assert tokens == [token for part in ranges for token in tokens if part.start <= token < part.end]
    for part in ranges:
        assert sum(part.start <= token < part.end for token in tokens) <= limit
        assert stored[part.start : part.end].strip() == stored[part.start : part.end] != ""


@settings(deadline=None)
@given(markdown, st.integers(1, 40), KINDS)
def test_nothing_but_white_space_is_lost(text: str, limit: int, kind: str) -> None:
    stored, ranges = cut(text, tokens_max=limit, kind=kind, context=limit // 4)

    ends = [0, *(part.end for part in ranges)]
    gaps = [stored[end:start] for end, start in zip(ends, [*(part.start for part in ranges), len(stored)], strict=True)]
    assert "".join(gaps).strip() == ""


@settings(deadline=None)
@given(markdown, st.integers(8, 40), st.integers(0, 10), KINDS)
def test_the_limit_holds_with_headings_and_context(text: str, limit: int, context: int, kind: str) -> None:
    stored, ranges = cut(text, tokens_max=limit, kind=kind, context=context, headings=True)

    tokens = starts(stored)
    for part in ranges:
        repeated = stored[slice(*part.context)] if part.context else ""
        own = sum(part.start <= token < part.end for token in tokens)
        assert own + len(starts(repeated)) + headings_tokens(part.headings) <= limit
        assert len(starts(repeated)) <= context
        assert part.context is None or (part.context[0] < part.context[1] <= part.start)


@settings(deadline=None)
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


@settings(deadline=None)
@given(markdown, st.integers(1, 40), st.integers(0, 10))
def test_the_same_text_is_cut_the_same_way_and_a_chunk_is_not_cut_again(text: str, limit: int, overlap: int) -> None:
    assert cut(text, tokens_max=limit, overlap=overlap) == cut(text, tokens_max=limit, overlap=overlap)
    for part in texts(text, tokens_max=limit, kind="text/plain"):
        assert texts(part, tokens_max=limit, kind="text/plain") == [part]


def test_a_chunk_never_spans_two_sections() -> None:
    text = "# A\n\nalpha\n\n## B\n\nbeta\n\n# C\n\ngamma"

    stored, ranges = cut(text, tokens_max=100)

    assert [part.headings for part in ranges] == [("A",), ("A", "B"), ("C",)]
    assert [stored[part.start : part.end] for part in ranges] == ["# A\n\nalpha", "## B\n\nbeta", "# C\n\ngamma"]


def test_a_heading_without_text_joins_what_follows() -> None:
    stored, ranges = cut("# A\n\n## B\n\nbeta", tokens_max=100)

    assert [stored[part.start : part.end] for part in ranges] == ["# A\n\n## B\n\nbeta"]
    assert ranges[0].headings == ("A", "B")


def test_a_heading_stays_with_the_first_words_of_what_does_not_fit_behind_it() -> None:
    paragraph = "One two three four. Five six seven eight."

    assert texts(f"# Title\n\n{paragraph}", tokens_max=10) == [
        "# Title\n\nOne two three four.",
        "Five six seven eight.",
    ]


def test_a_list_and_a_code_block_stay_whole_when_they_fit() -> None:
    text = "intro words here\n\n- one\n- two\n- three\n\n```\nx = 1\n\ny = 2\n```"

    assert texts(text, tokens_max=12) == ["intro words here\n\n- one\n- two\n- three", "```\nx = 1\n\ny = 2\n```"]


def test_a_long_list_is_cut_between_items_before_it_is_cut_within_one() -> None:
    text = "- one two\n  - three four\n  - five six\n- seven eight\n  more words"

    assert texts(text, tokens_max=10) == ["- one two\n  - three four\n  - five six", "- seven eight\n  more words"]


def test_the_parts_of_a_long_table_have_its_header_as_context() -> None:
    rows = "\n".join(f"| part{n} | {n} |" for n in range(6))
    text = f"Sizes:\n\n| name | size |\n|---|---|\n{rows}\n\nThe end."

    stored, ranges = cut(text, tokens_max=26, context=8)

    assert [stored[part.start : part.end] for part in ranges] == [
        "Sizes:\n\n| name | size |\n|---|---|\n| part0 | 0 |\n| part1 | 1 |",
        "| part2 | 2 |\n| part3 | 3 |\n| part4 | 4 |\n| part5 | 5 |",
        "The end.",
    ]
    assert [stored[slice(*part.context)] if part.context else None for part in ranges] == [
        None,
        "| name | size |",
        None,
    ]


def test_code_is_cut_between_definitions_and_its_parts_know_the_language() -> None:
    text = "```python\ndef one():\n    a = 1\n\n    return a\n\ndef two():\n    b = 2\n\n    return b\n```"

    stored, ranges = cut(text, tokens_max=24, context=8)

    assert [stored[part.start : part.end] for part in ranges] == [
        "```python\ndef one():\n    a = 1\n\n    return a",
        "def two():\n    b = 2\n\n    return b\n```",
    ]
    assert [stored[slice(*part.context)] if part.context else None for part in ranges] == [None, "```python"]


def test_a_wrapped_paragraph_is_cut_after_a_sentence_and_not_where_a_line_ends() -> None:
    text = "One two three four five six\nseven eight. Nine ten eleven\ntwelve thirteen."

    assert texts(text, tokens_max=10) == [
        "One two three four five six\nseven eight.",
        "Nine ten eleven\ntwelve thirteen.",
    ]


def test_a_cut_goes_back_to_a_stronger_break_in_the_second_half() -> None:
    text = "One two three. Four five six.\nSeven eight. Nine ten eleven twelve. Thirteen."

    assert texts(text, tokens_max=12, kind="text/plain") == [
        "One two three. Four five six.",
        "Seven eight. Nine ten eleven twelve. Thirteen.",
    ]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    assert texts("One two three. Four five six. Seven eight nine.", tokens_max=8) == [
        "One two three. Four five six.",
        "Seven eight nine.",
    ]


def test_a_word_run_without_breaks_is_cut_between_words() -> None:
    assert texts("one two three four five six", tokens_max=4) == ["one two three four", "five six"]


def test_chinese_is_cut_after_its_full_stop() -> None:
    assert texts("漢字。仮名。文字。", tokens_max=4, kind="text/plain") == ["漢字。仮名。", "文字。"]


def test_white_space_alone_makes_no_chunk() -> None:
    assert cut(" \n\n ", tokens_max=10, kind="text/plain") == (" \n\n ", [])


def test_a_run_that_is_one_unknown_token_counts_as_many() -> None:
    run = "A" * 4000
    counter = TokenCounter.of(f"word {run} word", [0, 5, 4006])

    assert counter.count(0, 5) == 1
    assert counter.count(5, 4005) == pytest.approx(1000, abs=2)
    assert counter.count(4006, 4010) == 1


def test_a_character_of_many_tokens_is_not_cut_and_cutting_ends() -> None:
    blocks = parse("\ufdfa\ufdfa\ufdfa", "text/plain").blocks

    ranges = chunk("\ufdfa\ufdfa\ufdfa", blocks, TokenCounter([0, 0, 0, 1, 1, 1, 2, 2, 2]), Limits(tokens_max=2))

    assert [(part.start, part.end) for part in ranges] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("text", ["\n" * 30_000 + "a", "\n\f" * 30_000 + "a", " \n" * 30_000 + "a", "a\n \t" * 20_000])
def test_white_space_without_end_is_cut_in_time(text: str) -> None:
    stored, ranges = cut(f"```\nx\n{text}\n```", tokens_max=5)

    assert sum(len(starts(stored[part.start : part.end])) for part in ranges) == len(starts(stored))
