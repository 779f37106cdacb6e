"""Collections and documents as resources, with suggestions for their names."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from retrieval.agents.listing import typed_fields
from retrieval.agents.names import DOCUMENT_ADDRESS
from retrieval.agents.texts import counted
from retrieval.service import RetrievalService
from shared.errors import NotFound
from shared.mcp.addresses import address
from shared.mcp.catalogue import Caller, ResourceInfo, ResourceKind, ResourcePage

COLLECTION_ADDRESS: Final = "collection://{name}"
_LISTED_MAX: Final = 100
# One more than the protocol shows, so that it can say that there are more.
_SUGGESTED_MAX: Final = 101
_FIELDS_MAX: Final = 200


async def list_collections(service: RetrievalService, caller: Caller, cursor: str | None) -> ResourcePage:
    page = await service.collection_page(caller.principal.tenant, cursor, _LISTED_MAX)
    items = [
        ResourceInfo(
            uri=address(COLLECTION_ADDRESS, name=each.name),
            name=each.name,
            title=each.name,
            description=each.description or counted(each.documents, "document"),
            media_type="application/json",
        )
        for each in page.items
    ]
    return ResourcePage(items=items, next_cursor=page.next_cursor)


async def read_collection(service: RetrievalService, caller: Caller, values: Mapping[str, str]) -> str:
    tenant, name = caller.principal.tenant, values["name"]
    collection = await service.collection(tenant, name)
    (fields,) = await service.fields(tenant, [name], fields_max=_FIELDS_MAX)
    facts: dict[str, Any] = {
        "name": collection.name,
        "description": collection.description,
        "documents": collection.documents,
        "passages": collection.chunks,
        "model": collection.model,
        "language": collection.language,
        "filter_fields": typed_fields(fields),
    }
    return msgspec.json.encode(facts).decode()


async def read_document(service: RetrievalService, caller: Caller, values: Mapping[str, str]) -> str:
    document = await service.document(caller.principal.tenant, values["collection"], values["document_id"])
    return document.text


async def suggest_collections(
    service: RetrievalService, caller: Caller, typed: str, _known: Mapping[str, str]
) -> list[str]:
    return await service.collection_names(caller.principal.tenant, prefix=typed, limit=_SUGGESTED_MAX)


async def suggest_documents(
    service: RetrievalService, caller: Caller, typed: str, known: Mapping[str, str]
) -> list[str]:
    """Of the collection that is known, or of the only one."""
    tenant, name = caller.principal.tenant, known.get("collection")
    if name is None:
        found = await service.collection_names(tenant, limit=2)
        if len(found) != 1:
            return []
        name = found[0]
    try:
        return await service.document_ids(tenant, name, prefix=typed, limit=_SUGGESTED_MAX)
    except NotFound:
        return []


RESOURCES: Final = (
    ResourceKind(
        uri_template=COLLECTION_ADDRESS,
        name="collection",
        title="Collection",
        description="What a collection holds: counts, model, fields to filter by",
        media_type="application/json",
        scope="retrieval:read",
        read=read_collection,
        listed=list_collections,
        completions={"name": suggest_collections},
    ),
    ResourceKind(
        uri_template=DOCUMENT_ADDRESS,
        name="document",
        title="Document",
        description="A document's whole text",
        media_type="text/markdown",
        scope="retrieval:read",
        read=read_document,
        completions={"collection": suggest_collections, "document_id": suggest_documents},
    ),
)
