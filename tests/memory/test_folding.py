"""Where a tail may be cut, into which pieces, and what rolls up."""

from hypothesis import given
from hypothesis import strategies as st

from memory.compaction.folding import KEPT_BESIDE, ROLLED_UP, Piece, Weighed, plan_fold, plan_roll_up
from shared.memory_messages import Role

ROLES: dict[str, Role] = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}


def tail(roles: str, tokens: int | list[int] = 10, first: int = 1) -> list[Weighed]:
    sizes = [tokens] * len(roles) if isinstance(tokens, int) else tokens
    return [
        Weighed(first + place, ROLES[role], size) for place, (role, size) in enumerate(zip(roles, sizes, strict=True))
    ]


def folded(turns: list[Weighed], *, most: int, keep: int, piece: int = 1000) -> list[tuple[int, int]]:
    plan = plan_fold(turns, tokens_max=most, tokens_keep=keep, piece_tokens_max=piece)
    return [(each.first_seq, each.last_seq) for each in plan]


TAILS = st.lists(st.tuples(st.sampled_from("uats"), st.integers(0, 50)), max_size=40).map(
    lambda turns: tail("".join(role for role, _ in turns), [tokens for _, tokens in turns], first=5)
)


def test_a_tail_within_its_policy_is_left_alone() -> None:
    assert folded(tail("uaua"), most=40, keep=10) == []
    assert folded([], most=0, keep=0) == []


def test_what_stays_begins_with_a_question() -> None:
    # A cut before the fifth turn would keep thirty tokens, but that is an answer.
    assert folded(tail("uauuaua"), most=60, keep=35) == [(1, 5)]
    assert folded(tail("uuaaua"), most=50, keep=30) == [(1, 4)]


def test_a_call_stays_with_its_results() -> None:
    # One long run of an agent: no question to cut before, so between two calls.
    assert folded(tail("uattattatta"), most=100, keep=45) == [(1, 7)]
    assert folded(tail("uattt"), most=30, keep=10) == [(1, 1)]


def test_an_earlier_question_serves_where_no_later_one_does() -> None:
    assert folded(tail("uuaaaa"), most=55, keep=10) == [(1, 1)]


def test_the_newest_call_is_folded_only_when_nothing_is_to_be_kept() -> None:
    assert folded(tail("ua", [10, 900]), most=100, keep=50) == [(1, 1)]
    assert folded(tail("u", [900]), most=100, keep=50) == []
    assert folded(tail("ua", [10, 900]), most=0, keep=0) == [(1, 2)]


def test_pieces_are_whole_exchanges_unless_one_is_too_large() -> None:
    assert folded(tail("uauaua"), most=0, keep=0, piece=45) == [(1, 4), (5, 6)]
    # The first exchange has 90 tokens: its calls are the next best places.
    assert folded(tail("uattattaua"), most=0, keep=0, piece=40) == [(1, 4), (5, 8), (9, 10)]


@given(TAILS, st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_pieces_are_the_oldest_turns_without_a_gap(turns: list[Weighed], most: int, keep: int, piece: int) -> None:
    keep = min(keep, most)
    plan = plan_fold(turns, tokens_max=most, tokens_keep=keep, piece_tokens_max=piece)

    covered = [seq for each in plan for seq in range(each.first_seq, each.last_seq + 1)]
    assert covered == [turn.seq for turn in turns[: len(covered)]]
    assert sum(each.tokens for each in plan) == sum(turn.tokens for turn in turns[: len(covered)])
    total = sum(turn.tokens for turn in turns)
    assert bool(plan) <= (total > most)
    for each in plan:
        inside = [turn for turn in turns if each.first_seq <= turn.seq <= each.last_seq]
        calls = sum(turn.role != "tool" for turn in inside)
        assert each.tokens <= piece or calls <= 1


@given(TAILS, st.integers(1, 300), st.integers(1, 300))
def test_no_cut_parts_a_call_from_its_results_and_what_stays_is_small(
    turns: list[Weighed], most: int, keep: int
) -> None:
    keep = min(keep, most)
    plan = plan_fold(turns, tokens_max=most, tokens_keep=keep, piece_tokens_max=100)

    starts = {each.first_seq for each in plan} | ({plan[-1].last_seq + 1} if plan else set())
    assert all(turn.role != "tool" for turn in turns[1:] if turn.seq in starts)
    left = turns[sum(each.last_seq - each.first_seq + 1 for each in plan) :]
    if plan:
        calls = sum(turn.role != "tool" for turn in left)
        assert sum(turn.tokens for turn in left) <= most or calls <= 1


def test_the_oldest_spans_roll_up_once_enough_stand_beside_them() -> None:
    enough = list(range(ROLLED_UP + KEPT_BESIDE))

    assert list(plan_roll_up(enough)) == enough[:ROLLED_UP]
    assert list(plan_roll_up(enough[1:])) == []
    assert plan_fold(tail("uaua"), tokens_max=20, tokens_keep=20, piece_tokens_max=1000) == [Piece(1, 2, 20)]
