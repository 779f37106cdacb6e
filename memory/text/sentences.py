"""Turns as sentences, the units that an extract is made of. Pure.

Every sentence is a piece of its turn, character by character. What tools printed and what stands in code is left out: the
ledger has what matters of it, and halves of a stack trace are no summary.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from memory.text.prose import blocks
from memory.truth.records import Line
from shared.memory_messages import Role

# A turn without any mark is still cut: no extract of 400 tokens could hold a "sentence" of 2,000.
_CHARACTERS_MAX: Final = 320
_END: Final = re.compile(r"[.!?…]{1,4}[\"')\]”’]{0,2}(?=\s)|[。！？]+[」』”]{0,2}|\n+")
_ABBREVIATION: Final = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|approx|Jr|Sr|[A-Z])\.$")
_ABBREVIATION_CHARACTERS_MAX: Final = 8
_CUT: Final = re.compile(r"[,;:，；：、]\s?|\s-\s|\s")
_MARKS: Final = " \t\r#*->|•+=_`~"
_LIST_NUMBER: Final = re.compile(r"\d{1,2}[.)]\s+")
_PROMPT: Final = re.compile(r"\s{0,20}[$❯]\s")
# Prose is letters and blanks; a pasted log or table is not.
_LETTERS_SHARE_MIN: Final = 0.7


class Sentence(NamedTuple):
    """`line` is the place of its turn among the lines, `place` its own among the sentences of that turn."""

    line: int
    place: int
    role: Role
    speaker: str
    text: str


def sentences(lines: Sequence[Line]) -> list[Sentence]:
    """What people and agents said, in order. What tools said only where nobody else said anything."""
    found = list(_spoken(lines, tools=False))
    return found or list(_spoken(lines, tools=True))


def said_in(line: int, speaker: str, text: str) -> Iterator[Sentence]:
    """The sentences of what somebody said, without code in it."""
    for place, sentence in enumerate(_split(text)):
        yield Sentence(line, place, "assistant", speaker, sentence)


def _spoken(lines: Sequence[Line], *, tools: bool) -> Iterator[Sentence]:
    for index, line in enumerate(lines):
        if (line.role == "tool") != tools:
            continue
        place = 0
        for block in blocks(line.text):
            if block.language is None:
                for text in _split(block.text):
                    yield Sentence(index, place, line.role, line.speaker, text)
                    place += 1


def _split(text: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(text):
        if end.group()[0] == "." and _ABBREVIATION.search(
            text, max(start, end.end() - _ABBREVIATION_CHARACTERS_MAX), end.end()
        ):
            continue
        yield from _sized(text[start : end.end()])
        start = end.end()
    yield from _sized(text[start:])


def _sized(text: str) -> Iterator[str]:
    """Without the marks of a list or heading; in pieces where it is too long."""
    if _PROMPT.match(text):
        return
    text = text.strip().lstrip(_MARKS).rstrip(" \t*_#|")
    if (number := _LIST_NUMBER.match(text)) is not None:
        text = text[number.end() :].lstrip(_MARKS)
    while len(text) > _CHARACTERS_MAX:
        cuts = [match.end() for match in _CUT.finditer(text, _CHARACTERS_MAX // 2, _CHARACTERS_MAX)]
        cut = cuts[-1] if cuts else _CHARACTERS_MAX
        if _is_prose(text[:cut]):
            yield text[:cut].strip()
        text = text[cut:].strip()
    if _is_prose(text):
        yield text


def _is_prose(text: str) -> bool:
    letters = sum(map(str.isalpha, text))
    return letters > 0 and letters + text.count(" ") >= _LETTERS_SHARE_MIN * len(text)
