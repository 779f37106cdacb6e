"""Both legs of a search over the searched collections, and their fusion. Blocking: one thread does all of it for a search.

A hand-over to a thread and back costs a tenth of a millisecond and more under load, which is what a leg takes. So the legs
of one search take turns in one thread, and what runs side by side are searches; only while a query is being embedded is
its lexical leg asked ahead.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from retrieval.filtering import ChunkIds, Resolved
from retrieval.hybrid import levels_of_dense, levels_of_lexical
from retrieval.lexical import DamagedIndex
from retrieval.projections import CollectionIndexes
from shared.errors import DiptychError
from shared.fusion import Leg, fuse, fuse_adaptive, ranked
from shared.retrieval_messages import FilterPlan, Fusion, LexicalNarrowing, SearchMode
from shared.vectors import Float32Array

STAGES: Final = ("resolve", "filter", "embed", "dense", "lexical", "fuse", "rerank", "fetch")


class DamagedCollection(DiptychError):
    """The lexical index of `indexes` cannot be read."""

    def __init__(self, indexes: CollectionIndexes) -> None:
        super().__init__("the lexical index is damaged")
        self.indexes = indexes


@dataclass(slots=True)
class Clock:
    """Milliseconds of each stage of one search."""

    spent_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent_ms[stage] += (time.perf_counter() - started) * 1000.0


@dataclass(slots=True)
class Searched:
    """One collection in one search: what a filter leaves of it, and what its legs found, best first."""

    indexes: CollectionIndexes
    resolved: Resolved | None = None
    narrowing: LexicalNarrowing = "off"
    dense: Leg = field(default_factory=dict)
    lexical: Leg = field(default_factory=dict)

    @property
    def allowed(self) -> ChunkIds | None:
        return self.resolved.chunk_ids if self.resolved else None

    @property
    def is_empty(self) -> bool:
        return self.resolved is not None and len(self.resolved.chunk_ids) == 0

    def filter_plan(self) -> FilterPlan | None:
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
    """Chunks best first. `dense` and `lexical` are the candidates of the legs; `dense_weight` is what `adaptive` chose."""

    order: list[tuple[int, float]]
    dense: Leg
    lexical: Leg
    dense_weight: float | None = None


class Legs:
    """One search's question to the indexes. `query` is None where words are not asked for, `candidates` counts by leg."""

    def __init__(
        self, searched: Sequence[Searched], *, mode: SearchMode, query: str | None, candidates: int, clock: Clock
    ) -> None:
        self._searched = [each for each in searched if not each.is_empty]
        self._mode = mode
        self._query = query if mode != "dense" else None
        self._candidates = candidates
        self._clock = clock

    def ask_lexical(self) -> None:
        """Raises DamagedCollection."""
        if self._query is None:
            return
        with self._clock.timing("lexical"):
            for each in self._searched:
                with _named(each.indexes):
                    if each.allowed is None:
                        each.lexical = each.indexes.lexical.search(self._query, self._candidates)
                    else:
                        each.lexical, each.narrowing = each.indexes.lexical.search_within(
                            self._query, self._candidates, each.allowed
                        )

    def ask_dense(self, vector: Float32Array) -> None:
        with self._clock.timing("dense"):
            for each in self._searched:
                each.dense = each.indexes.dense.search(vector, self._candidates, each.allowed)

    def fused(self, fusion: Fusion, vector: Float32Array | None) -> Fused:
        """One list of both legs. Raises DamagedCollection."""
        with self._clock.timing("fuse"):
            dense = _best([each.dense for each in self._searched], self._candidates)
            lexical = _best([each.lexical for each in self._searched], self._candidates)
            if self._mode != "hybrid":
                return Fused(list((dense if self._mode == "dense" else lexical).items()), dense, lexical)
            if fusion.method == "adaptive":
                order, weight = self._adaptive(dense, lexical, vector, fusion.alpha)
                return Fused(order, dense, lexical, weight)
            order = fuse(dense, lexical, method=fusion.method, alpha=fusion.alpha, k=fusion.k)
            return Fused(order, dense, lexical)

    def _adaptive(
        self, dense: Leg, lexical: Leg, vector: Float32Array | None, alpha: float
    ) -> tuple[list[tuple[int, float]], float]:
        """Levels are comparable between collections, each being measured by its own."""
        dense_levels: dict[int, float] = {}
        lexical_levels: dict[int, float] = {}
        for each in self._searched:
            mine_dense = {item: score for item, score in each.dense.items() if item in dense}
            mine_lexical = {item: score for item, score in each.lexical.items() if item in lexical}
            if vector is not None:
                dense_levels |= levels_of_dense(each.indexes.dense, vector, mine_dense, mine_lexical)
            if self._query is not None:
                is_complete = len(each.lexical) < self._candidates
                with _named(each.indexes):
                    lexical_levels |= levels_of_lexical(
                        each.indexes.lexical, self._query, mine_lexical, mine_dense, is_complete=is_complete
                    )
        return fuse_adaptive(dense_levels, lexical_levels, alpha=alpha)


@contextmanager
def _named(indexes: CollectionIndexes) -> Iterator[None]:
    try:
        yield
    except DamagedIndex as error:
        raise DamagedCollection(indexes) from error


def _best(legs: Sequence[Leg], limit: int) -> Leg:
    """One leg over several collections. Chunk ids are unique over all of them."""
    merged = {item: score for leg in legs for item, score in leg.items()}
    return dict(ranked(merged)[:limit])
