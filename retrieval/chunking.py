"""Cutting a document into chunks. Pure: text, blocks and token offsets in, ranges out.

Chunks are packed from whole blocks of one section, greedily, up to the token limit. A block that is too long is split
between lines and sentences, and a sentence that is too long between words. A heading stays with what follows it.
Guaranteed, and property-tested: `document.text[start:end] == chunk.text`, no chunk exceeds the limit, no character that
is not white space is lost, and chunks are in order.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.parsing import Block

# After the end of a sentence (the CJK marks need no space behind them), or at a line's end.
_SOFT_BREAK = re.compile(r"(?<=[.!?;:])[\"')\]]*\s+|(?<=[\u3002\uff01\uff1f\uff1b])|\n+")


@dataclass(frozen=True, slots=True)
class Range:
    start: int
    end: int
    headings: tuple[str, ...]


class TokenCounter:
    """Counts the tokens of any range of one text, from the offsets at which the whole text's tokens start."""

    def __init__(self, starts: Sequence[int]) -> None:
        self._starts = starts

    def count(self, start: int, end: int) -> int:
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def cut_before(self, start: int, tokens: int, end: int) -> int:
        """The end of a range from `start` that holds at most `tokens` tokens."""
        last = bisect_left(self._starts, start) + tokens
        return min(end, self._starts[last]) if last < len(self._starts) else end


def chunk(
    text: str, blocks: Sequence[Block], tokens: TokenCounter, *, tokens_max: int, overlap_tokens: int = 0
) -> list[Range]:
    """`overlap_tokens` is how much of a chunk may be repeated at the start of the next one of its section."""
    found: list[Range] = []
    for section in _sections(blocks):
        units = [unit for block in section for unit in _units(text, block, tokens, tokens_max)]
        for packed in _pack(units, tokens, tokens_max, overlap_tokens):
            start, end = _trim(text, *packed)
            if end > start:
                found.append(Range(start, end, section[-1].headings))
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


def _units(text: str, block: Block, tokens: TokenCounter, tokens_max: int) -> Iterator[tuple[int, int]]:
    """The smallest ranges that packing may separate, each within the limit."""
    if tokens.count(block.start, block.end) <= tokens_max:
        yield block.start, block.end
        return
    position = block.start
    breaks = [match.end() for match in _SOFT_BREAK.finditer(text, block.start, block.end)]
    for end in [*breaks, block.end]:
        while tokens.count(position, end) > tokens_max:
            cut = tokens.cut_before(position, tokens_max, end)
            yield position, cut
            position = cut
        if end > position:
            yield position, end
        position = end


def _pack(
    units: Sequence[tuple[int, int]], tokens: TokenCounter, tokens_max: int, overlap_tokens: int
) -> Iterator[tuple[int, int]]:
    first = 0
    for index, (_, end) in enumerate(units):
        if tokens.count(units[first][0], end) <= tokens_max:
            continue
        yield units[first][0], units[index - 1][1]
        first = _step_back(units, first, index, tokens, tokens_max, overlap_tokens)
    if units:
        yield units[first][0], units[-1][1]


def _step_back(
    units: Sequence[tuple[int, int]],
    first: int,
    index: int,
    tokens: TokenCounter,
    tokens_max: int,
    overlap_tokens: int,
) -> int:
    """Where the next chunk starts: at `index`, or some units earlier as far as the overlap and the limit allow."""
    start = index
    while (
        start - 1 > first
        and tokens.count(units[start - 1][0], units[index][0]) <= overlap_tokens
        and tokens.count(units[start - 1][0], units[index][1]) <= tokens_max
    ):
        start -= 1
    return start


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
