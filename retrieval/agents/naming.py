"""Names of documents between an agent and the service: what it wrote to where that is, and back."""

from collections.abc import Sequence

from retrieval.agents.names import Place, ids_in, name_of, names_to_check, place_of
from retrieval.service import RetrievalService


async def names_of(service: RetrievalService, tenant: str, places: Sequence[Place]) -> dict[Place, str]:
    holders = await service.holders(tenant, ids_in([name for place in places for name in names_to_check(place)]))
    return {place: name_of(place, holders) for place in places}


async def places_named(
    service: RetrievalService, tenant: str, names: Sequence[str], *, collection: str | None = None
) -> dict[str, Place | None]:
    """None for a name that no document has, in `collection` if one is given. Raises InvalidFields for a name that documents of
    several collections have."""
    holders = await service.holders(tenant, ids_in(names))
    if collection is not None:
        holders = {document_id: [collection] for document_id, found in holders.items() if collection in found}
    return {name: place_of(name, holders) for name in names}
