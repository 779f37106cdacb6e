"""Turns as a model reads them, cut into pieces that fit its window. Pure; nothing is left out.

A piece ends between turns where it can. A turn that is longer than a piece is cut between paragraphs, lines, sentences or
words, whichever keeps the pieces full, and each of its parts says who is speaking.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from memory.truth.records import Line
from shared.tokens import estimate_tokens

# The full-width full stop, exclamation and question mark end a sentence without a space after them.
_WIDE_MARKS: Final = "\u3002\uff01\uff1f"
# From the best place to end at to the worst; after the last of them comes any character.
_ENDS: Final = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(rf"(?<=[.!?\u2026])\s+|(?<=[{_WIDE_MARKS}])"),
    re.compile(r"\s+"),
)
# A dot within 3.5 or main.py ends nothing.
_SENTENCE_END: Final = re.compile(
    rf"[.!?\u2026][\"'\u201d\u2019\u00bb)\]]*(?=\s|$)|[{_WIDE_MARKS}][\u300d\u300f\u201d)]*"
)
# An end in the first half of what fits wastes more of the window than a worse place to end at.
_FULL: Final = 0.5
_SPEAKER_CHARACTERS_MAX: Final = 64


def render(lines: Iterable[Line], tokens_max: int) -> list[str]:
    """Each turn as one text, or as several: when, who, what, in at most `tokens_max` (256 or more) each."""
    return [f"{head}{part}" for line in lines for head, part in _parts(line, tokens_max)]


def spoken(lines: Iterable[Line]) -> str:
    """What people and the assistant said, without the output of tools: the language of the conversation is theirs."""
    return "\n".join(_sound(line.text) for line in lines if line.role in {"user", "assistant"})


def pack(texts: Iterable[str], tokens_max: int) -> list[str]:
    """Texts of at most `tokens_max` each, in their order, joined as long as they fit together."""
    pieces: list[str] = []
    for text in texts:
        together = f"{pieces[-1]}\n{text}" if pieces else text
        if pieces and estimate_tokens(together) <= tokens_max:
            pieces[-1] = together
        else:
            pieces.append(text)
    return pieces


def split(text: str, tokens_max: int) -> Iterator[str]:
    """A text in parts of at most `tokens_max` (2 or more) each. All but white space at their ends is kept."""
    rest = text.strip()
    while estimate_tokens(rest) > tokens_max:
        end = _end_within(rest, _fitting(rest, tokens_max))
        yield rest[:end].rstrip()
        rest = rest[end:].lstrip()
    if rest:
        yield rest


def whole_sentences(text: str, tokens_max: int) -> str:
    """The longest start of a text that ends with a sentence and fits; empty where no sentence does."""
    most = len(text) if estimate_tokens(text) <= tokens_max else _fitting(text, tokens_max)
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= most]
    return text[: ends[-1]] if ends else ""


def _parts(line: Line, tokens_max: int) -> Iterator[tuple[str, str]]:
    speaker = _sound(line.speaker)[:_SPEAKER_CHARACTERS_MAX]
    who = speaker if line.speaker == line.role else f"{speaker} ({line.role})"
    when = f"[{line.created_at:%Y-%m-%d %H:%M}]"
    head = f"{when} {who}: "
    later = f"{when} {who}, continued: "
    for part in split(_sound(line.text), tokens_max - estimate_tokens(later)):
        yield head, part
        head = later


def _fitting(text: str, tokens_max: int) -> int:
    """How many characters of a text fit, at least 1."""
    low, high = 1, min(len(text), 4 * tokens_max)
    while low < high:
        middle = (low + high + 1) // 2
        if estimate_tokens(text[:middle]) <= tokens_max:
            low = middle
        else:
            high = middle - 1
    return low


def _end_within(text: str, most: int) -> int:
    for pattern in _ENDS:
        found = [match.start() for match in pattern.finditer(text, 0, most + 1) if 0 < match.start() <= most]
        if found and found[-1] >= _FULL * most:
            return found[-1]
    return most


def _sound(text: str) -> str:
    """JSON has no lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
