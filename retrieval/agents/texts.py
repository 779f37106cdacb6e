"""How names, titles and numbers are put into words for an agent, and cut where they are long. Pure."""

from typing import Final

import msgspec

from retrieval.searching.packing import beginning_within
from shared.tokens import estimate_tokens

CUT: Final = "…"
URI_LENGTH_MAX: Final = 160
_QUERY_TOKENS_MAX: Final = 20


def beginning(text: str, characters: int | None) -> str:
    """At most so many, to the last white space where that is not far away."""
    if characters is None or characters >= len(text):
        return text
    space = next((at for at in range(characters, characters // 2, -1) if text[at].isspace()), characters)
    return text[:space]


def shown_query(query: str) -> str:
    return f"'{cut_to(' '.join(query.split()), _QUERY_TOKENS_MAX)}'"


def cut_to(text: str, tokens_max: int) -> str:
    return text if estimate_tokens(text) <= tokens_max else beginning_within(text, tokens_max - 1) + CUT


def shortened(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + CUT


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quoted(name: str) -> str:
    """As it stands in the arguments of a call."""
    return msgspec.json.encode(name).decode()
