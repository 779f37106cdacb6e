"""One search: resolve the collections and the filter, embed the query, and ask, fuse and read in one thread.

resolve -> filter -> embed (the lexical leg is asked meanwhile) -> legs -> fuse -> [rerank] -> arrange -> read a page
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Histogram

from retrieval.batcher import Batcher
from retrieval.filtering import FilterSets
from retrieval.hits import read_documents, read_hits, read_texts, read_vectors
from retrieval.legs import STAGES, Clock, DamagedCollection, Fused, Legs, Searched
from retrieval.projections import CollectionIndexes, Projections
from retrieval.ranking import Scored, best_of_each, diversified, without_duplicates
from retrieval.records import CollectionRow
from retrieval.reranker import Reranker
from retrieval.search_cursor import cursor_after, offset_of
from retrieval.store import Store
from shared.errors import Unavailable, invalid
from shared.filters import Filter, parse_filter
from shared.fusion import Leg, ranks
from shared.metrics import SECONDS_BUCKETS
from shared.retrieval_messages import (
    CollectionPlan,
    Fusion,
    Hit,
    LegScores,
    Plan,
    SearchAnswer,
    SearchRequest,
    Stages,
)
from shared.threads import run_in
from shared.tokens import estimate_tokens
from shared.vectors import Float32Array

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Arranged:
    """The list that pages are cut from. `duplicates` are chunks that say the same as one that is in it."""

    order: list[Scored]
    duplicates: dict[int, list[int]] = field(default_factory=dict)


class Searcher:
    def __init__(
        self,
        store: Store,
        projections: Projections,
        batcher: Batcher,
        *,
        filters: FilterSets,
        reranker: Reranker,
        threads: ThreadPoolExecutor,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._projections = projections
        self._batcher = batcher
        self._filters = filters
        self._reranker = reranker
        self._threads = threads
        seconds = Histogram(
            "diptych_search_seconds",
            "Time of a search's stages.",
            ["stage"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._seconds = {stage: seconds.labels(stage) for stage in STAGES}

    async def search(self, tenant: str, request: SearchRequest) -> SearchAnswer:
        """Raises InvalidFields, NotFound, Overloaded."""
        clock, started = Clock(), time.perf_counter()
        self._check(request)
        wanted = None if request.filter is None else parse_filter(request.filter)
        with clock.timing("resolve"):
            names = request.collections or ([request.collection] if request.collection else None)
            rows = await self._store.collections(tenant, names)
            indexes = [await self._projections.of(row) for row in rows]
        with clock.timing("filter"):
            searched = await asyncio.gather(*(self._searched(each, wanted) for each in indexes))
        fusion = _fusion_of(request, rows)
        legs = Legs(searched, mode=request.mode, query=request.query, candidates=request.candidates, clock=clock)
        try:
            fused, hits, next_cursor = await self._answer(request, legs, fusion, clock)
        except DamagedCollection as error:
            log.exception("lexical_index_damaged", collection_id=error.indexes.row.id)
            await self._projections.repair(error.indexes.row)
            raise Unavailable("the lexical index was damaged and is being rebuilt", retry_after_s=1.0) from error
        for stage, spent_ms in clock.spent_ms.items():
            self._seconds[stage].observe(spent_ms / 1000.0)
        return SearchAnswer(
            hits=hits,
            next_cursor=next_cursor,
            sequence=min((each.sequence for each in indexes), default=0),
            took_ms=round((time.perf_counter() - started) * 1000.0, 3),
            plan=await self._plan(request, searched, fusion, fused, clock) if request.explain else None,
        )

    async def _answer(
        self, request: SearchRequest, legs: Legs, fusion: Fusion, clock: Clock
    ) -> tuple[Fused, list[Hit], str | None]:
        vector = await self._vector(request, legs, clock)

        def fuse() -> Fused:
            if vector is not None:
                legs.ask_dense(vector)
            legs.ask_lexical()
            return legs.fused(fusion, vector)

        def page(connection: sqlite3.Connection, fused: Fused, reranked: Leg) -> tuple[list[Hit], str | None]:
            with clock.timing("fetch"):
                return _page(connection, request, fused, reranked)

        def all_at_once(connection: sqlite3.Connection) -> tuple[Fused, list[Hit], str | None]:
            # SQLite's snapshot begins with the first read, so what the indexes have just returned is in it.
            fused = fuse()
            return fused, *page(connection, fused, {})

        if request.rerank is None:
            return await self._store.database.read(all_at_once)
        fused = await run_in(self._threads, fuse)
        with clock.timing("rerank"):
            reranked = await self._rerank(request, fused)
        hits, next_cursor = await self._store.database.read(lambda connection: page(connection, fused, reranked))
        return fused, hits, next_cursor

    async def _searched(self, indexes: CollectionIndexes, wanted: Filter | None) -> Searched:
        if wanted is None:
            return Searched(indexes)
        resolved = await self._filters.resolve(indexes.row.id, wanted, sequence=indexes.sequence)
        return Searched(indexes, resolved, "off" if len(resolved.chunk_ids) else "none")

    async def _vector(self, request: SearchRequest, legs: Legs, clock: Clock) -> Float32Array | None:
        """The query as a vector. While the model works on it, the lexical leg is asked."""
        if request.mode == "lexical":
            return None
        if request.vector is not None:
            return await self._given_vector(request.vector.array)
        query = request.query or ""
        known = self._batcher.cached(query)
        if known is not None:
            return known
        with clock.timing("embed"):
            embedding = asyncio.ensure_future(self._batcher.embed([query], "query"))
            ahead = run_in(self._threads, legs.ask_lexical)
            vectors, _ = await asyncio.gather(embedding, ahead)
        return vectors.reshape(-1)

    async def _given_vector(self, vector: Float32Array) -> Float32Array:
        dimensions = (await self._batcher.embedder()).dimensions
        if len(vector) != dimensions:
            raise invalid("$.vector", f"has {len(vector)} numbers; the model's vectors have {dimensions}")
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            raise invalid("$.vector", "all numbers are zero, so it points nowhere")
        return np.asarray(vector / norm, dtype=np.float32)

    async def _rerank(self, request: SearchRequest, fused: Fused) -> Leg:
        if request.rerank is None or request.query is None:
            raise AssertionError("refused by _check")
        best = [chunk_id for chunk_id, _ in fused.order[: request.rerank.depth]]
        texts = await self._store.database.read(lambda connection: read_texts(connection, best))
        return await self._reranker.scores(self._reranker.model_of(request.rerank.model), request.query, texts)

    async def _plan(
        self, request: SearchRequest, searched: Sequence[Searched], fusion: Fusion, fused: Fused, clock: Clock
    ) -> Plan:
        has_text = request.query is not None
        return Plan(
            mode=request.mode,
            fusion=fusion,
            dense_weight=None if fused.dense_weight is None else round(fused.dense_weight, 4),
            candidates=request.candidates,
            model=(await self._batcher.embedder()).name,
            collections=[
                CollectionPlan(
                    collection=each.indexes.row.name,
                    dense="off"
                    if request.mode == "lexical"
                    else each.indexes.dense.plan(None if each.allowed is None else len(each.allowed)),
                    lexical="bm25" if request.mode != "dense" and has_text else "off",
                    chunks=len(each.indexes.dense),
                    sequence=each.indexes.sequence,
                    filter=each.filter_plan(),
                )
                for each in searched
            ],
            stages_ms=Stages(**{stage: round(spent, 3) for stage, spent in clock.spent_ms.items()}),
        )

    def _check(self, request: SearchRequest) -> None:
        if request.collection is not None and request.collections is not None:
            raise invalid("$.collections", "give either collection or collections")
        if request.query is None and request.vector is None:
            raise invalid("$.query", "give a query, a vector, or both")
        if request.query is None and request.mode == "lexical":
            raise invalid("$.query", "a lexical search needs words")
        if request.query is not None and not request.query.strip():
            raise invalid("$.query", "is only white space")
        if request.cursor is not None and request.max_tokens is not None:
            raise invalid("$.cursor", "a budget of max_tokens has one page; leave one of them out")
        if request.rerank is not None:
            self._reranker.model_of(request.rerank.model)
            if request.query is None:
                raise invalid("$.rerank", "reranking reads the query's words; give a query")
            if request.rerank.depth < request.limit:
                raise invalid("$.rerank.depth", f"is below limit ({request.limit}): only reranked chunks are returned")


def _fusion_of(request: SearchRequest, rows: Sequence[CollectionRow]) -> Fusion:
    """The request's own, else the collection's when only one is searched, else the default."""
    if request.fusion is not None:
        return request.fusion
    return rows[0].fusion if len(rows) == 1 else Fusion()


def _page(
    connection: sqlite3.Connection, request: SearchRequest, fused: Fused, reranked: Leg
) -> tuple[list[Hit], str | None]:
    offset = offset_of(request)
    arranged = _arranged(connection, request, fused.order if request.rerank is None else _best_first(reranked))
    page = arranged.order[offset : offset + request.limit]
    hits = read_hits(connection, page, _scores(fused, reranked, [chunk_id for chunk_id, _ in page]))
    if request.max_tokens is not None:
        return _within(hits, request.max_tokens), None
    has_more = len(arranged.order) > offset + request.limit
    return hits, cursor_after(request, offset + request.limit) if has_more else None


def _arranged(connection: sqlite3.Connection, request: SearchRequest, order: list[Scored]) -> _Arranged:
    duplicates: dict[int, list[int]] = {}
    if request.suppress_duplicates:
        texts = read_texts(connection, [chunk_id for chunk_id, _ in order])
        kept = list(without_duplicates([each for each in order if each[0] in texts], texts))
        order = [scored for scored, _ in kept]
        duplicates = {scored[0]: same for scored, same in kept if same}
    if request.mmr is not None and order:
        vectors = read_vectors(connection, [chunk_id for chunk_id, _ in order])
        order = [each for each in order if each[0] in vectors]
        stacked = np.stack([vectors[chunk_id] for chunk_id, _ in order])
        order = list(diversified(order, stacked, diversity=request.mmr.diversity))
    if request.group_by_document:
        order = list(best_of_each(order, read_documents(connection, [chunk_id for chunk_id, _ in order])))
    return _Arranged(order, duplicates)


def _best_first(leg: Leg) -> list[Scored]:
    return sorted(leg.items(), key=lambda pair: (-pair[1], pair[0]))


def _scores(fused: Fused, reranked: Leg, chunk_ids: Sequence[int]) -> dict[int, LegScores]:
    dense_ranks, lexical_ranks = ranks(fused.dense), ranks(fused.lexical)
    return {
        chunk_id: LegScores(
            dense=fused.dense.get(chunk_id),
            dense_rank=dense_ranks.get(chunk_id),
            lexical=fused.lexical.get(chunk_id),
            lexical_rank=lexical_ranks.get(chunk_id),
            rerank=reranked.get(chunk_id),
        )
        for chunk_id in chunk_ids
    }


def _within(hits: Sequence[Hit], max_tokens: int) -> list[Hit]:
    """The best hits whose texts fit the budget together; one that does not fit is passed over."""
    kept, left = [], max_tokens
    for hit in hits:
        cost = estimate_tokens(hit.text)
        if cost <= left:
            kept.append(hit)
            left -= cost
    return kept
