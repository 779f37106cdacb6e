"""Search as a tool: the service's own packing to a budget, then as much of it as fits on both channels."""

from functools import partial
from typing import Final

import msgspec

from retrieval.agents.empty import nothing_found
from retrieval.agents.filters import check_fields, filter_of
from retrieval.agents.listing import known_collection
from retrieval.agents.messages import FoundHit, SearchArguments, ToolMode
from retrieval.agents.names import DOCUMENT_ADDRESS, Place
from retrieval.agents.naming import names_of
from retrieval.agents.texts import hit_part, quoted, search_told
from retrieval.service import RetrievalService
from shared.mcp.addresses import address
from shared.mcp.budget import CHARACTERS_MAX, Packed, Part, pack
from shared.mcp.catalogue import Caller, Told
from shared.retrieval_messages import Hit, SearchAnswer, SearchMode, SearchRequest
from shared.tokens import estimate_tokens

MODES: Final[dict[ToolMode, SearchMode]] = {"hybrid": "hybrid", "semantic": "dense", "keyword": "lexical"}
# What an id, a title, an address and the names of the fields cost beside a passage, measured on short ids.
_HIT_TOKENS: Final = 60
# Quotes and line ends are escaped on one of the two channels.
_TEXT_SHARE: Final = 0.9
# Of the budget, however many hits are asked for: better few that say something.
_TEXT_SHARE_MIN: Final = 0.4
# A cursor and the words around it, at their longest.
_CURSOR_TOKENS: Final = 40
_FIELDS_MAX: Final = 200
_EXAMPLE_LENGTH_MAX: Final = 80


async def search_documents(service: RetrievalService, caller: Caller, arguments: SearchArguments) -> Told:
    tenant = caller.principal.tenant
    request = await _request(service, tenant, arguments)
    while True:
        answer = await service.search(tenant, request)
        if not answer.hits:
            return await nothing_found(service, tenant, arguments, request)
        told, packed = await _told(service, tenant, arguments, answer)
        if not packed.left_out:
            return told
        # Asked again for what fits, so that the cursor goes on where this answer ends.
        kept = len(packed.parts)
        spent = sum(estimate_tokens(part.facts.text) for part in packed.parts)
        request = msgspec.structs.replace(request, limit=kept, max_tokens=max(1, spent))


async def _request(service: RetrievalService, tenant: str, arguments: SearchArguments) -> SearchRequest:
    """Raises InvalidFields and NotFound in words for agents."""
    if arguments.collection is not None:
        await known_collection(service, tenant, arguments.collection)
    conditions = None
    if arguments.filter:
        conditions = filter_of(arguments.filter)
        names = None if arguments.collection is None else [arguments.collection]
        found = await service.fields(tenant, names, fields_max=_FIELDS_MAX)
        check_fields(
            conditions,
            [field for each in found for field in each.fields],
            is_all=all(each.is_all for each in found),
            where=arguments.collection or "any collection",
        )
    return SearchRequest(
        query=arguments.query,
        collection=arguments.collection,
        mode=MODES[arguments.mode],
        limit=arguments.limit,
        filter=conditions,
        cursor=arguments.cursor,
        max_tokens=_text_tokens(arguments),
    )


def _text_tokens(arguments: SearchArguments) -> int:
    """For the passages themselves."""
    whole = min(arguments.max_tokens, CHARACTERS_MAX // 4)
    beside = _CURSOR_TOKENS + _HIT_TOKENS * arguments.limit
    return max(1, int(max(whole * _TEXT_SHARE_MIN, (whole - beside) * _TEXT_SHARE)))


async def _told(
    service: RetrievalService, tenant: str, arguments: SearchArguments, answer: SearchAnswer
) -> tuple[Told, Packed[FoundHit]]:
    hits = answer.hits
    passages = [Place(hit.collection, hit.document_id, hit.start) for hit in hits]
    names = await names_of(service, tenant, [*passages, Place(hits[0].collection, hits[0].document_id)])
    makers = [
        partial(_part, hit, names[place], index + 1, arguments.detail == "detailed")
        for index, (hit, place) in enumerate(zip(hits, passages, strict=True))
    ]
    tell = partial(search_told, arguments.query, arguments.mode, next_cursor=answer.next_cursor)
    document, last = names[Place(hits[0].collection, hits[0].document_id)], names[passages[-1]]
    longest = tell([], hint=_hint(document, cut=last, number=len(hits)))
    frame = Part(longest.text, longest.facts)
    packed = pack(
        makers, tokens_max=arguments.max_tokens - frame.tokens, characters_max=CHARACTERS_MAX - frame.characters
    )
    is_cut = packed.is_cut or hits[-1].is_cut
    return tell(packed.parts, hint=_hint(document, cut=last if is_cut else None, number=len(hits))), packed


def _part(hit: Hit, name: str, number: int, with_metadata: bool, characters: int | None) -> Part[FoundHit]:  # noqa: FBT001 - made by partial
    uri = address(DOCUMENT_ADDRESS, collection=hit.collection, document_id=hit.document_id)
    return hit_part(hit, name, uri, number=number, with_metadata=with_metadata, characters=characters)


def _hint(document: str, *, cut: str | None, number: int) -> str:
    whole = f"Whole document: get_document(ids=[{_example(document)}])."
    return whole if cut is None else f"Hit {number} is cut: get_document(ids=[{_example(cut)}]) reads on. {whole}"


def _example(name: str) -> str:
    return quoted(name) if len(name) <= _EXAMPLE_LENGTH_MAX else "its id"
