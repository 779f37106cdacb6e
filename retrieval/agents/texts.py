"""What an agent reads of a search: the same facts as a text and as fields, cut to what may be shown. Pure.

Everything that is not the passage itself is kept short: titles, addresses and metadata have bounds of their own, so that
a budget is spent on what was asked for.
"""

from typing import Any, Final

import msgspec

from retrieval.agents.messages import FoundHit, ReadDocument, SearchFound
from shared.mcp.budget import Part
from shared.mcp.catalogue import Told
from shared.retrieval_messages import Hit

CUT: Final = "…"
_QUERY_LENGTH_MAX: Final = 80
_TITLE_LENGTH_MAX: Final = 160
# An address is for hosts, which offer it as a link; agents have the id. A longer one costs more than it is worth.
_URI_LENGTH_MAX: Final = 200
_METADATA_LENGTH_MAX: Final = 1000
_SCORE_DIGITS: Final = 3


def hit_part(
    hit: Hit, name: str, uri: str, *, number: int, with_metadata: bool, characters: int | None
) -> Part[FoundHit]:
    """`characters` of its text, or all; a hit that is cut tells nothing else that it need not."""
    whole = f"{hit.context}\n{hit.text}" if hit.context else hit.text
    is_cut = hit.is_cut or (characters is not None and characters < len(whole))
    text = beginning(whole, characters) + (CUT if is_cut else "")
    metadata = metadata_shown(hit.metadata) if with_metadata and characters is None else None
    facts = FoundHit(
        id=name,
        title=shortened(
            " > ".join(dict.fromkeys(each for each in (hit.title, *hit.headings) if each)), _TITLE_LENGTH_MAX
        ),
        text=text,
        score=round(hit.score, _SCORE_DIGITS),
        uri=uri if characters is None and len(uri) <= _URI_LENGTH_MAX else None,
        metadata=metadata or None,
    )
    return Part(_hit_text(facts, number), facts)


def search_told(
    query: str, mode: str, hits: list[Part[FoundHit]], *, next_cursor: str | None, hint: str | None
) -> Told:
    """Of one hit or more."""
    noun = "passage" if len(hits) == 1 else "passages"
    lines = [f"{len(hits)} {noun} for {shown_query(query)} ({mode})", *(part.text for part in hits)]
    if next_cursor is not None:
        lines.append(f"More: repeat with cursor={next_cursor!r}.")
    if hint:
        lines.append(hint)
    facts = SearchFound(
        hits=[part.facts for part in hits], more=next_cursor is not None, next_cursor=next_cursor, hint=hint
    )
    return Told("\n\n".join(lines), facts)


def document_part(
    name: str, title: str, uri: str, text: str, *, start: int, length: int, characters: int | None
) -> Part[ReadDocument]:
    """`text` is what may be shown, from `start` on."""
    shown = beginning(text, characters)
    end = start + len(shown)
    facts = ReadDocument(
        id=name,
        title=shortened(title, _TITLE_LENGTH_MAX),
        text=shown,
        uri=uri if len(uri) <= _URI_LENGTH_MAX else None,
        start=start,
        end=end,
        length=length,
        next_start=end if end < length else None,
    )
    source = f", {facts.uri}" if facts.uri else ""
    head = f"{facts.title or 'No title'} (id {name}{source}, characters {start} to {end} of {length})"
    more = f"\nMore: get_document(ids=[{quoted(name)}], start={end})." if end < length else ""
    return Part(f"{head}\n{shown}{more}", facts)


def beginning(text: str, characters: int | None) -> str:
    """At most so many, to the last white space where that is not far away."""
    if characters is None or characters >= len(text):
        return text
    space = next((at for at in range(characters, characters // 2, -1) if text[at].isspace()), characters)
    return text[:space]


def metadata_shown(metadata: dict[str, Any]) -> dict[str, Any]:
    """Its fields in order, as far as they are short."""
    shown: dict[str, Any] = {}
    for name, value in metadata.items():
        if len(msgspec.json.encode({**shown, name: value})) <= _METADATA_LENGTH_MAX:
            shown[name] = value
    return shown


def shown_query(query: str) -> str:
    return f"'{shortened(' '.join(query.split()), _QUERY_LENGTH_MAX)}'"


def shortened(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + CUT


def quoted(name: str) -> str:
    """As it stands in the arguments of a call."""
    return msgspec.json.encode(name).decode()


def _hit_text(facts: FoundHit, number: int) -> str:
    source = f", {facts.uri}" if facts.uri else ""
    title = f"{facts.title} " if facts.title else ""
    lines = [f"[{number}] {title}(id {facts.id}, score {facts.score:g}{source})"]
    if facts.metadata:
        lines.append(f"metadata: {msgspec.json.encode(facts.metadata).decode()}")
    return "\n".join([*lines, facts.text])
