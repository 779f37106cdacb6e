"""Which turns of a tail are folded, in which pieces, and which spans roll up. Pure: sizes in, ranges out.

A cut is a place between two turns. Never one before a tool's result: a call stays with what came of it. Rather one before a
user's turn than in the middle of an exchange, because what remains is then read from a question on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from shared.memory_messages import Role

SpanT = TypeVar("SpanT")

# Spans that roll up into one of the next level, and those of a level that stay beside them: the newest are worth their detail.
ROLLED_UP: Final = 4
KEPT_BESIDE: Final = 4


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a cut depends on."""

    seq: int
    role: Role
    tokens: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Turns in a row that one span stands for."""

    first_seq: int
    last_seq: int
    tokens: int


def plan_fold(tail: Sequence[Weighed], *, tokens_max: int, tokens_keep: int, piece_tokens_max: int) -> list[Piece]:
    """The oldest turns, as pieces, so that what stays is no more than `tokens_keep`, as far as the cuts allow.

    A tail of up to `tokens_max` is left alone. All turns are covered, however large: a piece is larger than
    `piece_tokens_max` only where a single call with its results is.
    """
    if sum(turn.tokens for turn in tail) <= tokens_max:
        return []
    return _pieces(tail[: _cut(tail, tokens_max=tokens_max, tokens_keep=tokens_keep)], piece_tokens_max)


def plan_roll_up(unrolled: Sequence[SpanT]) -> Sequence[SpanT]:
    """Of the spans of one level that stand in none above, oldest first: those that roll up now."""
    return unrolled[:ROLLED_UP] if len(unrolled) >= ROLLED_UP + KEPT_BESIDE else ()


def _cut(tail: Sequence[Weighed], *, tokens_max: int, tokens_keep: int) -> int:
    """How many turns are folded."""
    lefts = [_size(tail[count:]) for count in range(len(tail) + 1)]
    least = next(count for count, left in enumerate(lefts) if left <= tokens_keep)
    starts = [count for count in range(1, len(tail)) if tail[count].role != "tool"]
    questions = [count for count in starts if tail[count].role == "user"]
    for allowed in (questions, starts):
        if later := [count for count in allowed if count >= least]:
            return later[0]
        if earlier := [count for count in allowed if lefts[count] <= tokens_max]:
            return earlier[-1]
    # The newest call stays with its results, however large; only who wants to keep nothing folds it too.
    return (starts[-1] if starts else 0) if tokens_keep else len(tail)


def _pieces(turns: Sequence[Weighed], tokens_max: int) -> list[Piece]:
    """Whole exchanges as far as they fit together; one that is too large alone, call by call."""
    units: list[list[Weighed]] = []
    for exchange in _split(turns, lambda turn: turn.role == "user"):
        fits = _size(exchange) <= tokens_max
        units += [exchange] if fits else _split(exchange, lambda turn: turn.role != "tool")
    pieces: list[list[Weighed]] = []
    for unit in units:
        if pieces and _size(pieces[-1]) + _size(unit) <= tokens_max:
            pieces[-1] = pieces[-1] + unit
        else:
            pieces.append(unit)
    return [Piece(piece[0].seq, piece[-1].seq, _size(piece)) for piece in pieces]


def _split(turns: Sequence[Weighed], begins: Callable[[Weighed], bool]) -> list[list[Weighed]]:
    parts: list[list[Weighed]] = []
    for turn in turns:
        if not parts or begins(turn):
            parts.append([])
        parts[-1].append(turn)
    return parts


def _size(turns: Sequence[Weighed]) -> int:
    return sum(turn.tokens for turn in turns)
