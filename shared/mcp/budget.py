"""Answers that keep to a budget on both channels, counted the same way as every other budget. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from shared.tokens import estimate_tokens

# Some hosts put answers of more than 50,000 characters aside into a file, where a model may never look.
CHARACTERS_MAX: Final = 40_000

FactsT = TypeVar("FactsT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Part(Generic[FactsT]):
    """One entry of an answer, on both channels."""

    text: str
    facts: FactsT

    @property
    def tokens(self) -> int:
        """Of the larger channel."""
        return max(estimate_tokens(self.text), estimate_tokens(self._json))

    @property
    def characters(self) -> int:
        return max(len(self.text), len(self._json))

    @property
    def _json(self) -> str:
        return msgspec.json.encode(self.facts).decode()


@dataclass(frozen=True, slots=True)
class Packed(Generic[FactsT]):
    """`left_out` counts the entries that did not fit."""

    parts: list[Part[FactsT]]
    left_out: int
    # Whether the only entry had to be cut.
    is_cut: bool = False


def pack(
    makers: Iterable[Callable[[int | None], Part[FactsT]]], *, tokens_max: int, characters_max: int = CHARACTERS_MAX
) -> Packed[FactsT]:
    """The first entries that fit together; never none where there is one. Each maker is given how many characters of its text
    it may show (None: all). An entry that does not fit alone is cut to what does."""
    pending = list(makers)
    kept: list[Part[FactsT]] = []
    tokens = characters = 0
    for make in pending:
        part = make(None)
        if tokens + part.tokens > tokens_max or characters + part.characters > characters_max:
            break
        kept.append(part)
        # What stands between entries, in either channel.
        tokens, characters = tokens + part.tokens + 1, characters + part.characters + 2
    if kept or not pending:
        return Packed(kept, len(pending) - len(kept))
    return Packed([_cut(pending[0], tokens_max, characters_max)], len(pending) - 1, is_cut=True)


def share(
    makers: Sequence[Callable[[int | None], Part[FactsT]]], *, tokens_max: int, characters_max: int = CHARACTERS_MAX
) -> Packed[FactsT]:
    """All entries, each with a fair part of the budget: what a short one does not need goes to the longer ones. Only where not
    even their beginnings fit are the last ones left out, but never the first."""
    bare: list[Part[FactsT]] = []
    tokens_left, characters_left = tokens_max, characters_max
    for make in makers:
        part = make(0)
        tokens_left, characters_left = tokens_left - part.tokens - 1, characters_left - part.characters - 2
        if bare and min(tokens_left, characters_left) < 0:
            tokens_left, characters_left = tokens_left + part.tokens + 1, characters_left + part.characters + 2
            break
        bare.append(part)
    parts = list(bare)
    whole = [make(None) for make in makers[: len(bare)]]
    smallest_first = sorted(range(len(bare)), key=lambda index: whole[index].tokens - bare[index].tokens)
    for position, index in enumerate(smallest_first):
        sharers, begun = len(bare) - position, bare[index]
        part = _fitted(
            makers[index],
            whole[index],
            begun.tokens + max(0, tokens_left // sharers),
            begun.characters + max(0, characters_left // sharers),
        )
        tokens_left -= max(0, part.tokens - begun.tokens)
        characters_left -= max(0, part.characters - begun.characters)
        parts[index] = part
    return Packed(parts, len(makers) - len(bare), is_cut=parts != whole)


def _fitted(
    make: Callable[[int | None], Part[FactsT]], whole: Part[FactsT], tokens_max: int, characters_max: int
) -> Part[FactsT]:
    if whole.tokens <= tokens_max and whole.characters <= characters_max:
        return whole
    return _cut(make, tokens_max, characters_max)


def _cut(make: Callable[[int | None], Part[FactsT]], tokens_max: int, characters_max: int) -> Part[FactsT]:
    """As much of its text as fits, found by halving; with none of it, where even that is too much."""
    low, high = 0, characters_max
    while low < high:
        middle = (low + high + 1) // 2
        part = make(middle)
        fits = part.tokens <= tokens_max and part.characters <= characters_max
        low, high = (middle, high) if fits else (low, middle - 1)
    return make(low)
