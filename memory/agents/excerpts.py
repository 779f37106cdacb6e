"""The part of a long text that has most of a query's words. Pure."""

import re
from typing import Final

from memory.text.common_words import FUNCTION_WORDS

_WORD: Final = re.compile(r"\w+")
_LEAD: Final = 60
_ELLIPSIS: Final = "…"


def excerpt(text: str, query: str, characters_max: int) -> str:
    """All of a text that is short enough. Else so many characters, from where most different words of the query occur, or from
    its beginning."""
    if len(text) <= characters_max:
        return text
    start = _best_start(text, {word.casefold() for word in _WORD.findall(query)} - FUNCTION_WORDS, characters_max)
    room = characters_max - (2 if start else 1)
    part = text[start : start + room]
    return (_ELLIPSIS if start else "") + part.strip() + (_ELLIPSIS if start + room < len(text) else "")


def _best_start(text: str, wanted: set[str], width: int) -> int:
    """Slides over the places of wanted words, and counts how many different ones lie within `width`."""
    places = [(found.start(), found[0].casefold()) for found in _WORD.finditer(text)]
    places = [place for place in places if place[1] in wanted]
    best, best_start = 0, 0
    inside: dict[str, int] = {}
    last = 0
    for start, word in places:
        while last < len(places) and places[last][0] < start + width - _LEAD:
            inside[places[last][1]] = inside.get(places[last][1], 0) + 1
            last += 1
        if len(inside) > best:
            best, best_start = len(inside), start
        inside[word] -= 1
        if not inside[word]:
            del inside[word]
    return max(0, min(best_start - _LEAD, len(text) - width))
