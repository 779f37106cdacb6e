"""Both legs of a search over the searched collections, and their fusion. Blocking: one thread does all of it for a search.

A hand-over to a thread and back costs a tenth of a millisecond and more under load, which is what a leg takes. So the legs
of one search take turns in one thread, and what runs side by side are searches; only while a query is being embedded is
its lexical leg asked ahead.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.indexes import CollectionIndexes
from retrieval.indexes.lexical import DamagedIndex
from retrieval.searching.hybrid import levels_of_dense, levels_of_lexical
from retrieval.truth.filtering import ChunkIds, Resolved
from shared.errors import DiptychError
from shared.fusion import Leg, fuse, fuse_adaptive, ranked
from shared.retrieval_messages import CollectionPlan, FilterPlan, Fusion, LexicalNarrowing, SearchRequest
from shared.vectors import Float32Array

STAGES: Final = ("resolve", "filter", "embed", "dense", "lexical", "fuse", "rerank", "fetch")


# Of one query, by the name of the model.
Vectors = Mapping[str, Float32Array]


class DamagedCollection(DiptychError):
    """The lexical index of `indexes` cannot be read, as it was at `lexical_version`."""

    def __init__(self, indexes: CollectionIndexes, lexical_version: int) -> None:
        super().__init__("the lexical index is damaged")
        self.indexes = indexes
        self.lexical_version = lexical_version


@dataclass(slots=True)
class Clock:
    """Milliseconds of each stage of one search, without those that it did not have."""

    spent_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[stage] = self.spent_ms.get(stage, 0.0) + (time.perf_counter() - started) * 1000.0


@dataclass(slots=True)
class Searched:
    """One collection in one search: what a filter leaves of it, and what its legs found, best first.

    Model and index are those that served when the search began, whatever serves by now. `sequence` is read before the legs
    are asked: what they answer holds every change up to it, and maybe more."""

    indexes: CollectionIndexes
    sequence: int
    model: str
    index: DenseIndex
    resolved: Resolved | None = None
    narrowing: LexicalNarrowing = "off"
    dense: dict[int, float] = field(default_factory=dict)
    # None until it was asked.
    lexical: dict[int, float] | None = None

    @property
    def allowed(self) -> ChunkIds | None:
        return self.resolved.chunk_ids if self.resolved else None

    @property
    def is_empty(self) -> bool:
        return self.resolved is not None and len(self.resolved.chunk_ids) == 0

    def ask_lexical(self, query: str, limit: int) -> None:
        """Raises DamagedIndex."""
        if self.allowed is None:
            self.lexical = self.indexes.lexical.search(query, limit)
        else:
            self.lexical, self.narrowing = self.indexes.lexical.search_within(query, limit, self.allowed)

    def plan(self, request: SearchRequest) -> CollectionPlan:
        """Who was asked, and how."""
        dense = self.index
        return CollectionPlan(
            collection=self.indexes.row.name,
            model=self.model,
            dense="off"
            if request.mode == "lexical"
            else dense.plan(None if self.allowed is None else len(self.allowed)),
            lexical="bm25" if request.mode != "dense" and request.query is not None else "off",
            chunks=len(dense),
            sequence=self.sequence,
            filter=self._filter_plan(),
        )

    def _filter_plan(self) -> FilterPlan | None:
        if self.resolved is None:
            return None
        return FilterPlan(
            matched=len(self.resolved.chunk_ids),
            cached=self.resolved.is_cached,
            took_ms=round(self.resolved.took_ms, 3),
            lexical=self.narrowing,
        )


@dataclass(frozen=True, slots=True)
class Fused:
    """Chunks best first, and so are `dense` and `lexical`, the candidates of the legs. `dense_weight` is what `adaptive` chose."""

    order: list[tuple[int, float]]
    dense: Leg
    lexical: Leg
    dense_weight: float | None = None


class Legs:
    """The questions of one search to the indexes, collection by collection, and what came of them."""

    def __init__(self, request: SearchRequest, fusion: Fusion, clock: Clock, *, models: Sequence[str]) -> None:
        """`models` are those of all collections that will be asked."""
        self._mode = request.mode
        self._query = request.query if request.mode != "dense" else None
        self._candidates = request.candidates
        self._fusion = fusion
        self._clock = clock
        self._is_one_model = len(set(models)) <= 1
        self._dense: dict[int, float] = {}
        self._lexical: dict[int, float] = {}
        self._dense_levels: dict[int, float] = {}
        self._lexical_levels: dict[int, float] = {}
        self._is_one_collection = len(models) == 1

    def ask_lexical(self, searched: Sequence[Searched]) -> None:
        """Raises DamagedCollection."""
        if self._query is None:
            return
        with self._clock.timing("lexical"):
            for each in searched:
                if not each.is_empty:
                    with _named(each.indexes):
                        each.ask_lexical(self._query, self._candidates)

    def ask(self, searched: Sequence[Searched], vectors: Vectors) -> None:
        """Both legs, the lexical one where it was not asked ahead. Raises DamagedCollection."""
        self.ask_lexical([each for each in searched if each.lexical is None])
        if vectors:
            with self._clock.timing("dense"):
                for each in searched:
                    if not each.is_empty:
                        each.dense = each.index.search(vectors[each.model], self._candidates, each.allowed)
        with self._clock.timing("fuse"):
            for each in searched:
                self._take(each, vectors.get(each.model))
            if not self._is_one_collection:
                self._trim()

    def fused(self) -> Fused:
        """One list of all that was asked."""
        with self._clock.timing("fuse"):
            dense, lexical = self._dense, self._lexical
            if self._mode != "hybrid":
                return Fused(list((dense if self._mode == "dense" else lexical).items()), dense, lexical)
            fusion = self._fusion
            if fusion.method == "adaptive":
                order, weight = fuse_adaptive(self._dense_levels, self._lexical_levels, alpha=fusion.alpha)
                return Fused(order, dense, lexical, weight)
            return Fused(fuse(dense, lexical, method=fusion.method, alpha=fusion.alpha, k=fusion.k), dense, lexical)

    def _best_dense(self) -> dict[int, float]:
        """Cosines of several models say nothing about each other; levels do, where there are any."""
        if self._is_one_model or not self._dense_levels:
            return _best(self._dense, self._candidates)
        chosen = _best(_kept(self._dense_levels, self._dense.keys()), self._candidates)
        return {chunk_id: self._dense[chunk_id] for chunk_id in chosen}

    def _take(self, searched: Searched, vector: Float32Array | None) -> None:
        """Levels are comparable between collections, each being measured by its own."""
        dense, lexical = searched.dense, searched.lexical or {}
        self._dense |= dense
        self._lexical |= lexical
        if self._mode != "hybrid" or self._fusion.method != "adaptive" or searched.is_empty:
            return
        dense_levels = {} if vector is None else levels_of_dense(searched.index, vector, dense, lexical)
        self._dense_levels |= dense_levels
        if self._query is None:
            return
        is_complete, index = len(lexical) < self._candidates, searched.indexes.lexical
        with _named(searched.indexes):
            self._lexical_levels |= levels_of_lexical(
                index, self._query, lexical, dense_levels, is_complete=is_complete
            )

    def _trim(self) -> None:
        """To the candidates of all collections together, best first and ties by id: a search over thousands holds no more."""
        self._dense, self._lexical = self._best_dense(), _best(self._lexical, self._candidates)
        chosen = self._dense.keys() | self._lexical.keys()
        self._dense_levels = _kept(self._dense_levels, chosen)
        self._lexical_levels = _kept(self._lexical_levels, chosen)


@contextmanager
def _named(indexes: CollectionIndexes) -> Iterator[None]:
    version = indexes.lexical.version
    try:
        yield
    except DamagedIndex as error:
        raise DamagedCollection(indexes, version) from error


def _best(leg: Leg, limit: int) -> dict[int, float]:
    """Best first. Chunk ids are unique over all collections."""
    return dict(ranked(leg)[:limit])


def _kept(leg: dict[int, float], chosen: AbstractSet[int]) -> dict[int, float]:
    return leg if len(leg) == len(chosen) else {item: score for item, score in leg.items() if item in chosen}
