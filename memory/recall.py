"""Recall: resolve whose memory is read, ask both legs within it, fuse, fetch the texts."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from memory.embeddings import Embeddings
from memory.index import ScopeIndex
from memory.indexes import ScopeIndexes
from memory.records import RecalledTurn, Scope
from memory.store import Store
from memory.turns import Turns
from shared.errors import invalid
from shared.fusion import Leg, fuse, ranked, ranks
from shared.memory_messages import RecallAnswer, Recalled, RecallPlan, RecallRequest, RecallScores
from shared.vectors import Float32Array

_SCOPE_NEEDED: Final = "give user_id, session_id or agent_id: memory is read for somebody, never for everybody"


@dataclass(frozen=True, slots=True)
class _Legs:
    dense: Leg
    lexical: Leg
    # Of what the lexical leg found, the items that the dense leg cannot judge yet.
    unjudged: frozenset[int]
    items: int
    without_vector: int


@dataclass(frozen=True, slots=True)
class Found:
    """Turns by relevance, before they are dressed for an answer."""

    turns: list[tuple[RecalledTurn, float, RecallScores]]
    degraded: bool
    plan: RecallPlan


class Recall:
    def __init__(
        self,
        store: Store,
        turns: Turns,
        indexes: ScopeIndexes,
        embeddings: Embeddings,
        *,
        candidates: int,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._turns = turns
        self._indexes = indexes
        self._embeddings = embeddings
        self._candidates = candidates
        self._degraded = Counter("diptych_recalls_degraded", "Recalls answered without vectors.", registry=registry)

    async def recall(self, tenant: str, request: RecallRequest) -> RecallAnswer:
        """Raises InvalidFields, and NotFound for a session that is not the caller's."""
        _check(request)
        scope = await self.scope(tenant, request.user_id, request.session_id, request.agent_id)
        if request.query is None:
            until = _earliest(request.until, request.as_of)
            newest = await self._turns.newest(scope, since=request.since, until=until, limit=request.limit)
            items = [await self._dress(request, turn, 0.0, RecallScores()) for turn in newest]
            return RecallAnswer(items=items, degraded=False)
        found = await self.find(scope, request, request.query)
        items = [await self._dress(request, turn, score, scores) for turn, score, scores in found.turns]
        return RecallAnswer(items=items, degraded=found.degraded, plan=found.plan if request.explain else None)

    async def scope(self, tenant: str, user_id: str | None, session_id: str | None, agent_id: str | None) -> Scope:
        """Raises NotFound where the session does not exist, or is another user's."""
        if user_id is None and session_id is None and agent_id is None:
            raise invalid("$.user_id", _SCOPE_NEEDED)
        session = None
        if session_id is not None:
            session = (await self._store.session(tenant, session_id, user_id=user_id)).id
        return Scope(tenant=tenant, user_id=user_id, agent_id=agent_id, session=session)

    async def find(self, scope: Scope, request: RecallRequest, query: str) -> Found:
        started = time.perf_counter()
        vector = None if request.mode == "lexical" else await self._embeddings.query_vector(query)
        degraded = vector is None and request.mode != "lexical"
        embedded = time.perf_counter()
        until = _earliest(request.until, request.as_of)
        legs = await self._indexes.use(
            scope,
            self._embeddings.model,
            lambda index: self._search(index, request, query, vector, until, use_words=degraded),
        )
        searched = time.perf_counter()
        scored = _fused(legs)[: request.limit]
        texts = await self._turns.recalled(scope, [item_id for item_id, _ in scored])
        scores = _leg_scores(legs)
        if degraded:
            self._degraded.inc()
        stages = {"embed": embedded - started, "search": searched - embedded, "fetch": time.perf_counter() - searched}
        return Found(
            turns=[(texts[item_id], score, scores[item_id]) for item_id, score in scored if item_id in texts],
            degraded=degraded,
            plan=RecallPlan(
                scope=scope.label,
                items=legs.items,
                without_vector=legs.without_vector,
                stages_ms={name: round(spent * 1000.0, 3) for name, spent in stages.items()},
            ),
        )

    def _search(
        self,
        index: ScopeIndex,
        request: RecallRequest,
        query: str,
        vector: Float32Array | None,
        until: datetime | None,
        *,
        use_words: bool,
    ) -> _Legs:
        window = {"since": request.since, "until": until}
        limit = max(self._candidates, request.limit)
        lexical = index.lexical(query, limit=limit, **window) if request.mode != "dense" or use_words else {}
        dense = index.dense(vector, limit=limit, **window) if vector is not None else {}
        unjudged = frozenset(item_id for item_id in lexical if not index.has_vector(item_id))
        return _Legs(dense, lexical, unjudged, len(index), index.without_vector)

    async def _dress(self, request: RecallRequest, turn: RecalledTurn, score: float, scores: RecallScores) -> Recalled:
        before, after = None, None
        if request.neighbours:
            until = _earliest(request.until, request.as_of)
            before, after = await self._turns.around(turn, request.neighbours, until=until)
        return Recalled(
            kind="turn",
            id=turn.turn_id,
            session_id=turn.session_id,
            seq=turn.seq,
            role=turn.role,
            name=turn.name,
            text=turn.content,
            created_at=turn.created_at,
            score=score,
            scores=scores,
            before=before,
            after=after,
        )


def _check(request: RecallRequest) -> None:
    if request.query is not None and not request.query.strip():
        raise invalid("$.query", "is only white space; leave it out for the newest")
    if request.since and request.until and request.since > request.until:
        raise invalid("$.since", "is later than until")


def _fused(legs: _Legs) -> list[tuple[int, float]]:
    """With one leg silent, the other's own scores say more than half of a scaled one.

    A turn that has no vector yet is not a turn that the dense leg thinks little of: it is placed there as it is placed in
    the lexical leg, so that what was just said is not held back for the moment that its embedding takes.
    """
    if not legs.dense or not legs.lexical:
        return ranked(legs.dense or legs.lexical)
    low, high = min(legs.lexical.values()), max(legs.lexical.values())
    bottom, top = min(legs.dense.values()), max(legs.dense.values())
    assumed = {
        item_id: bottom + (top - bottom) * ((legs.lexical[item_id] - low) / (high - low) if high > low else 1.0)
        for item_id in legs.unjudged
    }
    return fuse({**legs.dense, **assumed}, legs.lexical)


def _leg_scores(legs: _Legs) -> dict[int, RecallScores]:
    dense_ranks, lexical_ranks = ranks(legs.dense), ranks(legs.lexical)
    return {
        item_id: RecallScores(
            dense=legs.dense.get(item_id),
            dense_rank=dense_ranks.get(item_id),
            lexical=legs.lexical.get(item_id),
            lexical_rank=lexical_ranks.get(item_id),
        )
        for item_id in {*legs.dense, *legs.lexical}
    }


def _earliest(first: datetime | None, second: datetime | None) -> datetime | None:
    return min((moment for moment in (first, second) if moment is not None), default=None)
