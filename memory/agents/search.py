"""`search_memories`: facts, messages and summaries by meaning, words and time; without a query the newest."""

import hashlib
import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from memory.agents.fitting import clipped, echoed
from memory.agents.found import Detail, FoundMemories, Hits, MemoryKind, counted, kind_of, told_hits
from memory.agents.identity import user_of
from memory.agents.moments import When, moment_of
from memory.agents.sessions import own_session
from memory.service import MemoryService
from shared.errors import invalid
from shared.fact_messages import FactsQuery
from shared.mcp.catalogue import Caller, Told
from shared.memory_messages import RecallKind, RecallRequest
from shared.messages import ID_PATTERN, TEXT_PATTERN, Request

_OF_FACTS: Final = frozenset({"fact", "preference", "instruction", "event"})
_WITHOUT_SUMMARIES: Final[tuple[MemoryKind, ...]] = ("fact", "preference", "instruction", "event", "message")
# What one recall can rank. Who has read so many needs another question.
_RANKED_MAX: Final = 1000
_COUNTED_MAX: Final = 50
_CURSOR: Final = re.compile(r"([1-9][0-9]{0,3})\.([0-9a-f]{12})")


class SearchMemories(Request, frozen=True, kw_only=True):
    query: Annotated[str, Meta(max_length=2000, pattern=TEXT_PATTERN, description="Empty: the newest")] = ""
    kinds: Annotated[list[MemoryKind], Meta(min_length=1, description="Default: all but summary")] | None = None
    session_id: (
        Annotated[
            str,
            Meta(min_length=1, max_length=256, pattern=ID_PATTERN, description="Only its messages and summaries"),
        ]
        | None
    ) = None
    since: When | None = None
    until: When | None = None
    as_of: Annotated[str, Meta(description="Look from this earlier time")] | None = None
    limit: Annotated[int, Meta(ge=1, le=50, description="At most so many")] = 10
    detail: Annotated[Detail, Meta(description="detailed: long messages whole")] = "concise"
    max_tokens: Annotated[int, Meta(ge=500, le=20_000, description="Size of the answer")] = 3000
    cursor: Annotated[str, Meta(description="next_cursor of the same search")] | None = None


async def search_memories(service: MemoryService, caller: Caller, arguments: SearchMemories) -> Told:
    user_id, tenant = user_of(caller, service.settings.mcp_user), caller.principal.tenant
    if arguments.session_id is not None:
        await own_session(service, tenant, user_id, arguments.session_id)
    shown = _shown(arguments, user_id)
    limit = min(arguments.limit, _RANKED_MAX - shown)
    request = _request(arguments, user_id, until=shown + limit + 1)
    answer = await service.recall(tenant, request)
    wanted = _wanted(arguments)
    hits = [hit for hit in answer.items if kind_of(hit) in wanted][shown:]
    if not hits:
        return await _nothing(service, caller, user_id, arguments, is_past_end=shown > 0)
    found = Hits(
        hits=hits[:limit],
        has_more=len(hits) > limit,
        shown=shown,
        is_last=len(answer.items) >= _RANKED_MAX,
        degraded=answer.degraded,
    )
    return told_hits(
        found,
        query=arguments.query,
        detail=arguments.detail,
        tokens_max=arguments.max_tokens,
        cursor_at=lambda seen: _cursor(arguments, user_id, seen) if seen < _RANKED_MAX else None,
    )


def _wanted(arguments: SearchMemories) -> frozenset[MemoryKind]:
    return frozenset(arguments.kinds or _WITHOUT_SUMMARIES)


def _request(arguments: SearchMemories, user_id: str, *, until: int) -> RecallRequest:
    """For the best `until`. Kinds of facts are told apart only afterwards, so all that can be ranked is asked for then."""
    wanted = _wanted(arguments)
    of_facts = wanted & _OF_FACTS
    kinds: list[RecallKind] = []
    if "message" in wanted:
        kinds.append("turn")
    if of_facts:
        kinds.append("fact")
    if "summary" in wanted:
        kinds.append("span")
    is_part_of_facts = bool(of_facts) and of_facts != _OF_FACTS
    return RecallRequest(
        user_id=user_id,
        session_id=arguments.session_id,
        query=arguments.query.strip() or None,
        kinds=tuple(kinds),
        since=moment_of(arguments.since, "since"),
        until=moment_of(arguments.until, "until", at_end=True),
        as_of=moment_of(arguments.as_of, "as_of", at_end=True),
        limit=_RANKED_MAX if is_part_of_facts else min(until, _RANKED_MAX),
    )


