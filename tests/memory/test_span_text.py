"""What a span says: within its budget, with its ledger, from turns and from spans."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.compaction.ledger import stands_in
from memory.compaction.span_text import compose, compose_around, merge, render, text_tokens
from memory.truth.records import Line
from shared.memory_messages import LedgerItem
from shared.tokens import estimate_tokens
from tests.memory.hostile import GROWTH_MAX, HOSTILE_UNITS, growth
from tests.memory.lines import LINES, line


@dataclass(frozen=True)
class Child:
    text: str
    ledger: list[LedgerItem]
    first_seq: int


def child(lines: list[Line], tokens_max: int, first_seq: int) -> Child:
    composed = compose(lines, tokens_max)
    return Child(composed.text, composed.ledger, first_seq)


@given(LINES, st.integers(0, 300))
def test_a_span_keeps_to_its_budget_and_shows_all_of_its_ledger(lines: list[Line], tokens_max: int) -> None:
    composed = compose(lines, tokens_max)
    rendered = render(composed.text, composed.ledger)
    said = {each.seq: each.text for each in lines}

    assert estimate_tokens(rendered) <= tokens_max
    assert composed == compose(list(lines), tokens_max)
    for entry in composed.ledger:
        assert stands_in(entry.text, rendered)
        assert entry.text in said[entry.seq]


@given(st.lists(st.tuples(LINES, st.integers(0, 200)), max_size=4), st.integers(0, 300))
def test_spans_of_spans_keep_to_their_budget_too(below: list[tuple[list[Line], int]], tokens_max: int) -> None:
    children = [child(lines, budget, place) for place, (lines, budget) in enumerate(below)]
    merged = merge(children, tokens_max)
    rendered = render(merged.text, merged.ledger)
    known = {(entry.kind, entry.text, entry.seq) for each in children for entry in each.ledger}

    assert estimate_tokens(rendered) <= tokens_max
    assert merged == merge(children[::-1], tokens_max)
    for entry in merged.ledger:
        assert stands_in(entry.text, rendered)
        assert (entry.kind, entry.text, entry.seq) in known


@given(LINES)
def test_with_room_enough_no_identifier_is_lost_on_either_level(lines: list[Line]) -> None:
    composed = compose(lines, 100_000)
    merged = merge([Child(composed.text, composed.ledger, 1)], 100_000)

    assert {entry.text for entry in merged.ledger} == {entry.text for entry in composed.ledger}


@given(LINES, st.text(max_size=80), st.integers(0, 100))
def test_a_summary_made_elsewhere_gets_its_ledger_within_the_budget(lines: list[Line], text: str, more: int) -> None:
    tokens_max = estimate_tokens(text) + more
    composed = compose_around(lines, text, tokens_max)

    assert composed.text == text
    assert estimate_tokens(render(composed.text, composed.ledger)) <= tokens_max


def test_a_summary_made_elsewhere_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="the summary has 3 tokens, and the span may have 2"):
        compose_around([], "nine and a bit"[:12], 2)


@given(LINES, st.integers(0, 300))
def test_a_summary_made_elsewhere_may_have_its_share_at_least(lines: list[Line], tokens_max: int) -> None:
    assert int(0.1 * tokens_max) <= text_tokens(lines, tokens_max) <= tokens_max


@pytest.mark.parametrize("lines", [[], [line(1, "")], [line(1, " \n\t ")], [line(1, "```\n```", role="tool")]])
def test_turns_that_say_nothing_make_an_empty_span(lines: list[Line]) -> None:
    composed = compose(lines, 100)

    assert (composed.text, composed.ledger) == ("", [])
    assert render(composed.text, composed.ledger) == ""
    assert merge([Child("", [], 1), Child("", [], 5)], 100).text == ""


def test_a_span_is_a_summary_with_the_ledger_below() -> None:
    turns = [
        line(1, "The nightly export of the invoices has failed since Monday, can you find out why?", role="user", speaker="Ada"),
        line(2, "Reading its log.\n\n$ tail -n 40 /var/log/export/nightly.log", speaker="assistant"),
        line(3, "2024-03-05T02:00:01Z ERROR no space left on /dev/sda1 after 4096 MB", role="tool", speaker="shell"),
        line(4, "The disk of the export is full, so nothing was written. I will move old files away.", speaker="assistant"),
    ]  # fmt: skip
    composed = compose(turns, 90)
    rendered = render(composed.text, composed.ledger)

    assert rendered.startswith("Ada: The nightly export of the invoices has failed since Monday")
    # What stands in the error is not told again, and is in the ledger all the same.
    assert rendered.count("/dev/sda1") == 1
    assert ("path", "/dev/sda1", 3) in [(entry.kind, entry.text, entry.seq) for entry in composed.ledger]
    assert (
        rendered.endswith("commands:\ntail -n 40 /var/log/export/nightly.log")
        or "\ncommands:\ntail -n 40 /var/log/export/nightly.log\n" in rendered
    )
    assert "4096 MB" in rendered


def test_prose_has_a_part_of_the_budget_even_where_identifiers_would_fill_it() -> None:
    numbers = " ".join(str(number) for number in range(1000, 3000))
    turns = [
        line(1, "These are the ports of the test machines, none may be used twice.", role="user"),
        line(2, numbers, role="tool"),
    ]

    composed = compose(turns, 200)

    assert "ports of the test machines" in composed.text
    assert len(composed.ledger) > 100


@pytest.mark.parametrize(
    "text",
    [
        "我们把数据库从10.0.3.17移到了新的服务器,星期五之前要完成。张伟说备份在/backup/2024/db.sql里,大小是412 MB。",
        "データベースを10.0.3.17から新しいサーバーに移しました。バックアップは/backup/2024/db.sqlにあり、大きさは412 MBです。",
    ],
)
def test_other_scripts_keep_their_identifiers(text: str) -> None:
    composed = compose([line(seq, text) for seq in range(1, 4)], 200)
    rendered = render(composed.text, composed.ledger)

    assert "/backup/2024/db.sql" in rendered
    assert "10.0.3.17" in rendered
    assert "412 MB" in rendered


def test_a_huge_turn_of_one_line_is_said_within_the_budget() -> None:
    words = "The importer wrote record after record and did not stop " * 8000
    composed = compose([line(1, words + "/srv/import/last.json " + "A" * 300_000)], 300)

    assert 0 < estimate_tokens(render(composed.text, composed.ledger)) <= 300
    assert [entry.text for entry in composed.ledger] == ["/srv/import/last.json"]


@pytest.mark.parametrize("unit", HOSTILE_UNITS[::4])
def test_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    assert growth(lambda text: compose([line(1, text)], 200), unit) < GROWTH_MAX
