"""Where a block that is too long may be cut: at the strongest break that helps, so that what reads as one stays together.

Each kind of block has its own order of breaks. A piece that is still too long is cut at the next weaker ones, and between
tokens at last. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from retrieval.chunks.parsing import Block, BlockKind

_BLANK: Final = re.compile(r"\n[ \t]*\n\s*")
_LINE: Final = re.compile(r"\n+")
# A line that goes on in lower case, after one that does not end a sentence, was wrapped: breaking there breaks a sentence.
_LINE_UNWRAPPED: Final = re.compile(
    r"(?<=[.!?:;|\u3002\uff01\uff1f\uff1b])[ \t]*\n|\n\s{0,99}+(?![a-z\u00df-\u00ff\s])"
)
# The CJK marks need no space behind them.
_SENTENCE: Final = re.compile(r"(?<=[.!?])[\"')\]\u201d\u2019]*\s+|(?<=[\u3002\uff01\uff1f])[\u300d\u300f\u201d]*\s*")
_CLAUSE: Final = re.compile(r"(?<=[,;:])[\"')\]]*\s+|(?<=[\uff0c\u3001\uff1b\uff1a])\s*")
_SPACE: Final = re.compile(r"\s+")
_ITEM: Final = re.compile(r"\n(?=(?:[-*+]|\d{1,9}[.)])\s)")
_ITEM_NESTED: Final = re.compile(r"\n(?=[ \t]+(?:[-*+]|\d{1,9}[.)])\s)")
# A blank line before something that is not indented: between functions, classes, sections of a configuration.
_DEFINITION: Final = re.compile(r"\n[ \t]*\n\s{0,99}?(?=^[^\s})\]])", re.MULTILINE)
_CELL: Final = re.compile(r"(?<=\|)\s")

_PROSE: Final = (_SENTENCE, _LINE, _CLAUSE, _SPACE)
_BREAKS: Final[dict[BlockKind, tuple[re.Pattern[str], ...]]] = {
    "text": (_BLANK, _LINE_UNWRAPPED, *_PROSE),
    "list": (_ITEM, _ITEM_NESTED, _BLANK, *_PROSE),
    "code": (_DEFINITION, _BLANK, _LINE, _SPACE),
    "table": (_LINE, _CELL, _SENTENCE, _SPACE),
}
# The header, the line under it and a row; a fence and a line.
_HEAD_LINES: Final[dict[BlockKind, int]] = {"text": 1, "list": 1, "code": 2, "table": 3}


class Counter(Protocol):
    """Of the tokens of one text."""

    def count(self, start: int, end: int) -> int: ...

    def cut_before(self, start: int, tokens: int, end: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Unit:
    """What packing does not cut. `weakness` is of the break before it: 0 before a block, and more within one.
    `context` is the part of the text that a chunk starting here repeats."""

    start: int
    end: int
    weakness: int
    context: tuple[int, int] | None = None


def split(text: str, start: int, block: Block, tokens: Counter, *, whole_max: int, part_max: int) -> Iterator[Unit]:
    """Units that cover the text from `start`, where the block's headings begin, to the block's end.

    One unit within `whole_max` tokens, else parts. Those that come after the block's context repeat it, which is why there
    is less room in them: `part_max` tokens.
    """
    if tokens.count(start, block.end) <= whole_max:
        yield Unit(start, block.end, 0)
        return
    context_end = block.context[1] if block.context else block.end
    cutter = _Cutter(
        text, tokens, whole_max, part_max, context_end, _end_of_head(text, start, block), _BREAKS[block.kind]
    )
    for part_start, part_end, weakness in _split(start, block.end, 0, cutter):
        yield Unit(part_start, part_end, weakness, block.context if part_start >= context_end else None)


@dataclass(frozen=True, slots=True)
class _Cutter:
    text: str
    tokens: Counter
    whole_max: int
    part_max: int
    context_end: int
    first_cut: int
    levels: tuple[re.Pattern[str], ...]

    def room(self, start: int) -> int:
        return self.part_max if start >= self.context_end else self.whole_max

    def fits(self, start: int, end: int) -> bool:
        return self.tokens.count(start, end) <= self.room(start)


def _split(start: int, end: int, level: int, cutter: _Cutter, weakness: int = 0) -> Iterator[tuple[int, int, int]]:
    """`weakness` is of the break before `start`, which its first piece keeps."""
    if cutter.fits(start, end):
        yield start, end, weakness
        return
    is_last = level == len(cutter.levels)
    cuts = _between_tokens(start, end, cutter) if is_last else _at_breaks(start, end, level, cutter)
    position = start
    for cut in [*cuts, end]:
        if cut <= position:
            continue
        if is_last:
            yield position, cut, weakness
        else:
            yield from _split(position, cut, level + 1, cutter, weakness)
        position, weakness = cut, level + 1


def _at_breaks(start: int, end: int, level: int, cutter: _Cutter) -> list[int]:
    ends = (match.end() for match in cutter.levels[level].finditer(cutter.text, start, end))
    # A head that leaves no room to its block is cut like any other text.
    head_fits = cutter.fits(start, min(end, max(start, cutter.first_cut)))
    return [cut for cut in ends if not head_fits or cut >= cutter.first_cut]


def _between_tokens(start: int, end: int, cutter: _Cutter) -> Iterator[int]:
    while not cutter.fits(start, end):
        # A character may be more tokens than fit; it is never cut.
        start = max(start + 1, cutter.tokens.cut_before(start, cutter.room(start), end))
        yield start


def _end_of_head(text: str, start: int, block: Block) -> int:
    """Before it no cut is made: a heading would stand without text, a table's header without a row."""
    if block.context is None:
        return start if start == block.start else block.start + 1
    position = block.context[0]
    for _ in range(_HEAD_LINES[block.kind]):
        position = text.find("\n", position, block.end) + 1
        if position == 0:
            return block.end
    return position
