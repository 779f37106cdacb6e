"""Reading documents as a tool: whole ones, or on from a passage, a budget shared among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from retrieval.agents.messages import DocumentsRead, GetArguments, ReadDocument
from retrieval.agents.names import DOCUMENT_ADDRESS, Place
from retrieval.agents.naming import names_of, places_named
from retrieval.agents.texts import document_part, shortened
from retrieval.service import RetrievalService
from shared.errors import NotFound
from shared.mcp.addresses import address
from shared.mcp.budget import CHARACTERS_MAX, Part, share
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import Document

_NAME_LENGTH_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A document, and where reading begins."""

    document: Document
    name: str
    start: int

    def part(self, characters: int | None) -> Part[ReadDocument]:
        document = self.document
        return document_part(
            self.name,
            document.title,
            address(DOCUMENT_ADDRESS, collection=document.collection, document_id=document.id),
            document.text[self.start : self.start + CHARACTERS_MAX],
            start=self.start,
            length=len(document.text),
            characters=characters,
        )


async def get_document(service: RetrievalService, caller: Caller, arguments: GetArguments) -> Told:
    tenant = caller.principal.tenant
    names = list(dict.fromkeys(arguments.ids))
    places = await places_named(service, tenant, names)
    opened, missing = [], []
    for name in names:
        found = await _opened(service, tenant, places[name], start=arguments.start)
        if found is None:
            missing.append(shortened(name, _NAME_LENGTH_MAX))
        else:
            opened.append(found)
    longest = _told([], missing, left_out=len(opened))
    frame = Part(longest.text, longest.facts)
    shared = share(
        [each.part for each in opened],
        tokens_max=arguments.max_tokens - frame.tokens,
        characters_max=CHARACTERS_MAX - frame.characters,
    )
    return _told(shared.parts, missing, left_out=shared.left_out)


def _told(parts: Sequence[Part[ReadDocument]], missing: list[str], *, left_out: int) -> Told:
    hints = []
    if left_out:
        hints.append(f"No room for the last {left_out} documents: ask for them in another call.")
    if missing:
        hints.append("search_documents finds the ids that there are.")
    lines = [part.text for part in parts]
    if missing:
        lines.append(f"Not found: {', '.join(missing)}.")
    facts = DocumentsRead(documents=[part.facts for part in parts], missing=missing, hint=" ".join(hints) or None)
    return Told("\n\n".join([*lines, *hints]), facts)


async def _opened(service: RetrievalService, tenant: str, place: Place | None, *, start: int) -> _Open | None:
    if place is None:
        return None
    try:
        document = await service.document(tenant, place.collection, place.document_id)
    except NotFound:
        return None
    whole = Place(place.collection, place.document_id)
    name = (await names_of(service, tenant, [whole]))[whole]
    return _Open(document=document, name=name, start=min(start or place.start or 0, len(document.text)))
