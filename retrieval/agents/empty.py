"""What is said of a search that found nothing: plainly that, and how much another search would find. It is counted, not
given: an agent that asked within a filter must never be handed what lies outside of it."""

from typing import Final

import msgspec

from retrieval.agents.messages import SearchArguments, SearchFound
from retrieval.agents.texts import shortened, shown_query
from retrieval.service import RetrievalService
from shared.mcp.catalogue import Told
from shared.retrieval_messages import SearchRequest

# Enough to tell a few from many.
_COUNTED_MAX: Final = 50
_FILTER_LENGTH_MAX: Final = 160


async def nothing_found(
    service: RetrievalService, tenant: str, arguments: SearchArguments, request: SearchRequest
) -> Told:
    if arguments.cursor is not None:
        return Told(
            f"No more passages for {shown_query(arguments.query)}; the answer before had the last ones.",
            SearchFound(hits=[], more=False, hint="The answer before had the last ones."),
        )
    counted = []
    for words, wider in _wider(request):
        answer = await service.search(tenant, wider)
        if answer.hits:
            counted.append(f"{len(answer.hits)}{' or more' if answer.next_cursor else ''} {words}")
    hint = f"{'; '.join(counted)}." if counted else await _reason(service, tenant, request)
    text = f"No passages for {shown_query(arguments.query)}{_within(arguments)}. {hint}"
    return Told(text, SearchFound(hits=[], more=False, hint=hint))


def _wider(request: SearchRequest) -> list[tuple[str, SearchRequest]]:
    """The same search with one restriction less."""
    same = msgspec.structs.replace(request, limit=_COUNTED_MAX, max_tokens=None)
    found = []
    if request.filter:
        found.append(("without the filter", msgspec.structs.replace(same, filter=None)))
    if request.mode == "lexical":
        found.append(
            ("with mode='hybrid', which also finds other words for it", msgspec.structs.replace(same, mode="hybrid"))
        )
    if request.collection is not None:
        found.append(("in all collections", msgspec.structs.replace(same, collection=None)))
    return found


async def _reason(service: RetrievalService, tenant: str, request: SearchRequest) -> str:
    if request.collection is not None:
        collection = await service.collection(tenant, request.collection)
        if collection.documents == 0:
            return f"The collection {shortened(collection.name, 80)!r} is empty; add_documents fills it."
    elif not await service.collection_names(tenant, limit=1):
        return "There are no collections yet; add_documents makes one."
    if len((request.filter or {}).keys()) > 1:
        return "Nothing either with one restriction less; try fewer filters or other words."
    return "Try other words."


def _within(arguments: SearchArguments) -> str:
    place = f" in {shortened(arguments.collection, 80)}" if arguments.collection else ""
    kept = []
    if arguments.filter:
        kept.append(f"filter {shortened(msgspec.json.encode(arguments.filter).decode(), _FILTER_LENGTH_MAX)}")
    if arguments.mode != "hybrid":
        kept.append(arguments.mode)
    return f"{place} ({', '.join(kept)})" if kept else place
