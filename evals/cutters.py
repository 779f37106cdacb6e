"""Plain ways of cutting, to compare ours with: every so many tokens, and recursively by separators. Pure.

Both are the algorithms that most frameworks ship (LangChain's TokenTextSplitter and RecursiveCharacterTextSplitter), with
lengths in tokens of the embedding model, and they return ranges rather than texts.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

Range = tuple[int, int]

SEPARATORS: Final = ("\n\n", "\n", ". ", " ")


def every_so_many(text: str, starts: Sequence[int], *, tokens: int, overlap: int) -> list[Range]:
    """`starts` is where each token of the text starts."""
    found = []
    for first in range(0, len(starts), tokens - overlap):
        last = first + tokens
        end = starts[last] if last < len(starts) else len(text)
        found.append((starts[first], end))
        if last >= len(starts):
            break
    return found


def recursively(text: str, starts: Sequence[int], *, tokens: int, overlap: int) -> list[Range]:
    """Splits at the strongest separator, what is still too long at the next one, and joins small neighbours again."""
    pieces = list(_pieces(text, starts, (0, len(text)), tokens, 0))
    found: list[Range] = []
    first = 0
    for index in range(1, len(pieces) + 1):
        if index < len(pieces) and _count(starts, pieces[first][0], pieces[index][1]) <= tokens:
            continue
        found.append((pieces[first][0], pieces[index - 1][1]))
        kept = index
        while index < len(pieces) and kept - 1 > first:
            start = pieces[kept - 1][0]
            if _count(starts, start, pieces[index - 1][1]) > overlap:
                break
            if _count(starts, start, pieces[index][1]) > tokens:
                break
            kept -= 1
        first = kept
    return found


def _pieces(text: str, starts: Sequence[int], part: Range, tokens: int, level: int) -> Iterator[Range]:
    start, end = part
    if _count(starts, start, end) <= tokens:
        yield part
        return
    if level == len(SEPARATORS):
        inner = [offset for offset in starts[bisect_left(starts, start) :: tokens] if start < offset < end]
        yield from zip([start, *inner], [*inner, end], strict=True)
        return
    while start < end:
        at = text.find(SEPARATORS[level], start, end)
        cut = end if at < 0 else at + len(SEPARATORS[level])
        yield from _pieces(text, starts, (start, cut), tokens, level + 1)
        start = cut


def _count(starts: Sequence[int], start: int, end: int) -> int:
    return bisect_left(starts, end) - bisect_left(starts, start)
