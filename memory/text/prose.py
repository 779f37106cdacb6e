"""Which part of a turn is prose, and which is code or output that a tool printed. Pure."""

import re
from typing import Final, NamedTuple

_FENCE: Final = re.compile(r"^[ \t]{0,8}(?:```|~~~)[ \t]*([\w+-]*)[^\n]*$", re.MULTILINE)


class Block(NamedTuple):
    """A stretch of a turn: `language` is what its fence names, and None where it is prose."""

    text: str
    start: int
    language: str | None


def blocks(text: str) -> list[Block]:
    """In order, without the fences. A fence that nobody closed runs to the end."""
    found, last, language = [], 0, None
    for fence in _FENCE.finditer(text):
        found.append(Block(text[last : fence.start()], last, language))
        language = fence.group(1).lower() if language is None else None
        last = fence.end()
    found.append(Block(text[last:], last, language))
    return [block for block in found if block.text.strip()]
