"""Recall: resolve whose memory is read, say what the query means beside its words, ask both legs, fetch the texts."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from memory.compaction.span_text import render
from memory.compaction.spans import Spans
from memory.embeddings import Embeddings
from memory.facts.items import FactItems
from memory.recall.event_times import event_range
from memory.recall.index import ScopeIndex, Scored, Wanted
from memory.recall.indexes import ScopeIndexes
from memory.recall.query import Understood, understand
from memory.truth.records import ItemKey, RecalledFact, RecalledItem, RecalledSpan, RecalledTurn, Scope
from memory.truth.store import Store
from memory.truth.turns import Turns
from shared.errors import invalid
from shared.fact_messages import Fact
from shared.filters import Filter, parse_filter
from shared.memory_messages import (
    RecallAnswer,
    Recalled,
    RecallKind,
    RecallPlan,
    RecallRequest,
    RecallScores,
    Span,
    Turn,
    UnderstoodTime,
)
from shared.vectors import Float32Array

_SCOPE_NEEDED: Final = "give user_id, session_id or agent_id: memory is read for somebody, never for everybody"


class Items(Protocol):
    """Reads the items of one kind. The scope is asked each time, so that an index can never widen it."""

    async def recalled(self, scope: Scope, item_ids: Sequence[int], /) -> Mapping[int, RecalledItem]: ...

    async def newest(
        self, scope: Scope, /, *, since: datetime | None, until: datetime | None, part: Filter | None, limit: int
    ) -> Sequence[RecalledItem]: ...


@dataclass(frozen=True, slots=True)
class Hit:
    """An item by relevance, before it is dressed for an answer."""

    item: RecalledItem
    score: float
    scores: RecallScores


@dataclass(frozen=True, slots=True)
class Found:
    hits: list[Hit]
    degraded: bool
    plan: RecallPlan


@dataclass(frozen=True, slots=True)
class _Searched:
    best: list[Scored]
    understood: Understood
    items: int
    without_vector: int


class Recall:
    def __init__(
        self,
        store: Store,
        turns: Turns,
        spans: Spans,
        facts: Callable[[datetime], FactItems],
        indexes: ScopeIndexes,
        embeddings: Embeddings,
        *,
        registry: CollectorRegistry,
    ) -> None:
        """`facts` reads them as of a moment."""
        self._store = store
        self._turns = turns
        self._spans = spans
        self._facts = facts
        self._indexes = indexes
        self._embeddings = embeddings
        self._degraded = Counter("diptych_recalls_degraded", "Recalls answered without vectors.", registry=registry)

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        """Raises InvalidFields, and NotFound for a session that is not the caller's."""
        _check(request)
        part = _filter(request)
        scope = await self.scope(tenant, request.user_id, request.session_id, request.agent_id)
        if request.query is None:
            hits = [Hit(item, 0.0, RecallScores()) for item in await self._newest(scope, request, part)]
            return RecallAnswer(items=[await self._dress(request, hit) for hit in hits], degraded=False)
        found = await self.find(scope, request, request.query)
        return RecallAnswer(
            items=[await self._dress(request, hit) for hit in found.hits],
            degraded=found.degraded,
            plan=found.plan if request.explain else None,
        )

    async def scope(self, tenant: str, user_id: str | None, session_id: str | None, agent_id: str | None) -> Scope:
        """Raises NotFound where the session does not exist, or is another user's."""
        if user_id is None and session_id is None and agent_id is None:
            raise invalid("$.user_id", _SCOPE_NEEDED)
        session = None
        if session_id is not None:
            session = (await self._store.session(tenant, session_id, user_id=user_id)).id
        return Scope(tenant=tenant, user_id=user_id, agent_id=agent_id, session=session)

    async def find(self, scope: Scope, request: RecallRequest, query: str) -> Found:
        """The best items. Of the request only what decides about them is looked at: the scope is given."""
        (found,) = await self.find_each(scope, [request], query)
        return found

    async def find_each(self, scope: Scope, requests: Sequence[RecallRequest], query: str) -> list[Found]:
        """As `find`, for kinds that are ranked apart: the query is embedded once. All requests have the same mode."""
        started = time.perf_counter()
        vector = None if requests[0].mode == "lexical" else await self._embeddings.query_vector(query)
        embed_s = time.perf_counter() - started
        if vector is None and requests[0].mode != "lexical":
            self._degraded.inc()
        return [await self._find(scope, request, query, vector, embed_s) for request in requests]

    async def _find(
        self, scope: Scope, request: RecallRequest, query: str, vector: Float32Array | None, embed_s: float
    ) -> Found:
        part = _filter(request)
        degraded = vector is None and request.mode != "lexical"
        use_words = request.mode != "dense" or degraded
        now = request.as_of or datetime.now(UTC)
        started = time.perf_counter()
        passed_over = await self._facts(now).passed_over(scope) if "fact" in request.kinds else frozenset[ItemKey]()
        searched = await self._indexes.use(
            scope,
            self._embeddings.model,
            lambda index: _search(
                index, request, query, vector, part, now=now, use_words=use_words, passed_over=passed_over
            ),
        )
        done = time.perf_counter()
        items = await self._read(scope, [scored.key for scored in searched.best], now)
        stages = {"embed": embed_s, "search": done - started, "fetch": time.perf_counter() - done}
        return Found(
            hits=[Hit(items[each.key], each.score, each.scores) for each in searched.best if each.key in items],
            degraded=degraded,
            plan=_plan(scope, searched, stages),
        )

    async def _newest(self, scope: Scope, request: RecallRequest, part: Filter | None) -> list[RecalledItem]:
        until = _earliest(request.until, request.as_of)
        items = self._items(request.as_of or datetime.now(UTC))
        found: list[RecalledItem] = []
        for kind in dict.fromkeys(request.kinds):
            found += await items[kind].newest(scope, since=request.since, until=until, part=part, limit=request.limit)
        # Each kind in its own order, and that order kept among those of one moment.
        return sorted(found, key=lambda item: item.created_at, reverse=True)[: request.limit]

    def _items(self, moment: datetime) -> dict[RecallKind, Items]:
        return {"turn": self._turns, "span": self._spans, "fact": self._facts(moment)}

    async def _read(self, scope: Scope, keys: Sequence[ItemKey], moment: datetime) -> dict[ItemKey, RecalledItem]:
        wanted: dict[RecallKind, list[int]] = {}
        for kind, item_id in keys:
            wanted.setdefault(kind, []).append(item_id)
        found: dict[ItemKey, RecalledItem] = {}
        items = self._items(moment)
        for kind, ids in wanted.items():
            found |= {(kind, item_id): item for item_id, item in (await items[kind].recalled(scope, ids)).items()}
        return found

    async def _dress(self, request: RecallRequest, hit: Hit) -> Recalled:
        match hit.item:
            case RecalledSpan(span=span):
                return _dressed_span(span, hit)
            case RecalledFact(fact=fact):
                return _dressed_fact(fact, hit)
            case RecalledTurn() as turn:
                before, after = None, None
                if request.neighbours:
                    until = _earliest(request.until, request.as_of)
                    before, after = await self._turns.around(turn, request.neighbours, until=until)
                return _dressed_turn(turn, hit, before, after)


