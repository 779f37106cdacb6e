"""Sentences, and the summary that is made of them: verbatim, within its budget, and the same every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.compaction.extractive import summarize
from memory.text.sentences import sentences
from memory.truth.records import Line
from shared.memory_messages import Role
from shared.tokens import estimate_tokens
from tests.memory.hostile import GROWTH_MAX, HOSTILE_UNITS, growth
from tests.memory.lines import LINES, line


def split(text: str, role: Role = "user") -> list[str]:
    return [sentence.text for sentence in sentences([line(1, text, role=role)])]


def test_a_turn_is_cut_at_the_ends_of_its_sentences() -> None:
    assert split("It failed. Why did it? Nobody knows!\nA new line") == [
        "It failed.", "Why did it?", "Nobody knows!", "A new line",
    ]  # fmt: skip
    assert split("サーバーが壊れた。直しました！ありがとう") == ["サーバーが壊れた。", "直しました！", "ありがとう"]


def test_abbreviations_and_decimals_do_not_end_a_sentence() -> None:
    assert split("Dr. Weiss waited for 1.5 hours, i.e. too long. Then she left.") == [
        "Dr. Weiss waited for 1.5 hours, i.e. too long.", "Then she left.",
    ]  # fmt: skip


def test_marks_of_lists_and_headings_are_left_away() -> None:
    assert split("## What we do\n- first this\n2. then *that*\n> and so on") == [
        "What we do", "first this", "then *that", "and so on",
    ]  # fmt: skip


def test_a_sentence_without_an_end_is_cut_where_it_may_be() -> None:
    parts = split("one word after another, " * 100)

    assert len(parts) > 1
    assert all(len(part) <= 320 for part in parts)
    assert " ".join(parts).split() == ("one word after another, " * 100).split()


def test_code_tables_and_commands_are_no_sentences() -> None:
    assert split("```python\nprint('It is here.')\n```\n| 1 | 2 | 3 |\n$ make all the things") == []


def test_tools_are_heard_only_where_nobody_else_spoke() -> None:
    turns = [line(1, "The build is green.", role="tool"), line(2, "Good to hear that.")]

    assert [each.text for each in sentences(turns)] == ["Good to hear that."]
    assert [each.text for each in sentences(turns[:1])] == ["The build is green."]


def test_a_summary_says_who_said_what_in_the_order_that_it_was_said() -> None:
    turns = [
        line(1, "We must move the invoices to the new store before Friday. Okay?", role="user", speaker="Ada"),
        line(2, "Okay, sure.", speaker="Bob"),
        line(3, "The invoices of March are moved, and those of April have wrong totals.", speaker="Bob"),
    ]

    assert summarize(turns, 35) == (
        "Ada: We must move the invoices to the new store before Friday.\n"
        "Bob: The invoices of March are moved, and those of April have wrong totals."
    )


def test_what_was_said_already_is_not_said_again() -> None:
    turns = [line(seq, "The invoices of March are lost.") for seq in range(1, 5)]
    turns.append(line(5, "A backup was found on the second server."))

    summary = summarize(turns, 30)

    assert summary.count("invoices") == 1
    assert "backup" in summary


def test_one_sentence_that_is_too_long_is_shortened_at_a_blank() -> None:
    summary = summarize([line(1, "Everything that we planned for the spring release is late", speaker="Ada")], 8)

    assert summary == "Ada: Everything that we planned"


@pytest.mark.parametrize(
    "lines", [[], [line(1, "")], [line(1, " \n\t "), line(2, "```\n```")], [line(1, "--- ... ---")]]
)
def test_where_nothing_was_said_there_is_no_summary(lines: list[Line]) -> None:
    assert summarize(lines, 100) == ""


def test_scripts_without_blanks_are_summed_up_by_what_they_repeat() -> None:
    turns = [
        line(1, "データベースの移行が失敗しました。"),
        line(2, "天気がいいですね。"),
        line(3, "データベースの移行をもう一度試します。"),
        line(4, "なるほど。"),
    ]

    assert "データベースの移行" in summarize(turns, 30)


@given(LINES, st.integers(0, 120))
def test_a_summary_keeps_to_its_budget_and_is_the_same_every_time(lines: list[Line], tokens_max: int) -> None:
    summary = summarize(lines, tokens_max)

    assert estimate_tokens(summary) <= tokens_max
    assert summary == summarize(list(lines), tokens_max)


@given(LINES)
def test_every_sentence_is_a_piece_of_its_turn_and_they_come_in_order(lines: list[Line]) -> None:
    found = sentences(lines)

    assert [(each.line, each.place) for each in found] == sorted({(each.line, each.place) for each in found})
    for each in found:
        assert each.text in lines[each.line].text
        assert 0 < len(each.text) <= 320
        assert each.text == each.text.strip()


@given(LINES)
def test_with_room_enough_a_summary_is_made_of_whole_sentences(lines: list[Line]) -> None:
    left = summarize(lines, 100_000)
    # The longest first: one may stand in another.
    for each in sorted(sentences(lines), key=lambda each: -len(each.text)):
        left = left.replace(each.text, "")
    for speaker in {each.speaker for each in lines}:
        left = left.replace(f"{speaker}: ", "")

    assert not left.strip()


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
def test_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    assert growth(lambda text: sentences([line(1, text)]), unit) < GROWTH_MAX
