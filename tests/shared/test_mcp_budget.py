"""Entries of an answer within a budget: as many as fit, or each a fair part."""

from collections.abc import Callable
from functools import partial

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp.budget import Part, pack, share
from tests.shared.strategies import PROPERTY

Make = Callable[[int | None], Part["Entry"]]
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), max_size=8)


class Entry(msgspec.Struct, frozen=True):
    text: str


def make(text: str, characters: int | None) -> Part[Entry]:
    shown = text if characters is None else text[:characters]
    return Part(f"- {shown}", Entry(shown))


def makers(texts: list[str]) -> list[Make]:
    return [partial(make, text) for text in texts]


def costs(parts: list[Part[Entry]]) -> tuple[int, int]:
    """Tokens and characters, with what stands between."""
    return sum(part.tokens + 1 for part in parts) - 1, sum(part.characters + 2 for part in parts) - 2


@PROPERTY
@given(TEXTS, st.integers(10, 600), st.integers(40, 2000))
def test_the_first_entries_that_fit_are_packed(texts: list[str], tokens_max: int, characters_max: int) -> None:
    packed = pack(makers(texts), tokens_max=tokens_max, characters_max=characters_max)

    assert len(packed.parts) + packed.left_out == len(texts)
    assert bool(packed.parts) is bool(texts)
    tokens, characters = costs(packed.parts)
    assert tokens <= tokens_max
    assert characters <= characters_max
    if packed.is_cut:
        (part,) = packed.parts
        assert texts[0].startswith(part.facts.text)
    else:
        assert [part.facts.text for part in packed.parts] == texts[: len(packed.parts)]
        if packed.left_out:
            tokens, characters = costs([*packed.parts, make(texts[len(packed.parts)], None)])
            assert tokens > tokens_max or characters > characters_max


@PROPERTY
@given(TEXTS, st.integers(10, 600), st.integers(40, 2000))
def test_all_entries_share_a_budget(texts: list[str], tokens_max: int, characters_max: int) -> None:
    shared = share(makers(texts), tokens_max=tokens_max, characters_max=characters_max)

    assert len(shared.parts) + shared.left_out == len(texts)
    assert bool(shared.parts) is bool(texts)
    tokens, characters = costs(shared.parts)
    assert tokens <= tokens_max
    assert characters <= characters_max
    for part, text in zip(shared.parts, texts, strict=False):
        assert text.startswith(part.facts.text)
    whole, _ = costs([make(text, None) for text in texts])
    if whole + 1 <= tokens_max and characters_max >= 10 * whole:
        assert [part.facts.text for part in shared.parts] == texts
        assert not shared.is_cut


def test_what_a_short_entry_leaves_goes_to_the_long_ones() -> None:
    shared = share(makers(["short", "a" * 4000, "b" * 4000]), tokens_max=600)

    lengths = [len(part.facts.text) for part in shared.parts]
    assert lengths[0] == 5
    assert min(lengths[1:]) > 1000
    assert shared.is_cut


def test_an_entry_that_costs_too_much_without_its_text_is_given_all_the_same() -> None:
    assert [part.facts.text for part in pack(makers(["long"]), tokens_max=1).parts] == [""]
    shared = share(makers(["long", "longer"]), tokens_max=1)
    assert (len(shared.parts), shared.left_out) == (1, 1)