def _dressed_turn(turn: RecalledTurn, hit: Hit, before: list[Turn] | None, after: list[Turn] | None) -> Recalled:
    return Recalled(
        kind="turn",
        id=turn.turn_id,
        session_id=turn.session_id,
        seq=turn.seq,
        role=turn.role,
        name=turn.name,
        text=turn.content,
        created_at=turn.created_at,
        score=hit.score,
        scores=hit.scores,
        before=before,
        after=after,
    )


def _dressed_span(span: Span, hit: Hit) -> Recalled:
    return Recalled(
        kind="span",
        id=span.id,
        session_id=span.session_id,
        level=span.level,
        first_seq=span.first_seq,
        last_seq=span.last_seq,
        since=span.since,
        text=render(span.text, span.ledger),
        created_at=span.until,
        score=hit.score,
        scores=hit.scores,
    )


def _dressed_fact(fact: Fact, hit: Hit) -> Recalled:
    return Recalled(
        kind="fact",
        id=fact.id,
        fact_kind=fact.kind,
        key=fact.key,
        pinned=fact.pinned,
        valid_from=fact.valid_from,
        valid_to=fact.valid_to,
        text=fact.text,
        created_at=fact.valid_from,
        score=hit.score,
        scores=hit.scores,
    )


def _search(
    index: ScopeIndex,
    request: RecallRequest,
    query: str,
    vector: Float32Array | None,
    part: Filter | None,
    *,
    now: datetime,
    use_words: bool,
    passed_over: frozenset[ItemKey],
) -> _Searched:
    understood = understand(query, now=now, oldest=index.oldest, speakers=index.speakers)
    wanted = Wanted(
        kinds=frozenset(request.kinds),
        since=request.since,
        until=_earliest(request.until, request.as_of),
        filter=part,
        passed_over=passed_over,
    )
    told = ((event, index.told_of(event.name, wanted)) for event in understood.events)
    understood = understood.with_times(event_range(event, moment) for event, moment in told if moment is not None)
    best = index.search(
        query if use_words else None,
        vector,
        wanted=wanted,
        understood=understood,
        limit=request.limit,
    )
    return _Searched(best, understood, len(index), index.without_vector)


def _plan(scope: Scope, searched: _Searched, stages: dict[str, float]) -> RecallPlan:
    understood = searched.understood
    return RecallPlan(
        scope=scope.label,
        items=searched.items,
        without_vector=searched.without_vector,
        times=[UnderstoodTime(text=each.text, since=each.since, until=each.until) for each in understood.times],
        speakers=sorted({*understood.speakers, *understood.roles}),
        stages_ms={name: round(spent * 1000.0, 3) for name, spent in stages.items()},
    )


def _check(request: RecallRequest) -> None:
    if request.query is not None and not request.query.strip():
        raise invalid("$.query", "is only white space; leave it out for the newest")
    if request.since and request.until and request.since > request.until:
        raise invalid("$.since", "is later than until")


def _filter(request: RecallRequest) -> Filter | None:
    """Raises InvalidFields."""
    return None if request.filter is None else parse_filter(request.filter)


def _earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    return min((moment for moment in (first, second) if moment is not None), default=None)
