"""One search: embed, ask both legs side by side, fuse, fetch the texts once."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Histogram

from retrieval.batcher import Batcher
from retrieval.lexical import DamagedIndex
from retrieval.projections import CollectionIndexes, Projections
from retrieval.reading import packed_hits
from retrieval.records import CollectionRow
from retrieval.store import Store
from shared.errors import Unavailable, invalid
from shared.fusion import Leg, fuse, ranked, ranks
from shared.metrics import SECONDS_BUCKETS
from shared.retrieval_messages import (
    CollectionPlan,
    Fusion,
    Hit,
    LegScores,
    Plan,
    SearchAnswer,
    SearchMode,
    SearchRequest,
    Stages,
)
from shared.threads import run_in
from shared.vectors import Float32Array

log = structlog.get_logger()

_STAGES = ("resolve", "embed", "dense", "lexical", "fuse", "fetch")


@dataclass(slots=True)
class _Clock:
    """Milliseconds of each stage of one search."""

    spent_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    def add(self, stage: str, started: float) -> None:
        self.spent_ms[stage] += (time.perf_counter() - started) * 1000.0


class Searcher:
    def __init__(
        self,
        store: Store,
        projections: Projections,
        batcher: Batcher,
        *,
        threads: ThreadPoolExecutor,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._projections = projections
        self._batcher = batcher
        self._threads = threads
        self._seconds = Histogram(
            "diptych_search_seconds",
            "Time of a search's stages.",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )

    async def search(self, tenant: str, request: SearchRequest) -> SearchAnswer:
        """Raises InvalidFields, NotFound, Overloaded."""
        clock, started = _Clock(), time.perf_counter()
        _check(request)
        names = request.collections or ([request.collection] if request.collection else None)
        rows = await self._store.collections(tenant, names)
        indexes = [await self._projections.of(row) for row in rows]
        clock.add("resolve", started)
        dense, lexical = await asyncio.gather(
            self._dense_leg(request, indexes, clock), self._lexical_leg(request, indexes, clock)
        )
        fusion = _fusion_of(request, rows)
        before = time.perf_counter()
        scored = _fuse(request.mode, dense, lexical, fusion)[: request.limit]
        scores = _leg_scores(dense, lexical, [chunk_id for chunk_id, _ in scored])
        clock.add("fuse", before)
        before = time.perf_counter()
        hits = await self._hits(scored, scores, request.max_tokens)
        clock.add("fetch", before)
        for stage, spent_ms in clock.spent_ms.items():
            self._seconds.labels(stage).observe(spent_ms / 1000.0)
        return SearchAnswer(
            hits=hits,
            sequence=min((each.sequence for each in indexes), default=0),
            took_ms=round((time.perf_counter() - started) * 1000.0, 3),
            plan=await self._plan(request, indexes, fusion, clock) if request.explain else None,
        )

    async def _hits(
        self, scored: Sequence[tuple[int, float]], scores: dict[int, LegScores], max_tokens: int | None
    ) -> list[Hit]:
        if max_tokens is None:
            return await self._store.fetch_hits(scored, scores)
        return await self._store.database.read(lambda connection: packed_hits(connection, scored, scores, max_tokens))

    async def _dense_leg(
        self, request: SearchRequest, indexes: Sequence[CollectionIndexes], clock: _Clock
    ) -> dict[int, float]:
        if request.mode == "lexical":
            return {}
        before = time.perf_counter()
        vector = await self._query_vector(request)
        clock.add("embed", before)
        before = time.perf_counter()
        legs = await asyncio.gather(
            *(run_in(self._threads, each.dense.search, vector, request.candidates) for each in indexes)
        )
        clock.add("dense", before)
        return _best(legs, request.candidates)

    async def _lexical_leg(
        self, request: SearchRequest, indexes: Sequence[CollectionIndexes], clock: _Clock
    ) -> dict[int, float]:
        if request.mode == "dense" or request.query is None:
            return {}
        before = time.perf_counter()
        legs = await asyncio.gather(*(self._ask_lexical(each, request.query, request.candidates) for each in indexes))
        clock.add("lexical", before)
        return _best(legs, request.candidates)

    async def _ask_lexical(self, indexes: CollectionIndexes, query: str, limit: int) -> dict[int, float]:
        try:
            return await run_in(self._threads, indexes.lexical.search, query, limit)
        except DamagedIndex as error:
            log.exception("lexical_index_damaged", collection_id=indexes.row.id)
            await self._projections.repair(indexes.row)
            raise Unavailable("the lexical index was damaged and is being rebuilt", retry_after_s=1.0) from error

    async def _query_vector(self, request: SearchRequest) -> Float32Array:
        if request.vector is None:
            vectors = await self._batcher.embed([request.query or ""], "query")
            return vectors.reshape(-1)
        dimensions = (await self._batcher.embedder()).dimensions
        vector = request.vector.array
        if len(vector) != dimensions:
            raise invalid("$.vector", f"has {len(vector)} numbers; the model's vectors have {dimensions}")
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            raise invalid("$.vector", "all numbers are zero, so it points nowhere")
        return np.asarray(vector / norm, dtype=np.float32)

    async def _plan(
        self, request: SearchRequest, indexes: Sequence[CollectionIndexes], fusion: Fusion, clock: _Clock
    ) -> Plan:
        has_text = request.query is not None
        return Plan(
            mode=request.mode,
            fusion=fusion,
            candidates=request.candidates,
            model=(await self._batcher.embedder()).name,
            collections=[
                CollectionPlan(
                    collection=each.row.name,
                    dense="off" if request.mode == "lexical" else "exact",
                    lexical="bm25" if request.mode != "dense" and has_text else "off",
                    chunks=len(each.dense),
                    sequence=each.sequence,
                )
                for each in indexes
            ],
            stages_ms=Stages(**{stage: round(spent, 3) for stage, spent in clock.spent_ms.items()}),
        )


def _check(request: SearchRequest) -> None:
    if request.collection is not None and request.collections is not None:
        raise invalid("$.collections", "give either collection or collections")
    if request.query is None and request.vector is None:
        raise invalid("$.query", "give a query, a vector, or both")
    if request.query is None and request.mode == "lexical":
        raise invalid("$.query", "a lexical search needs words")
    if request.query is not None and not request.query.strip():
        raise invalid("$.query", "is only white space")


def _fusion_of(request: SearchRequest, rows: Sequence[CollectionRow]) -> Fusion:
    """The request's own, else the collection's when only one is searched, else the default."""
    if request.fusion is not None:
        return request.fusion
    return rows[0].fusion if len(rows) == 1 else Fusion()


def _fuse(mode: SearchMode, dense: Leg, lexical: Leg, fusion: Fusion) -> list[tuple[int, float]]:
    match mode:
        case "dense":
            return ranked(dense)
        case "lexical":
            return ranked(lexical)
        case "hybrid":
            return fuse(dense, lexical, method=fusion.method, alpha=fusion.alpha, k=fusion.k)


def _best(legs: Iterable[Leg], limit: int) -> dict[int, float]:
    """One leg over several collections. Chunk ids are unique over all of them."""
    merged: dict[int, float] = {}
    for leg in legs:
        merged.update(leg)
    return dict(ranked(merged)[:limit])


def _leg_scores(dense: Leg, lexical: Leg, chunk_ids: Iterable[int]) -> dict[int, LegScores]:
    dense_ranks, lexical_ranks = ranks(dense), ranks(lexical)
    return {
        chunk_id: LegScores(
            dense=dense.get(chunk_id),
            dense_rank=dense_ranks.get(chunk_id),
            lexical=lexical.get(chunk_id),
            lexical_rank=lexical_ranks.get(chunk_id),
        )
        for chunk_id in chunk_ids
    }
