"""Cutting a document into chunks. Pure: text, blocks and token offsets in, ranges out.

Chunks are packed from whole blocks of one section, greedily, up to the token limit. A block that is too long is split at
its strongest breaks (retrieval/chunks/splitting.py), and where packing must cut within one, it goes back to a stronger break in
the chunk's second half. A heading stays with what follows it. What continues a table or a fenced block names the part of
the text to repeat as its context: the header, the fence.

Guaranteed, and property-tested: `document.text[start:end] == chunk.text`, no chunk exceeds the limit with its headings and
context, no character that is not white space is lost, and chunks are in order.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from retrieval.chunks.parsing import Block
from retrieval.chunks.splitting import Unit, split

# Longer runs without a space are no words (BERT's tokenizers take one of more than 100 characters for a single unknown
# token), and are counted as estimates count: a token for every four characters.
_WORD_CHARACTERS_MAX: Final = 100
_CHARACTERS_PER_TOKEN: Final = 4
_LONG_RUN: Final = re.compile(rf"\S{{{_WORD_CHARACTERS_MAX + 1},}}")


@dataclass(frozen=True, slots=True)
class Range:
    """`context` is a range of the text before it, to be read with it."""

    start: int
    end: int
    headings: tuple[str, ...]
    context: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """In tokens. `headings_tokens` says how many the line above a chunk costs; they, the context and the chunk's own
    text stay within `tokens_max` together."""

    tokens_max: int
    overlap_tokens: int = 0
    context_tokens_max: int = 0
    headings_tokens: Callable[[tuple[str, ...]], int] = lambda _: 0


class TokenCounter:
    """Counts the tokens of any range of one text, from the offsets at which the whole text's tokens start."""

    def __init__(self, starts: Sequence[int]) -> None:
        self._starts = starts

    @classmethod
    def of(cls, text: str, starts: Sequence[int]) -> "TokenCounter":
        """As the tokenizer has it, but that a run of letters too long to be a word is never a single token."""
        added = [
            offset
            for run in _LONG_RUN.finditer(text)
            for offset in range(run.start(), run.end(), _CHARACTERS_PER_TOKEN)
            if _inside_one_token(starts, offset, run.end())
        ]
        return cls(sorted([*starts, *added]) if added else starts)

    def count(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def cut_before(self, start: int, tokens: int, end: int) -> int:
        """The end of a range from `start` that holds at most `tokens` tokens."""
        last = bisect_left(self._starts, start) + tokens
        return min(end, self._starts[last]) if last < len(self._starts) else end


def chunk(text: str, blocks: Sequence[Block], tokens: TokenCounter, limits: Limits) -> list[Range]:
    """Ranges in order. `overlap_tokens` is how much of one may be repeated at the start of the next of its section."""
    found: list[Range] = []
    for section in _sections(blocks):
        headings = section[-1].headings
        room = max(1, limits.tokens_max - limits.headings_tokens(headings))
        units = [
            unit
            for start, block in _with_headings(section)
            for unit in _units(text, start, block, tokens, room, limits)
            if not text[unit.start : unit.end].isspace()
        ]
        for first, last in _pack(units, tokens, room, limits.overlap_tokens):
            start, end = _trim(text, units[first].start, units[last].end)
            if end > start:
                found.append(Range(start, end, headings, units[first].context))
    return found


def _sections(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Runs of blocks under the same headings; a heading with nothing under it joins the section that follows."""
    section: list[Block] = []
    for block in blocks:
        starts_new = block.is_heading and any(not earlier.is_heading for earlier in section)
        if starts_new:
            yield section
            section = []
        section.append(block)
    if section:
        yield section


def _with_headings(section: Sequence[Block]) -> Iterator[tuple[int, Block]]:
    """Each block, and where it starts with the headings right before it."""
    start: int | None = None
    for block in section:
        start = block.start if start is None else start
        if not block.is_heading:
            yield start, block
            start = None
    if start is not None:
        yield start, section[-1]


def _units(text: str, start: int, block: Block, tokens: TokenCounter, room: int, limits: Limits) -> Iterator[Unit]:
    context = block.context
    if context is not None:
        end = tokens.cut_before(context[0], min(limits.context_tokens_max, room // 2), context[1])
        context = _trim(text, context[0], end)
        context = context if context[0] < context[1] else None
    block = replace(block, context=context)
    part_max = max(1, room - (tokens.count(*context) if context else 0))
    return split(text, start, block, tokens, whole_max=room, part_max=part_max)


def _pack(units: Sequence[Unit], tokens: TokenCounter, room: int, overlap_tokens: int) -> Iterator[tuple[int, int]]:
    """Runs of units, as the indices of their first and last."""

    def fits(first: int, last: int) -> bool:
        context = units[first].context
        repeated = tokens.count(*context) if context else 0
        return repeated + tokens.count(units[first].start, units[last].end) <= room

    first = fresh = index = 0
    while index < len(units):
        if index == fresh or fits(first, index):
            index += 1
            continue
        fresh = index = _strongest_break(units, first, fresh, index, tokens)
        yield first, index - 1
        first = _step_back(units, first, index, tokens, overlap_tokens, fits)
    if units:
        yield first, len(units) - 1


def _strongest_break(units: Sequence[Unit], first: int, fresh: int, index: int, tokens: TokenCounter) -> int:
    """The unit to begin the next chunk with: the last of the strongest that leave this one at least half of its tokens,
    and more than what the chunk before it had already."""
    half = tokens.count(units[first].start, units[index - 1].end) / 2
    best = index
    for candidate in range(index - 1, fresh, -1):
        if tokens.count(units[first].start, units[candidate - 1].end) < half:
            break
        if units[candidate].weakness < units[best].weakness:
            best = candidate
    return best


def _step_back(
    units: Sequence[Unit],
    first: int,
    index: int,
    tokens: TokenCounter,
    overlap_tokens: int,
    fits: Callable[[int, int], bool],
) -> int:
    """Where the next chunk starts: at `index`, or some units earlier as far as the overlap and the limit allow."""
    start = index
    while (
        start - 1 > first
        and tokens.count(units[start - 1].start, units[index].start) <= overlap_tokens
        and fits(start - 1, index)
    ):
        start -= 1
    return start


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _inside_one_token(starts: Sequence[int], offset: int, run_end: int) -> bool:
    """Whether a token that is too long to be a word goes over `offset`."""
    after = bisect_left(starts, offset)
    begin = starts[after - 1] if after else 0
    end = min(run_end, starts[after]) if after < len(starts) else run_end
    return end - begin > _WORD_CHARACTERS_MAX
