"""One search: resolve the collections and the filter, embed the query, and ask, fuse and read in one thread.

A search is done with the models that serve its collections when it begins: a query is embedded once for each of them, and a
flip meanwhile changes nothing. Only if a model is let go of meanwhile does the search begin again.

resolve -> filter -> embed (the lexical leg is asked meanwhile) -> legs -> fuse -> [rerank] -> arrange -> read a page
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Histogram

from retrieval.indexes.indexes import CollectionIndexes
from retrieval.indexes.projections import COLLECTIONS_PER_SLICE, Projections
from retrieval.models.models import Models
from retrieval.models.reranker import Reranker
from retrieval.searching.hits import read_texts
from retrieval.searching.legs import STAGES, Clock, DamagedCollection, Fused, Legs, Searched, Vectors
from retrieval.searching.pages import read_page
from retrieval.truth.filtering import FilterSets
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import Unavailable, invalid
from shared.filters import Filter, parse_filter
from shared.fusion import Leg
from shared.metrics import SECONDS_BUCKETS
from shared.retrieval_messages import (
    CollectionPlan,
    Fusion,
    Hit,
    Plan,
    SearchAnswer,
    SearchRequest,
    Stages,
)
from shared.threads import run_in
from shared.vectors import Float32Array

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Found:
    fused: Fused
    hits: list[Hit]
    next_cursor: str | None


class _ModelGone(Unavailable):
    """A model was let go of between looking up the collection and searching it."""


class _Search:
    """What one search carries from stage to stage. Its methods block, and run in a thread."""

    def __init__(
        self, request: SearchRequest, wanted: Filter | None, fusion: Fusion, clock: Clock, *, models: Sequence[str]
    ) -> None:
        self.request = request
        self.wanted = wanted
        self.fusion = fusion
        self.clock = clock
        self.legs = Legs(request, fusion, clock, models=models)
        self.plans: list[CollectionPlan] = []

    def ask(self, searched: Sequence[Searched], vectors: Vectors) -> None:
        """Both legs of these collections, beside those that were asked before."""
        self.legs.ask(searched, vectors)
        self.plans += [each.plan(self.request) for each in searched]

    def ask_and_find(self, searched: Sequence[Searched], vectors: Vectors, connection: sqlite3.Connection) -> _Found:
        # SQLite's snapshot begins with the first read, so what the indexes have just returned is in it.
        self.ask(searched, vectors)
        return self.found(connection, self.legs.fused())

    def found(self, connection: sqlite3.Connection, fused: Fused, reranked: Leg | None = None) -> _Found:
        with self.clock.timing("fetch"):
            return _Found(fused, *read_page(connection, self.request, fused, reranked))


class Searcher:
    def __init__(
        self,
        store: Store,
        projections: Projections,
        models: Models,
        *,
        filters: FilterSets,
        reranker: Reranker,
        threads: ThreadPoolExecutor,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._projections = projections
        self._models = models
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
        try:
            search, answer = await self._searched_now(tenant, request, wanted, clock)
        except DamagedCollection as error:
            log.exception("lexical_index_damaged", collection_id=error.indexes.row.id)
            await self._projections.repair(error.indexes.row, error.lexical_version)
            raise Unavailable("the lexical index was damaged and is being rebuilt", retry_after_s=1.0) from error
        for stage, spent_ms in clock.spent_ms.items():
            self._seconds[stage].observe(spent_ms / 1000.0)
        return SearchAnswer(
            hits=answer.hits,
            next_cursor=answer.next_cursor,
            sequence=min((plan.sequence for plan in search.plans), default=0),
            took_ms=round((time.perf_counter() - started) * 1000.0, 3),
            plan=self._plan(search, answer.fused) if request.explain else None,
        )

    async def _searched_now(
        self, tenant: str, request: SearchRequest, wanted: Filter | None, clock: Clock
    ) -> tuple[_Search, _Found]:
        try:
            return await self._searched_once(tenant, request, wanted, clock)
        except _ModelGone:
            return await self._searched_once(tenant, request, wanted, clock)

    async def _searched_once(
        self, tenant: str, request: SearchRequest, wanted: Filter | None, clock: Clock
    ) -> tuple[_Search, _Found]:
        with clock.timing("resolve"):
            names = request.collections or ([request.collection] if request.collection else None)
            rows = await self._store.collections(tenant, names)
        search = _Search(request, wanted, _fusion_of(request, rows), clock, models=[row.model for row in rows])
        return search, await self._answer(search, rows)

    async def _answer(self, search: "_Search", rows: Sequence[CollectionRow]) -> _Found:
        """Collections are asked some at a time, so that a search over thousands never holds all of them open."""
        request = search.request
        is_one_slice = len(rows) <= COLLECTIONS_PER_SLICE and request.rerank is None
        vectors = await self._known_vectors(request, rows)
        is_of_all = request.collection is None and request.collections is None
        async with aclosing(self._projections.in_slices(rows, skip_deleted=is_of_all)) as slices:
            async for indexes in slices:
                with search.clock.timing("filter"):
                    searched = await self._searched(indexes, search.wanted)
                if request.mode != "lexical":
                    vectors |= await self._embedded(search, searched, known=vectors)
                if is_one_slice:
                    return await self._store.database.read(partial(search.ask_and_find, searched, vectors))
                await run_in(self._threads, search.ask, searched, vectors)
        fused = search.legs.fused()
        reranked = await self._rerank(search, fused) if request.rerank else None
        return await self._store.database.read(lambda connection: search.found(connection, fused, reranked))

    async def _searched(
        self, held: Sequence[tuple[CollectionRow, CollectionIndexes]], wanted: Filter | None
    ) -> list[Searched]:
        searched = [_unfiltered(row, indexes) for row, indexes in held]
        if wanted is not None:
            await asyncio.gather(*(self._narrow(each, wanted) for each in searched))
        return searched

    async def _narrow(self, searched: Searched, wanted: Filter) -> None:
        row_id = searched.indexes.row.id
        searched.resolved = await self._filters.resolve(row_id, wanted, sequence=searched.sequence)
        searched.narrowing = "off" if len(searched.resolved.chunk_ids) else "none"

    async def _known_vectors(self, request: SearchRequest, rows: Sequence[CollectionRow]) -> dict[str, Float32Array]:
        """The vector that was given, or those of a query that was embedded lately."""
        if request.mode == "lexical":
            return {}
        if request.vector is not None:
            return await self._given_vector(request.vector.array, rows)
        cached = {model: self._models.of(model).cached(request.query or "") for model in {row.model for row in rows}}
        return {model: vector for model, vector in cached.items() if vector is not None}

    async def _given_vector(self, vector: Float32Array, rows: Sequence[CollectionRow]) -> dict[str, Float32Array]:
        # Without a collection to search it must fit at least the server's own model.
        names = {row.model: f"the model of {row.name!r}" for row in rows} or {self._models.allowed[0]: "the model"}
        for model, name in names.items():
            dimensions = (await self._models.embedder(model)).dimensions
            if len(vector) != dimensions:
                raise invalid("$.vector", f"has {len(vector)} numbers; vectors of {name} have {dimensions}")
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:
            raise invalid("$.vector", "all numbers are zero, so it points nowhere")
        unit = np.asarray(vector / norm, dtype=np.float32)
        return {row.model: unit for row in rows}

    async def _embedded(
        self, search: "_Search", searched: Sequence[Searched], *, known: Vectors
    ) -> dict[str, Float32Array]:
        """By models that are not known yet. While they work on the query, the lexical leg is asked."""
        missing = sorted({each.model for each in searched} - known.keys())
        if not missing:
            return {}
        with search.clock.timing("embed"):
            vectors, _ = await asyncio.gather(
                asyncio.gather(
                    *(self._models.of(model).embed([search.request.query or ""], "query") for model in missing)
                ),
                run_in(self._threads, search.legs.ask_lexical, searched),
            )
        return {model: vector.reshape(-1) for model, vector in zip(missing, vectors, strict=True)}

    async def _rerank(self, search: "_Search", fused: Fused) -> Leg:
        wanted, query = search.request.rerank, search.request.query
        if wanted is None or query is None:
            raise AssertionError("refused by _check")
        best = [chunk_id for chunk_id, _ in fused.order[: wanted.depth]]
        with search.clock.timing("rerank"):
            texts = await self._store.database.read(lambda connection: read_texts(connection, best))
            return await self._reranker.scores(self._reranker.model_of(wanted.model), query, texts)

    def _plan(self, search: "_Search", fused: Fused) -> Plan:
        return Plan(
            mode=search.request.mode,
            fusion=search.fusion,
            dense_weight=None if fused.dense_weight is None else round(fused.dense_weight, 4),
            candidates=search.request.candidates,
            model=search.plans[0].model if search.plans else self._models.allowed[0],
            collections=search.plans,
            stages_ms=Stages(**{stage: round(search.clock.spent_ms.get(stage, 0.0), 3) for stage in STAGES}),
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
        if request.rerank is not None:
            self._reranker.model_of(request.rerank.model)
            if request.query is None:
                raise invalid("$.rerank", "reranking reads the query's words; give a query")
            if request.rerank.depth < request.limit:
                raise invalid("$.rerank.depth", f"is below limit ({request.limit}): only reranked chunks are returned")


def _unfiltered(row: CollectionRow, indexes: CollectionIndexes) -> Searched:
    leg = indexes.legs.get(row.model)
    if leg is None:
        raise _ModelGone(f"the model of collection {row.name!r} has just changed", retry_after_s=1.0)
    return Searched(indexes, indexes.sequence, row.model, leg.index)


def _fusion_of(request: SearchRequest, rows: Sequence[CollectionRow]) -> Fusion:
    """The request's own, else the collection's when only one is searched, else the default."""
    if request.fusion is not None:
        return request.fusion
    return rows[0].fusion if len(rows) == 1 else Fusion()