async def _nothing(
    service: MemoryService, caller: Caller, user_id: str, arguments: SearchMemories, *, is_past_end: bool
) -> Told:
    """Said plainly, with what each condition keeps out. Nothing is widened."""
    if is_past_end:
        facts = FoundMemories(memories=[], hint="That was all of this search.")
        return Told("No more memories: that was all of this search.", facts)
    conditions = [name for name in ("kinds", "session_id", "since", "until", "as_of") if getattr(arguments, name)]
    hints: list[str] = []
    for name in conditions:
        wider = msgspec.structs.replace(arguments, **{name: None})
        count = await _count(service, caller.principal.tenant, user_id, wider)
        if count:
            hints.append(f"{count}{' or more' if count == _COUNTED_MAX else ''} without {name}.")
    if not hints:
        hints.append(await _what_there_is(service, caller, user_id, has_conditions=bool(conditions)))
    what = f" for {echoed(arguments.query)}" if arguments.query.strip() else ""
    within = f" ({', '.join(_said(arguments, name) for name in conditions)})" if conditions else ""
    facts = FoundMemories(memories=[], hint=" ".join(hints))
    return Told(f"No memories{what}{within}. {facts.hint}", facts)


def _said(arguments: SearchMemories, name: str) -> str:
    value = getattr(arguments, name)
    return f"{name} {', '.join(value) if isinstance(value, list) else clipped(value, 40)}"


async def _what_there_is(service: MemoryService, caller: Caller, user_id: str, *, has_conditions: bool) -> str:
    count = await _count(service, caller.principal.tenant, user_id, SearchMemories())
    query = FactsQuery(user_id=user_id, status="pending", limit=_COUNTED_MAX)
    waiting = len((await service.facts.page(caller.principal, query)).items)
    rest = f" {counted(waiting)} of this user wait for approval, and are not found until then." if waiting else ""
    if not count:
        return "This user has no memories yet; add_memory and record_messages put some in." + rest
    in_all = f"{counted(count, at_least=count == _COUNTED_MAX)} in all"
    if has_conditions:
        return f"No condition alone keeps anything out; this user has {in_all}, without any condition and query.{rest}"
    return f"This user has {in_all}; try other words, or no query for the newest.{rest}"


async def _count(service: MemoryService, tenant: str, user_id: str, arguments: SearchMemories) -> int:
    answer = await service.recall(tenant, _request(arguments, user_id, until=_COUNTED_MAX))
    wanted = _wanted(arguments)
    return min(_COUNTED_MAX, sum(kind_of(hit) in wanted for hit in answer.items))


def _cursor(arguments: SearchMemories, user_id: str, shown: int) -> str:
    """How many were shown, of which search. The order is made anew for every page, so nothing is kept for it."""
    return f"{shown}.{_digest(arguments, user_id)}"


def _shown(arguments: SearchMemories, user_id: str) -> int:
    """Raises InvalidFields."""
    if arguments.cursor is None:
        return 0
    found = _CURSOR.fullmatch(arguments.cursor)
    if found is None or found[2] != _digest(arguments, user_id) or int(found[1]) >= _RANKED_MAX:
        raise invalid("cursor", "is not of this search; repeat the call as it was, or leave the cursor out to start")
    return int(found[1])


def _digest(arguments: SearchMemories, user_id: str) -> str:
    """Of what decides the order. Pages may differ in their size."""
    same = msgspec.structs.replace(
        arguments, query=arguments.query.strip(), cursor=None, limit=1, max_tokens=500, detail="concise"
    )
    return hashlib.sha256(msgspec.json.encode((user_id, same))).hexdigest()[:12]
