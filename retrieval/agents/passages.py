"""The hits of a search as an agent reads them, as many as fit a budget on both channels. Pure.

What is not the passage itself is kept short: queries, titles, addresses and metadata have bounds of their own, so that the
budget is spent on what was asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from retrieval.agents.messages import FoundHit, SearchFound
from retrieval.agents.names import DOCUMENT_ADDRESS
from retrieval.agents.texts import CUT, URI_LENGTH_MAX, beginning, counted, cut_to, quoted, shown_query
from shared.mcp.addresses import address
from shared.mcp.budget import CHARACTERS_MAX, Packed, Part, pack
from shared.mcp.catalogue import Told
from shared.retrieval_messages import Hit
from shared.tokens import estimate_tokens

TITLE_TOKENS_MAX: Final = 40
# Where a single hit has to be cut.
_TITLE_TOKENS_MAX_CUT: Final = 10
_METADATA_LENGTH_MAX: Final = 1000
_EXAMPLE_TOKENS_MAX: Final = 20
_SCORE_DIGITS: Final = 3


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit, and what get_document takes for it."""

    hit: Hit
    name: str


def told_passages(
    passages: Sequence[Passage],
    *,
    document: str,
    query: str,
    mode: str,
    next_cursor: str | None,
    with_metadata: bool,
    max_tokens: int,
) -> tuple[Told, Packed[FoundHit]]:
    """Of one hit or more. Where some are left out, the cursor is not theirs: ask again for those that are kept. `document` is
    the name of the first hit's whole document."""
    makers = [partial(_part, passage, number, with_metadata) for number, passage in enumerate(passages, 1)]
    tell = partial(_told, query, mode, next_cursor)
    last = passages[-1]
    longest = tell([], _hint(document, cut=last.name, number=len(passages)))
    frame = Part(longest.text, longest.facts)
    packed = pack(makers, tokens_max=max_tokens - frame.tokens, characters_max=CHARACTERS_MAX - frame.characters)
    is_cut = packed.is_cut or last.hit.is_cut
    hint = _hint(document, cut=last.name if is_cut else None, number=len(passages))
    return tell(packed.parts, hint), packed


def metadata_shown(metadata: dict[str, Any]) -> dict[str, Any]:
    """Its fields in order, as far as they are short."""
    shown: dict[str, Any] = {}
    for name, value in metadata.items():
        if len(msgspec.json.encode({**shown, name: value})) <= _METADATA_LENGTH_MAX:
            shown[name] = value
    return shown


def _part(passage: Passage, number: int, with_metadata: bool, characters: int | None) -> Part[FoundHit]:  # noqa: FBT001 - made by partial
    """`characters` of its text, or all; a hit that is cut tells nothing else that it need not."""
    hit, is_whole = passage.hit, characters is None
    whole = f"{hit.context}\n{hit.text}" if hit.context else hit.text
    shown = beginning(whole, characters)
    title = " > ".join(dict.fromkeys(each for each in (hit.title, *hit.headings) if each))
    uri = address(DOCUMENT_ADDRESS, collection=hit.collection, document_id=hit.document_id)
    facts = FoundHit(
        id=passage.name,
        title=cut_to(title, TITLE_TOKENS_MAX if is_whole else _TITLE_TOKENS_MAX_CUT),
        text=shown + CUT if hit.is_cut or len(shown) < len(whole) else shown,
        score=round(hit.score, _SCORE_DIGITS),
        # An address is for hosts, which offer it as a link; agents have the id.
        uri=uri if is_whole and len(uri) <= URI_LENGTH_MAX else None,
        metadata=(metadata_shown(hit.metadata) if with_metadata and is_whole else None) or None,
    )
    return Part(_text(facts, number), facts)


def _text(facts: FoundHit, number: int) -> str:
    source = f", {facts.uri}" if facts.uri else ""
    title = f"{facts.title} " if facts.title else ""
    lines = [f"[{number}] {title}(id {facts.id}, score {facts.score:g}{source})"]
    if facts.metadata:
        lines.append(f"metadata: {msgspec.json.encode(facts.metadata).decode()}")
    return "\n".join([*lines, facts.text])


def _told(query: str, mode: str, next_cursor: str | None, hits: list[Part[FoundHit]], hint: str) -> Told:
    lines = [f"{counted(len(hits), 'passage')} for {shown_query(query)} ({mode})", *(part.text for part in hits)]
    if next_cursor is not None:
        lines.append(f"More: repeat with cursor={next_cursor!r}.")
    facts = SearchFound(
        hits=[part.facts for part in hits], more=next_cursor is not None, next_cursor=next_cursor, hint=hint
    )
    return Told("\n\n".join([*lines, hint]), facts)


def _hint(document: str, *, cut: str | None, number: int) -> str:
    whole = f"Whole document: get_document(ids=[{_example(document)}])."
    return whole if cut is None else f"Hit {number} is cut: get_document(ids=[{_example(cut)}]) reads on. {whole}"


def _example(name: str) -> str:
    return quoted(name) if estimate_tokens(name) <= _EXAMPLE_TOKENS_MAX else "its id"
