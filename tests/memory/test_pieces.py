"""A long source is cut into pieces that fit, and nothing of it is lost."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.models.pieces import pack, render, split, spoken, whole_sentences
from memory.truth.records import Line
from shared.memory_messages import Role
from shared.tokens import estimate_tokens

AT = datetime(2026, 5, 8, 13, 56, tzinfo=UTC)
TEXTS = st.text(st.sampled_from("ab .\n!\u3002\u65e5\u00e9\U0001f600"), max_size=400)


def line(text: str, *, role: Role = "user", speaker: str | None = None, seq: int = 1) -> Line:
    return Line(seq=seq, role=role, speaker=speaker or role, created_at=AT, text=text)


def visible(text: str) -> str:
    return "".join(text.split())


@given(text=TEXTS, tokens_max=st.integers(min_value=2, max_value=60))
def test_parts_of_a_text_fit_and_make_it_whole_again(text: str, tokens_max: int) -> None:
    parts = list(split(text, tokens_max))

    assert all(0 < estimate_tokens(part) <= tokens_max for part in parts)
    assert visible("".join(parts)) == visible(text)


@given(texts=st.lists(TEXTS, max_size=8))
def test_pieces_fit_are_in_order_and_leave_nothing_out(texts: list[str]) -> None:
    rendered = render([line(text, speaker="Ada") for text in texts], 256)
    pieces = pack(rendered, 256)

    assert all(estimate_tokens(piece) <= 256 for piece in pieces)
    assert "\n".join(pieces) == "\n".join(rendered)
    assert all(estimate_tokens(f"{a}\n{b}") > 256 for a, b in itertools.pairwise(pieces))


def test_a_turn_says_who_spoke_and_when() -> None:
    lines = [line("Hi."), line("Hello.", role="assistant", speaker="Bo"), line("3 files", role="tool", speaker="ls")]

    assert render(lines, 256) == [
        "[2026-05-08 13:56] user: Hi.",
        "[2026-05-08 13:56] Bo (assistant): Hello.",
        "[2026-05-08 13:56] ls (tool): 3 files",
    ]


def test_a_turn_that_is_too_long_is_cut_between_sentences_and_goes_on_under_its_speaker() -> None:
    sentences = [f"Sentence number {number} is here." for number in range(100)]
    first, second, *rest = render([line(" ".join(sentences), speaker="Ada")], 256)

    assert first.startswith("[2026-05-08 13:56] Ada (user): Sentence number 0 is here. Sentence")
    assert second.startswith("[2026-05-08 13:56] Ada (user), continued: Sentence number")
    assert all(part.endswith("is here.") for part in (first, second, *rest))


def test_turns_without_words_are_none_and_broken_characters_are_replaced() -> None:
    assert render([line(" \n ")], 256) == []
    assert render([line("a\ud800b")], 256) == ["[2026-05-08 13:56] user: a?b"]


def test_tools_do_not_speak() -> None:
    assert spoken([line("Hallo."), line("total 0", role="tool"), line("Ja.", role="assistant")]) == "Hallo.\nJa."


@pytest.mark.parametrize(
    ("text", "tokens_max", "kept"),
    [
        ("One is here. Two is there. Three", 100, "One is here. Two is there."),
        ("One is here. Two is there.", 5, "One is here."),
        ("Version 3.5 of main.py runs. It", 100, "Version 3.5 of main.py runs."),
        ('He said "no." Then', 100, 'He said "no."'),
        ("\u4eca\u65e5\u3002\u660e", 100, "\u4eca\u65e5\u3002"),
        ("no end", 100, ""),
        ("", 100, ""),
    ],
)
def test_a_text_is_cut_at_the_end_of_a_sentence(text: str, tokens_max: int, kept: str) -> None:
    assert whole_sentences(text, tokens_max) == kept


@given(text=TEXTS, tokens_max=st.integers(min_value=2, max_value=60))
def test_what_is_kept_is_a_start_that_fits(text: str, tokens_max: int) -> None:
    kept = whole_sentences(text, tokens_max)

    assert text.startswith(kept)
    assert estimate_tokens(kept) <= tokens_max
