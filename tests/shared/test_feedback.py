"""What judging means, whatever is judged: the later judgment holds, however they arrive."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Conflict, InvalidFields
from shared.feedback import Remark, Verdict, check_room, grade_of, moment_of, question_hash, replacing, verdicts
from shared.feedback_messages import JUDGMENTS_MAX

NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
sayings = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=8)


@given(sayings, st.randoms(use_true_random=False))
def test_any_order_of_arrival_with_any_repeats_ends_the_same(
    said: list[tuple[str, int, int]], random: st.DataObject
) -> None:
    other = [*said, *said]
    random.shuffle(other)  # type: ignore[attr-defined]  # a random.Random

    assert held(said) == held(other)
    for item, verdict in held(said).items():
        latest = max(day for name, _, day in said if name == item)
        assert verdict.judged_at == str(latest)
        assert verdict.relevance == max(grade for name, grade, day in said if (name, day) == (item, latest))


def held(said: list[tuple[str, int, int]]) -> dict[str, Verdict]:
    stored: dict[str, Verdict] = {}
    for item, grade, day in said:
        stored |= replacing(stored, {item: Verdict(str(day), grade)})
    return stored


@given(st.permutations([("x", "1"), ("y", "2"), (None, "3"), ("z", "2")]))
def test_a_comment_follows_the_same_rule(said: list[tuple[str | None, str]]) -> None:
    remark = Remark()
    for text, moment in said:
        remark = remark.or_newer(text, moment)

    assert remark == Remark(text="z", made_at="2")


def test_right_and_wrong_are_grades() -> None:
    assert [grade_of("right"), grade_of("wrong"), grade_of(0), grade_of(3)] == [1, 0, 0, 3]


def test_a_moment_that_is_yet_to_come_is_now() -> None:
    assert moment_of(NOW + timedelta(days=1), NOW) == moment_of(None, NOW) == "2026-03-01T10:00:00.000000+00:00"
    assert moment_of(NOW - timedelta(days=1), NOW) < moment_of(None, NOW)


def test_an_item_is_judged_once_in_a_request() -> None:
    with pytest.raises(InvalidFields) as caught:
        verdicts([("a", 1), ("b", 1), ("a", "wrong")], moment="", key_id=None, place="$.judgments")

    assert [error.path for error in caught.value.errors] == ["$.judgments[2]"]


def test_what_is_asked_is_told_apart_by_all_of_it() -> None:
    assert question_hash("q", {"a": 1, "b": 2}) == question_hash("q", {"b": 2, "a": 1})
    assert len({question_hash(*parts) for parts in (("q", None), ("q", "x"), ("qx", None), (None, "q"))}) == 4


def test_there_are_limits() -> None:
    full = {number: Verdict("1", 1) for number in range(JUDGMENTS_MAX)}
    assert replacing(full, {0: Verdict("2", 0)}) == {0: Verdict("2", 0)}
    with pytest.raises(Conflict, match="judgments"):
        replacing(full, {JUDGMENTS_MAX: Verdict("1", 1)})
    check_room(9, 10)
    with pytest.raises(Conflict, match="feedback_max"):
        check_room(10, 10)
