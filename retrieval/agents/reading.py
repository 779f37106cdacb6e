"""Reading documents as a tool: whole ones, or on from a passage, a budget shared among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from retrieval.agents.messages import DocumentsRead, GetArguments, ReadDocument
from retrieval.agents.names import DOCUMENT_ADDRESS, Place
from retrieval.agents.naming import names_of, places_named
from retrieval.agents.passages import TITLE_TOKENS_MAX
from retrieval.agents.texts import URI_LENGTH_MAX, beginning, cut_to, quoted
from retrieval.service import RetrievalService
from shared.errors import NotFound
from shared.mcp.addresses import address
from shared.mcp.budget import CHARACTERS_MAX, Part, share
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import Document

_NAME_TOKENS_MAX: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A document, what it is called, and where reading begins."""

    document: Document
    name: str
    start: int


def told_documents(opened: Sequence[Opened], missing: Sequence[str], *, max_tokens: int) -> Told:
    """As many of the documents as fit, each with its part of the budget. Pure."""
    named = [cut_to(name, _NAME_TOKENS_MAX) for name in missing]
    longest = _told([], named, left_out=len(opened))
    frame = Part(longest.text, longest.facts)
    shared = share(
        [partial(_part, each) for each in opened],
        tokens_max=max_tokens - frame.tokens,
        characters_max=CHARACTERS_MAX - frame.characters,
    )
    return _told(shared.parts, named, left_out=shared.left_out)


async def get_document(service: RetrievalService, caller: Caller, arguments: GetArguments) -> Told:
    tenant = caller.principal.tenant
    names = list(dict.fromkeys(arguments.ids))
    places = await places_named(service, tenant, names)
    opened, missing = list[Opened](), list[str]()
    for name in names:
        found = await _opened(service, tenant, places[name], start=arguments.start)
        if found is None:
            missing.append(name)
        else:
            opened.append(found)
    return told_documents(opened, missing, max_tokens=arguments.max_tokens)


def _told(parts: Sequence[Part[ReadDocument]], missing: Sequence[str], *, left_out: int) -> Told:
    hints = []
    if left_out:
        hints.append(f"No room for the last {left_out} documents: ask for them in another call.")
    if missing:
        hints.append("search_documents finds the ids that there are.")
    lines = [part.text for part in parts]
    if missing:
        lines.append(f"Not found: {', '.join(missing)}.")
    facts = DocumentsRead(documents=[part.facts for part in parts], missing=list(missing), hint=" ".join(hints) or None)
    return Told("\n\n".join([*lines, *hints]), facts)


def _part(opened: Opened, characters: int | None) -> Part[ReadDocument]:
    document, start = opened.document, opened.start
    text = document.text[start : start + CHARACTERS_MAX]  # more never fits
    shown, length = beginning(text, characters), len(document.text)
    end = start + len(shown)
    uri = address(DOCUMENT_ADDRESS, collection=document.collection, document_id=document.id)
    facts = ReadDocument(
        id=opened.name,
        title=cut_to(document.title, TITLE_TOKENS_MAX),
        text=shown,
        uri=uri if len(uri) <= URI_LENGTH_MAX else None,
        start=start,
        end=end,
        length=length,
        next_start=end if end < length else None,
    )
    source = f", {facts.uri}" if facts.uri else ""
    head = f"{facts.title or 'No title'} (id {facts.id}, characters {start} to {end} of {length}{source})"
    more = f"\nMore: get_document(ids=[{quoted(facts.id)}], start={end})." if end < length else ""
    return Part(f"{head}\n{shown}{more}", facts)


async def _opened(service: RetrievalService, tenant: str, place: Place | None, *, start: int) -> Opened | None:
    if place is None:
        return None
    try:
        document = await service.document(tenant, place.collection, place.document_id)
    except NotFound:
        return None
    whole = Place(place.collection, place.document_id)
    name = (await names_of(service, tenant, [whole]))[whole]
    return Opened(document=document, name=name, start=min(start or place.start or 0, len(document.text)))
