"""One queue in front of one model, which computes a batch at a time or several side by side. Requests that wait together
share a batch.

Queries go before documents, and documents go in small batches, so that a search waits at most for one batch of an ingest.
Texts of like length go together (batching.py), since a batch is padded to its longest.
There is no timer: while the model works on a batch the next one gathers, so an idle service answers at once and a busy
one fills its batches. The same text asked for twice at a time is embedded once; a caller that went away is not worked for.
A text that breaks the model fails alone: the batch that it was in is halved until it is found.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from retrieval.models.batching import choose_batch
from retrieval.models.embedder import Embedder, TextKind
from shared.errors import Overloaded, Unavailable
from shared.metrics import SECONDS_BUCKETS
from shared.tasks import ended
from shared.tokens import estimate_tokens
from shared.vectors import Float32Array

log = structlog.get_logger()

# Enough to find texts of like length among, few enough to sort for each batch. Grows with the batch, to be able to fill it.
_LOOK_AHEAD_TEXTS: Final = 64
# What `model_threads` may be.
_THREADS_MAX: Final = 256

_Key = tuple[TextKind, str]


@dataclass(eq=False, slots=True)
class _Work:
    """One distinct text. `waiters` counts who still wants it."""

    key: _Key
    tokens: int
    future: "asyncio.Future[Float32Array]" = field(repr=False)
    waiters: int = 0


class EmbedMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.texts = Counter("diptych_embed_texts", "Texts embedded.", ["kind"], registry=registry)
        self.cached = Counter("diptych_embed_cache_hits", "Query vectors found in the cache.", registry=registry)
        self.queued = Gauge("diptych_embed_queue_texts", "Texts waiting for the model.", registry=registry)
        self.batch_texts = Histogram(
            "diptych_embed_batch_texts", "Texts in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
        )
        self.seconds = Histogram(
            "diptych_embed_batch_seconds", "Time of a batch.", buckets=SECONDS_BUCKETS, registry=registry
        )


class Batcher:
    """`load` is called in a thread at `start`; until it returns, texts wait in the queue."""

    def __init__(
        self,
        load: Callable[[], Embedder],
        *,
        metrics: EmbedMetrics,
        batch_tokens_max: int,
        queue_texts_max: int,
        cache_entries: int,
    ) -> None:
        self.failure: BaseException | None = None
        self._load = load
        self._batch_tokens_max = batch_tokens_max
        self._queue_texts_max = queue_texts_max
        self._look_ahead_texts = min(max(_LOOK_AHEAD_TEXTS, batch_tokens_max // 8), 16 * _LOOK_AHEAD_TEXTS)
        self._cache: OrderedDict[str, Float32Array] = OrderedDict()
        self._cache_entries = cache_entries
        self._metrics = metrics
        # One loads the model. There are never more than batches at once.
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="model")
        self._queued_reported = 0
        self._queues: dict[TextKind, deque[_Work]] = {"query": deque(), "document": deque()}
        self._pending: dict[_Key, _Work] = {}
        self._wake = asyncio.Event()
        self._loaded: asyncio.Future[Embedder] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._loaded = asyncio.ensure_future(loop.run_in_executor(self._threads, self._load))
        self._task = loop.create_task(self._run(), name="embed-batches")

    async def close(self) -> None:
        await ended(self._task)
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)
        self._give_up(Unavailable("the service is shutting down", retry_after_s=1.0))

    def _give_up(self, error: Unavailable) -> None:
        for work in self._pending.values():
            if not work.future.done():
                work.future.set_exception(error)
                work.future.exception()  # its waiters may be gone; then nobody else would look
        self._pending.clear()
        for waiting in self._queues.values():
            waiting.clear()
        self._report_queue()

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None and self._loaded.done() and self._loaded.exception() is None

    async def embedder(self) -> Embedder:
        """The model, once it is loaded. Raises what loading raised."""
        if self._loaded is None:
            raise Unavailable("the service is not started", retry_after_s=1.0)
        return await asyncio.shield(self._loaded)

    async def embed(self, texts: Sequence[str], kind: TextKind, *, bounded: bool = True) -> Float32Array:
        """Unit vectors of shape (texts, dimensions). Raises Overloaded when too much waits.

        `bounded=False` is for ingest, whose own queue is bounded and durable: refusing it here would only lose the work.
        """
        if self.failure is not None:
            raise Unavailable(f"the model could not be loaded: {self.failure}", retry_after_s=1.0)
        if bounded and self._waiting() + len(texts) > max(self._queue_texts_max, len(texts)):
            raise Overloaded("the embedding queue is full; try again shortly", retry_after_s=1.0)
        found: list[Float32Array | _Work] = []
        for text in texts:
            cached = self.cached(text) if kind == "query" else None
            found.append(self._enqueue(text, kind) if cached is None else cached)
        waiting = [part for part in found if isinstance(part, _Work)]
        self._wake.set()
        try:
            await asyncio.gather(*(asyncio.shield(work.future) for work in waiting))
        finally:
            for work in waiting:
                work.waiters -= 1
        return np.stack([part.future.result() if isinstance(part, _Work) else part for part in found])

    def _waiting(self) -> int:
        return sum(len(waiting) for waiting in self._queues.values())

    def _report_queue(self) -> None:
        """As a difference: the gauge is that of all models together."""
        self._metrics.queued.inc(self._waiting() - self._queued_reported)
        self._queued_reported = self._waiting()

    def cached(self, text: str) -> Float32Array | None:
        """The vector of a query that was embedded lately, shape (dimensions,)."""
        vector = self._cache.get(text)
        if vector is not None:
            self._cache.move_to_end(text)
            self._metrics.cached.inc()
        return vector

    def _enqueue(self, text: str, kind: TextKind) -> _Work:
        work = self._pending.get((kind, text))
        if work is None:
            future = asyncio.get_running_loop().create_future()
            work = self._pending[kind, text] = _Work((kind, text), estimate_tokens(text), future)
            self._queues[kind].append(work)
            self._report_queue()
        work.waiters += 1
        return work

    async def _once_loaded(self) -> Embedder | None:
        """None where it could not be loaded: whoever asked for it hears why."""
        if self._loaded is None:
            return None
        await asyncio.wait({self._loaded})
        error = self._loaded.exception()
        if error is None:
            return self._loaded.result()
        log.warning("model_not_loaded", error=str(error))
        self.failure = error
        self._threads.shutdown(wait=False)  # another one will load it, if it is asked for again
        self._give_up(Unavailable(f"the model could not be loaded: {error}", retry_after_s=1.0))
        return None

    async def _run(self) -> None:
        embedder = await self._once_loaded()
        if embedder is not None:
            async with asyncio.TaskGroup() as group:
                for _ in range(embedder.batches_at_once):
                    group.create_task(self._embed_batches(embedder), name="embed-batches")

    async def _embed_batches(self, embedder: Embedder) -> None:
        while True:
            batch = self._next_batch(embedder.tokens_max)
            if not batch:
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._embed_batch(embedder, batch)

    async def _embed_batch(self, embedder: Embedder, batch: list[_Work]) -> None:
        kind = batch[0].key[0]
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            texts = [work.key[1] for work in batch]
            vectors = await loop.run_in_executor(self._threads, embedder.embed, texts, kind)
        except Exception as error:  # a worker's loop: the text that broke it fails, the queue lives
            log.exception("embed_failed", texts=len(batch))
            if len(batch) == 1:
                self._settle(batch[0], None, error)
                return
            middle = len(batch) // 2
            await self._embed_batch(embedder, batch[:middle])
            await self._embed_batch(embedder, batch[middle:])
            return
        self._metrics.seconds.observe(loop.time() - started)
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.texts.labels(kind).inc(len(batch))
        for work, vector in zip(batch, vectors, strict=True):
            self._settle(work, vector, None)

    def _settle(self, work: _Work, vector: Float32Array | None, error: Exception | None) -> None:
        self._pending.pop(work.key, None)
        if work.future.done():
            return
        if vector is None:
            work.future.set_exception(Unavailable(f"the model failed: {error}", retry_after_s=1.0))
            work.future.exception()  # as in close
            return
        work.future.set_result(vector)
        kind, text = work.key
        if kind == "query" and self._cache_entries:
            self._cache[text] = vector
            while len(self._cache) > self._cache_entries:
                self._cache.popitem(last=False)

    def _next_batch(self, text_tokens_max: int) -> list[_Work]:
        """Of one kind, queries first, within the token budget, with the oldest in it."""
        waiting = self._queues["query"]
        ahead = self._take_ahead(waiting)
        if not ahead:
            waiting = self._queues["document"]
            ahead = self._take_ahead(waiting)
        if not ahead:
            return []
        # What is longer is cut by the model, and costs no more.
        chosen = choose_batch([min(work.tokens, text_tokens_max) for work in ahead], self._batch_tokens_max)
        left = set(range(len(ahead))).difference(chosen)
        waiting.extendleft(ahead[position] for position in sorted(left, reverse=True))
        self._report_queue()
        return [ahead[position] for position in chosen]

    def _take_ahead(self, waiting: deque[_Work]) -> list[_Work]:
        """The oldest of `waiting`, taken out of it. What nobody wants any more is dropped."""
        ahead: list[_Work] = []
        while waiting and len(ahead) < self._look_ahead_texts:
            work = waiting.popleft()
            if work.waiters:
                ahead.append(work)
            else:
                self._pending.pop(work.key, None)
        return ahead
