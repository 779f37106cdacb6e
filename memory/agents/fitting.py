"""Answers as wholes within their budget: what stands around the entries is counted, and the entries get what it leaves. Pure."""

from collections.abc import Callable, Iterable
from typing import Final

from shared.mcp.budget import CHARACTERS_MAX, FactsT, Packed, Part, pack
from shared.mcp.catalogue import Told

ECHO_CHARACTERS_MAX: Final = 40
_ELLIPSIS: Final = "…"


def tokens_of(told: Told) -> int:
    """Of the larger channel."""
    return Part(told.text, told.facts).tokens


def characters_of(told: Told) -> int:
    return Part(told.text, told.facts).characters


def fits(told: Told, tokens_max: int) -> bool:
    return tokens_of(told) <= tokens_max and characters_of(told) <= CHARACTERS_MAX


def pack_within(
    makers: Iterable[Callable[[int | None], Part[FactsT]]], frame: Told, *, tokens_max: int
) -> Packed[FactsT]:
    """`frame` is the largest answer that there could be without any entry."""
    return pack(
        makers,
        tokens_max=tokens_max - tokens_of(frame),
        characters_max=CHARACTERS_MAX - characters_of(frame),
    )


def clipped(text: str, characters_max: int | None) -> str:
    if characters_max is None or len(text) <= characters_max:
        return text
    return text[: max(0, characters_max - 1)].rstrip() + _ELLIPSIS


def echoed(text: str) -> str:
    """What was asked for, short enough to say again."""
    return repr(on_one_line(text, ECHO_CHARACTERS_MAX))


def on_one_line(text: str, characters_max: int) -> str:
    """For names and titles, which stand where an answer's own words do."""
    return clipped(" ".join(text.split()), characters_max)


def quoted(text: str) -> str:
    """Every line marked as data, so that none can pose as the answer's own."""
    return "> " + "\n> ".join(text.splitlines() or [""])
