"""Search as a tool: the service's own packing to a budget, then as much of it as fits on both channels."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from retrieval.agents.empty import nothing_found
from retrieval.agents.filters import filter_of, unknown_field, unknown_fields
from retrieval.agents.listing import check_collection
from retrieval.agents.messages import FoundHit, SearchArguments, ToolMode
from retrieval.agents.names import Place
from retrieval.agents.naming import names_of
from retrieval.agents.passages import Passage, told_passages
from retrieval.searching.packing import CUT_TOKENS_MIN
from retrieval.service import RetrievalService
from retrieval.truth.lookups import Field, Fields
from shared.errors import NotFound
from shared.mcp.budget import CHARACTERS_MAX, Packed
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import SearchAnswer, SearchMode, SearchRequest
from shared.tokens import estimate_tokens

MODES: Final[dict[ToolMode, SearchMode]] = {"hybrid": "hybrid", "semantic": "dense", "keyword": "lexical"}
# What an id, a title, an address and the names of the fields cost beside a passage, measured on short ids.
_HIT_TOKENS: Final = 60
# What a hit takes of a budget with all that, at least: more hits than that are not expected in it.
_PASSAGE_TOKENS: Final = 300
# Quotes and line ends are escaped on one of the two channels.
_TEXT_SHARE: Final = 0.9
# Of the budget, however many hits are asked for: better few that say something.
_TEXT_SHARE_MIN: Final = 0.4
# The first line, a cursor and the hint.
_FRAME_TOKENS: Final = 80
# Whose fields are named where one is unknown; they are not read of thousands for an error.
_COLLECTIONS_LISTED_MAX: Final = 50


async def search_documents(service: RetrievalService, caller: Caller, arguments: SearchArguments) -> Told:
    tenant = caller.principal.tenant
    request = await _request(service, tenant, arguments)
    while True:
        try:
            answer = await service.search(tenant, request)
        except NotFound:
            # Looked at only now: a look before each search would be a read more for all that name it well.
            await _check(service, tenant, arguments)
            raise
        if not answer.hits:
            return await nothing_found(service, tenant, arguments, request)
        told, packed = await _told(service, tenant, arguments, answer)
        if not packed.left_out:
            return told
        # Asked again for what fits, so that the cursor goes on where this answer ends.
        kept = len(packed.parts)
        spent = sum(estimate_tokens(part.facts.text) for part in packed.parts)
        request = msgspec.structs.replace(request, limit=kept, max_tokens=max(CUT_TOKENS_MIN, spent))


async def _request(service: RetrievalService, tenant: str, arguments: SearchArguments) -> SearchRequest:
    """Raises InvalidFields and NotFound in words for agents, where there is a filter."""
    conditions = await _conditions(service, tenant, arguments) if arguments.filter else None
    return SearchRequest(
        query=arguments.query,
        collection=arguments.collection,
        mode=MODES[arguments.mode],
        limit=arguments.limit,
        filter=conditions,
        cursor=arguments.cursor,
        max_tokens=_text_tokens(arguments),
    )


async def _check(service: RetrievalService, tenant: str, arguments: SearchArguments) -> None:
    """Raises NotFound."""
    if arguments.collection is not None:
        await check_collection(service, tenant, arguments.collection)


async def _conditions(service: RetrievalService, tenant: str, arguments: SearchArguments) -> dict[str, Any]:
    await _check(service, tenant, arguments)
    conditions = filter_of(arguments.filter or {})
    names = None if arguments.collection is None else [arguments.collection]
    unknown = unknown_fields(conditions, _fields(await service.fields(tenant, names, only=list(conditions))))
    if unknown:
        listed = names or await service.collection_names(tenant, limit=_COLLECTIONS_LISTED_MAX)
        raise unknown_field(
            unknown[0], _fields(await service.fields(tenant, listed)), arguments.collection or "any collection"
        )
    return conditions


def _fields(found: Sequence[Fields]) -> list[Field]:
    return [field for each in found for field in each.fields]


def _text_tokens(arguments: SearchArguments) -> int:
    """For the passages themselves."""
    whole = min(arguments.max_tokens, CHARACTERS_MAX // 4)
    beside = _FRAME_TOKENS + _HIT_TOKENS * min(arguments.limit, whole // _PASSAGE_TOKENS)
    return max(1, int(max(whole * _TEXT_SHARE_MIN, (whole - beside) * _TEXT_SHARE)))


async def _told(
    service: RetrievalService, tenant: str, arguments: SearchArguments, answer: SearchAnswer
) -> tuple[Told, Packed[FoundHit]]:
    places = [Place(hit.collection, hit.document_id, hit.start) for hit in answer.hits]
    first = Place(places[0].collection, places[0].document_id)
    names = await names_of(service, tenant, [*places, first])
    return told_passages(
        [Passage(hit, names[place]) for hit, place in zip(answer.hits, places, strict=True)],
        document=names[first],
        query=arguments.query,
        mode=arguments.mode,
        next_cursor=answer.next_cursor,
        with_metadata=arguments.detail == "detailed",
        max_tokens=arguments.max_tokens,
    )
