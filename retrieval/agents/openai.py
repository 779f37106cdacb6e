"""The two tools that OpenAI's connectors expect, in their shapes: `search` finds documents, `fetch` gives one. What is told
as text is the same JSON as the fields."""

from typing import Any, Final

import msgspec

from retrieval.agents.messages import (
    OpenDocument,
    OpenFetchArguments,
    OpenFound,
    OpenHit,
    OpenSearchArguments,
)
from retrieval.agents.names import DOCUMENT_ADDRESS, Place
from retrieval.agents.naming import names_of, places_named
from retrieval.agents.passages import metadata_shown
from retrieval.agents.texts import CUT, beginning, shortened
from retrieval.service import RetrievalService
from shared.errors import NotFound
from shared.mcp.addresses import address
from shared.mcp.budget import CHARACTERS_MAX, Part, share
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import Document, SearchRequest

_DOCUMENTS_MAX: Final = 10
# A host reads a fetched document whole, so only the bound on characters holds.
_TOKENS_MAX: Final = CHARACTERS_MAX
_TITLE_LENGTH_MAX: Final = 160
_NAME_LENGTH_MAX: Final = 100
_URL_LENGTH_MAX: Final = 500


async def search(service: RetrievalService, caller: Caller, arguments: OpenSearchArguments) -> Told:
    tenant = caller.principal.tenant
    answer = await service.search(
        tenant, SearchRequest(query=arguments.query, limit=_DOCUMENTS_MAX, group_by_document=True)
    )
    places = [Place(hit.collection, hit.document_id) for hit in answer.hits]
    names = await names_of(service, tenant, places)
    return _told(
        OpenFound(
            results=[
                OpenHit(id=names[place], title=_title(hit.title, names[place]), url=_url(hit.uri, place))
                for hit, place in zip(answer.hits, places, strict=True)
            ]
        )
    )


async def fetch(service: RetrievalService, caller: Caller, arguments: OpenFetchArguments) -> Told:
    """Raises NotFound."""
    tenant = caller.principal.tenant
    place = (await places_named(service, tenant, [arguments.id]))[arguments.id]
    if place is None:
        raise NotFound(f"there is no document {shortened(arguments.id, _NAME_LENGTH_MAX)!r}; search finds the ids")
    document = await service.document(tenant, place.collection, place.document_id)

    def make(characters: int | None) -> Part[OpenDocument]:
        facts = _document(document, arguments.id, characters)
        return Part(_json(facts), facts)

    (part,) = share([make], tokens_max=_TOKENS_MAX).parts
    return _told(part.facts)


def _document(document: Document, name: str, characters: int | None) -> OpenDocument:
    text = document.text[:CHARACTERS_MAX]
    shown = beginning(text, characters)
    is_cut = len(shown) < len(document.text)
    metadata: dict[str, Any] = metadata_shown(document.metadata)
    if is_cut:
        metadata |= {"characters": len(document.text), "characters_shown": len(shown)}
    return OpenDocument(
        id=name,
        title=_title(document.title, name),
        text=shown + CUT if is_cut else shown,
        url=_url(document.uri, Place(document.collection, document.id)),
        metadata=metadata,
    )


def _title(title: str, name: str) -> str:
    return shortened(title or name, _TITLE_LENGTH_MAX)


def _url(uri: str, place: Place) -> str:
    """Where the document came from, if a person can follow that."""
    if uri.startswith(("https://", "http://")) and len(uri) <= _URL_LENGTH_MAX:
        return uri
    return address(DOCUMENT_ADDRESS, collection=place.collection, document_id=place.document_id)


def _told(facts: msgspec.Struct) -> Told:
    return Told(_json(facts), facts)


def _json(facts: msgspec.Struct) -> str:
    return msgspec.json.encode(facts).decode()
