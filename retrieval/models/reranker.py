"""Reranking: a cross-encoder reads the query and each candidate together. Slow and sharp, so off unless asked for.

Which models may be used is the operator's choice (`rerank_models`), because a name can be a path and loading one costs
memory. They are loaded at the start, so that a wrong name is noticed then. One thread works for all of them, for one search
after the other: a cross-encoder fills the cores by itself, and searches that took turns would only all be late.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Histogram

from shared.errors import Overloaded, Unavailable, invalid
from shared.metrics import SECONDS_BUCKETS
from shared.threads import run_in

# Pairs read together. More are no faster on a CPU; and after so many, a search that nobody waits for any more ends.
_BATCH_PAIRS: Final = 16


class CrossScorer(Protocol):
    """Not thread-safe."""

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, higher is better, in order. At least one text."""
        ...


LoadScorer = Callable[[str], CrossScorer]


class Reranker:
    def __init__(
        self,
        models: Sequence[str],
        load: LoadScorer,
        *,
        threads: ThreadPoolExecutor,
        queue_max: int,
        registry: CollectorRegistry,
    ) -> None:
        """`threads` has one thread. `load` is called in it."""
        self._models = tuple(models)
        self._load = load
        self._threads = threads
        self._queue_max = queue_max
        self._waiting = 0
        self._turn = asyncio.Lock()
        self._loaded: dict[str, CrossScorer] = {}
        self._seconds = Histogram(
            "diptych_rerank_seconds", "Time of one reranking.", buckets=SECONDS_BUCKETS, registry=registry
        )

    async def start(self) -> None:
        """Raises SettingsError for a model that cannot be loaded."""
        for name in self._models:
            self._loaded[name] = await run_in(self._threads, self._load, name)

    def model_of(self, wanted: str | None) -> str:
        """The wanted model, or the first. Raises InvalidFields where the server has none of that name."""
        if wanted in self._models:
            return wanted
        if wanted is None and self._models:
            return self._models[0]
        offered = ", ".join(repr(name) for name in self._models) or "none"
        raise invalid("$.rerank.model", f"this server may rerank with {offered} (rerank_models)")

    async def scores(self, model: str, query: str, texts: Mapping[int, str]) -> dict[int, float]:
        """Raises Overloaded when too many wait, and Unavailable while the models are loading."""
        scorer = self._loaded.get(model)
        if scorer is None:
            raise Unavailable(f"the model {model!r} is loading", retry_after_s=2.0)
        if self._waiting >= self._queue_max:
            raise Overloaded("too many searches wait for the reranker; try again shortly", retry_after_s=2.0)
        self._waiting += 1
        try:
            with self._seconds.time():
                async with self._turn:
                    return await self._scores(scorer, query, texts)
        finally:
            self._waiting -= 1

    async def _scores(self, scorer: CrossScorer, query: str, texts: Mapping[int, str]) -> dict[int, float]:
        # A batch is as long as its longest text, so texts of one length go together.
        by_length = sorted(texts, key=lambda chunk_id: (-len(texts[chunk_id]), chunk_id))
        found: dict[int, float] = {}
        for start in range(0, len(by_length), _BATCH_PAIRS):
            batch = by_length[start : start + _BATCH_PAIRS]
            scores = await run_in(self._threads, scorer.score, query, [texts[chunk_id] for chunk_id in batch])
            found |= zip(batch, scores, strict=True)
        return found
