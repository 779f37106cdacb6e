"""The ledger: verbatim, each text once, the most important first, and within its budget."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.compaction.ledger import extract, fitted, render_ledger, stands_in, unrepeated
from memory.truth.records import Line
from shared.memory_messages import LedgerItem, Role
from shared.tokens import estimate_tokens
from tests.memory.lines import LINES, line


def texts(entries: list[LedgerItem], kind: str) -> list[str]:
    return [entry.text for entry in entries if entry.kind == kind]


def test_every_text_stands_once_with_the_turn_that_said_it_first() -> None:
    entries = extract([line(7, "Open src/app.py please"), line(8, "src/app.py is open, and src/app.py is long")])

    assert [(entry.text, entry.seq) for entry in entries if entry.kind == "path"] == [("src/app.py", 7)]


def test_what_cannot_be_guessed_comes_before_what_can() -> None:
    entries = extract([line(1, "Ada asked Bob about 17 files in /srv/app/release, see PAY-42.", role="user")])

    assert [entry.kind for entry in entries] == ["id", "path", "number", "name"]


def test_what_a_person_typed_comes_before_what_a_tool_printed() -> None:
    entries = extract([line(1, "seen req_111aaa222b", role="tool"), line(2, "look at req_333ccc444d", role="user")])

    assert texts(entries, "id") == ["req_333ccc444d", "req_111aaa222b"]


def test_what_comes_often_comes_before_what_comes_once() -> None:
    entries = extract(
        [
            line(1, "a/b/one.py a/b/two.py", role="tool"),
            line(2, "a/b/two.py", role="tool"),
            line(3, "a/b/two.py", role="tool"),
        ]
    )

    assert texts(entries, "path") == ["a/b/two.py", "a/b/one.py"]


def test_single_digits_of_tools_mean_nothing_away_from_their_place() -> None:
    assert extract([line(1, "3 4 5", role="tool")]) == []
    assert texts(extract([line(1, "I have 3 children", role="user")]), "number") == ["3"]


def test_an_entry_within_another_one_is_not_told_again() -> None:
    entries = extract(
        [line(1, "$ pytest tests/api/test_orders.py --maxfail=12\nand then tests/api/test_orders.py, 12")]
    )

    assert render_ledger(fitted(entries, 100)) == "commands:\npytest tests/api/test_orders.py --maxfail=12"


def test_what_the_text_shows_is_not_told_again() -> None:
    entries = extract([line(1, "Port 8080 and port 9090 are open")])

    kept = fitted(entries, 100, shown="It listens on 8080.")

    assert texts(kept, "number") == ["9090"]
    assert unrepeated(entries, "8080, 9090") == []


@pytest.mark.parametrize(
    ("text", "within", "expected"),
    [("12", "a 12 b", True), ("12", "a 123 b", False), ("12", "x12", False), ("a.py", "src/a.py:3", True), ("a.py", "data.py", False),
     ("#12", "x#12,", True), ("12%", "12%a", True), ("abc", "", False)],
)  # fmt: skip
def test_words_stand_in_a_text_as_a_whole(text: str, within: str, *, expected: bool) -> None:
    assert stands_in(text, within) is expected


def test_a_text_can_be_asked_for_twice() -> None:
    assert stands_in("a b", "a b, a b", 2)
    assert not stands_in("a b", "a b, a bc", 2)


@given(LINES)
def test_every_entry_is_a_piece_of_the_turn_that_it_names_and_of_no_earlier_one(lines: list[Line]) -> None:
    entries = extract(lines)
    said = {each.seq: each.text for each in lines}

    assert len({entry.text for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.text in said[entry.seq]
        assert entry.text.strip()


@given(LINES)
def test_the_same_turns_make_the_same_ledger(lines: list[Line]) -> None:
    assert extract(lines) == extract(list(lines))


@given(LINES, st.integers(0, 200), st.text(max_size=20))
def test_a_ledger_keeps_to_its_budget_and_its_order(lines: list[Line], tokens_max: int, shown: str) -> None:
    entries = extract(lines)
    kept = fitted(entries, tokens_max, shown=shown)

    assert estimate_tokens(render_ledger(kept)) <= tokens_max
    assert kept == [entry for entry in entries if entry in kept]


@given(LINES)
def test_with_room_enough_every_entry_stands_in_what_is_rendered(lines: list[Line]) -> None:
    entries = extract(lines)
    rendered = render_ledger(fitted(entries, 1_000_000))

    assert all(stands_in(entry.text, rendered) for entry in entries)


@pytest.mark.parametrize("role", ["user", "tool"])
def test_a_turn_of_one_very_long_line_is_read_whole(role: Role) -> None:
    text = "x" * 200_000 + " /srv/app/end.py " + "word " * 20_000 + "req_8k2j3n4m5p"

    assert {entry.text for entry in extract([line(1, text, role=role)])} == {"/srv/app/end.py", "req_8k2j3n4m5p"}


def test_a_log_tells_its_error_once_before_it_tells_what_else_is_there() -> None:
    log = "\n".join(
        f"2024-03-05 12:00:{second:02} ERROR request {second}00 lost the worker" for second in range(10, 40)
    )
    kept = fitted(extract([line(1, log, role="tool")]), 60)

    assert sum(entry.kind == "error" for entry in kept) <= 1
    assert any(entry.kind == "number" for entry in kept)


def test_moments_are_not_part_of_it() -> None:
    moved = line(1, "see src/app.py")
    later = Line(
        seq=1, role=moved.role, speaker=moved.speaker, created_at=datetime(2030, 1, 1, tzinfo=UTC), text=moved.text
    )

    assert extract([moved]) == extract([later])
