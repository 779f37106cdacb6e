"""Collections as agents see them: which there are, what is in them, and what to say of one that is not there."""

from functools import partial
from typing import Final

from retrieval.agents.filters import type_of
from retrieval.agents.messages import CollectionsListed, ListArguments, ListedCollection
from retrieval.agents.texts import counted, shortened
from retrieval.service import RetrievalService
from retrieval.truth.lookups import Fields
from shared.errors import NotFound
from shared.mcp.budget import Part, pack
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import Collection

# Half of what an answer may have by default: it stands before the work, and is not the work.
_TOKENS_MAX: Final = 4000
# More than these never fit, so more are not read.
_COLLECTIONS_MAX: Final = 200
_FIELDS_MAX: Final = 20
_DESCRIPTION_LENGTH_MAX: Final = 300
_NAMES_SHOWN_MAX: Final = 20
_NAME_LENGTH_MAX: Final = 80


async def list_collections(service: RetrievalService, caller: Caller, _arguments: ListArguments) -> Told:
    tenant = caller.principal.tenant
    page = await service.collection_page(tenant, None, _COLLECTIONS_MAX)
    names = [collection.name for collection in page.items]
    fields = {found.collection: found for found in await service.fields(tenant, names, fields_max=_FIELDS_MAX)}
    listed = [_listed(collection, fields[collection.name]) for collection in page.items if collection.name in fields]
    packed = pack([partial(_part, each) for each in listed], tokens_max=_TOKENS_MAX)
    hint = _hint(shown=len(packed.parts), left_out=packed.left_out, is_all=page.next_cursor is None)
    facts = CollectionsListed(collections=[part.facts for part in packed.parts], hint=hint)
    text = "\n".join(
        [
            counted(len(packed.parts), "collection") if listed else "No collections.",
            *(part.text for part in packed.parts),
        ]
    )
    return Told(f"{text}\n{hint}" if hint else text, facts)


async def has_collection(service: RetrievalService, tenant: str, name: str) -> bool:
    return await service.collection_names(tenant, prefix=name, limit=1) == [name]


async def check_collection(service: RetrievalService, tenant: str, name: str) -> None:
    """Raises NotFound that lists those of the tenant."""
    if not await has_collection(service, tenant, name):
        raise NotFound(f"No collection named {_short(name)!r}. {await said_collections(service, tenant)}")


async def said_collections(service: RetrievalService, tenant: str) -> str:
    names = await service.collection_names(tenant, limit=_NAMES_SHOWN_MAX + 1)
    if not names:
        return "There are no collections yet."
    more = ", and more (list_collections)" if len(names) > _NAMES_SHOWN_MAX else ""
    return f"Collections: {', '.join(_short(name) for name in names[:_NAMES_SHOWN_MAX])}{more}."


def typed_fields(fields: Fields) -> dict[str, str]:
    """What to filter by, with the types of the values. Names that are longer than words are nobody's to write."""
    return {
        field.name: kind
        for field in fields.fields
        if len(field.name) <= _NAME_LENGTH_MAX and (kind := type_of([field]))
    }


def _listed(collection: Collection, fields: Fields) -> ListedCollection:
    return ListedCollection(
        name=collection.name,
        documents=collection.documents,
        description=shortened(collection.description, _DESCRIPTION_LENGTH_MAX),
        filter_fields=typed_fields(fields),
    )


def _part(listed: ListedCollection, _characters: int | None) -> Part[ListedCollection]:
    words = [f"- {listed.name}: {counted(listed.documents, 'document')}"]
    if listed.description:
        words.append(listed.description)
    if listed.filter_fields:
        words.append(f"Filter by {', '.join(f'{name} ({kind})' for name, kind in listed.filter_fields.items())}")
    return Part(". ".join(words), listed)


def _hint(*, shown: int, left_out: int, is_all: bool) -> str | None:
    if not shown:
        return "add_documents makes a collection."
    if left_out or not is_all:
        return f"There are more collections than these {shown}; a search without a collection looks in all of them."
    return None


def _short(name: str) -> str:
    return shortened(name, _NAME_LENGTH_MAX)
