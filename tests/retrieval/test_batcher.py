"""The queue in front of the model: shared batches, queries first, nothing for nobody."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from retrieval.models.batcher import Batcher, EmbedMetrics
from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from shared.errors import Overloaded, Unavailable
from shared.vectors import Float32Array
from tests.harness import WAIT_S, until


class GatedEmbedder(HashEmbedder):
    """Holds each batch until it is let through, so that a test decides what waits together."""

    def __init__(self, *, batches_at_once: int = 1) -> None:
        super().__init__()
        self.batches_at_once = batches_at_once
        self.batches: list[tuple[TextKind, list[str]]] = []
        self._gate = threading.Semaphore(0)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        self.batches.append((kind, list(texts)))
        assert self._gate.acquire(timeout=WAIT_S)
        if "poison" in texts:
            raise RuntimeError("the model broke")
        return super().embed(texts, kind)

    def let(self, batches: int) -> None:
        self._gate.release(batches)


@asynccontextmanager
async def batching(
    embedder: HashEmbedder, *, queue: int = 100, batch_tokens: int = 2048, cache: int = 100
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        lambda: embedder,
        metrics=EmbedMetrics(CollectorRegistry()),
        batch_tokens_max=batch_tokens,
        queue_texts_max=queue,
        cache_entries=cache,
    )
    batcher.start()
    try:
        yield batcher
    finally:
        if isinstance(embedder, GatedEmbedder):
            embedder.let(100)
        await batcher.close()


async def batches(embedder: GatedEmbedder, count: int) -> None:
    async def arrived() -> bool:
        return len(embedder.batches) >= count

    await until(arrived)


async def occupy(batcher: Batcher, embedder: GatedEmbedder) -> "asyncio.Task[Float32Array]":
    """A first batch that keeps the model busy until the gate opens."""
    task = asyncio.create_task(batcher.embed(["first"], "document"))
    await batches(embedder, 1)
    return task


async def test_what_waits_together_shares_a_batch_and_queries_go_first() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        order: tuple[tuple[str, TextKind], ...] = (
            ("d1", "document"),
            ("q1", "query"),
            ("d2", "document"),
            ("q2", "query"),
        )
        waiting = [asyncio.create_task(batcher.embed([text], kind)) for text, kind in order]
        await asyncio.sleep(0)
        embedder.let(3)
        await asyncio.gather(first, *waiting)

    assert embedder.batches == [("document", ["first"]), ("query", ["q1", "q2"]), ("document", ["d1", "d2"])]


async def test_a_model_that_computes_two_batches_at_once_is_given_two() -> None:
    embedder = GatedEmbedder(batches_at_once=2)
    async with batching(embedder, batch_tokens=8) as batcher:
        texts = [f"number {number} of several" for number in range(4)]
        waiting = asyncio.create_task(batcher.embed(texts, "document"))
        await batches(embedder, 2)
        assert len(embedder.batches) == 2
        query = asyncio.create_task(batcher.embed(["asked"], "query"))
        await asyncio.sleep(0)
        embedder.let(1)
        await batches(embedder, 3)
        embedder.let(4)
        vectors = await asyncio.gather(waiting, query)

    assert [kind for kind, _ in embedder.batches] == ["document", "document", "query", "document", "document"]
    np.testing.assert_array_equal(vectors[0], HashEmbedder().embed(texts, "document"))


async def test_vectors_come_back_in_the_order_of_the_texts() -> None:
    embedder = HashEmbedder()
    async with batching(embedder, batch_tokens=256) as batcher:
        texts = [f"text {number} " + "word " * (number % 7) for number in range(50)]
        vectors = await batcher.embed(texts, "document")

    np.testing.assert_allclose(vectors, HashEmbedder().embed(texts, "document"), rtol=1e-6)


async def test_the_same_text_at_the_same_time_is_embedded_once() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        same = [asyncio.create_task(batcher.embed(["same", "same"], "document")) for _ in range(5)]
        await asyncio.sleep(0)
        embedder.let(2)
        vectors = await asyncio.gather(first, *same)

    assert embedder.batches[1] == ("document", ["same"])
    assert all((2, embedder.dimensions) == each.shape for each in vectors[1:])


async def test_a_query_asked_again_comes_from_the_cache_and_the_oldest_is_forgotten() -> None:
    embedder = GatedEmbedder()
    embedder.let(100)
    async with batching(embedder, cache=2) as batcher:
        for text in ("a", "b", "a", "c", "a", "b"):
            await batcher.embed([text], "query")

    assert [texts[0] for _, texts in embedder.batches] == ["a", "b", "c", "b"]


async def test_a_caller_that_went_away_is_not_worked_for() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        gone = asyncio.create_task(batcher.embed(["gone"], "document"))
        stays = asyncio.create_task(batcher.embed(["stays"], "document"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        embedder.let(2)
        await asyncio.gather(first, stays)

    assert [text for _, texts in embedder.batches for text in texts] == ["first", "stays"]


async def test_documents_do_not_wait_for_queries_that_nobody_wants_any_more() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        gone = asyncio.create_task(batcher.embed(["gone"], "query"))
        stays = asyncio.create_task(batcher.embed(["stays"], "document"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        embedder.let(2)
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(first, stays)

    assert embedder.batches[1:] == [("document", ["stays"])]


async def test_texts_of_like_length_share_a_batch() -> None:
    embedder = GatedEmbedder()
    long, short = "word " * 100, "word"
    async with batching(embedder, batch_tokens=600) as batcher:
        first = await occupy(batcher, embedder)
        rest = asyncio.create_task(batcher.embed([long + "1", short, long + "2", short + "s"], "document"))
        await asyncio.sleep(0)
        embedder.let(10)
        await asyncio.gather(first, rest)

    assert [sorted(texts) for _, texts in embedder.batches[1:]] == [[long + "1", long + "2"], [short, short + "s"]]


async def test_a_full_queue_refuses_searches_but_not_ingest() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder, queue=2) as batcher:
        first = await occupy(batcher, embedder)
        full = asyncio.create_task(batcher.embed(["a", "b"], "query"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await batcher.embed(["c"], "query")
        ingest = asyncio.create_task(batcher.embed(["d"], "document", bounded=False))
        await asyncio.sleep(0)
        embedder.let(3)
        await asyncio.gather(first, full, ingest)

    assert caught.value.retry_after_s == 1.0


async def test_a_batch_is_bounded_by_what_padding_makes_of_it() -> None:
    embedder = GatedEmbedder()
    long, short = "word " * 200, "word"
    async with batching(embedder, batch_tokens=600) as batcher:
        first = await occupy(batcher, embedder)
        rest = asyncio.create_task(batcher.embed([long + "1", long + "2", long + "3", short], "document"))
        await asyncio.sleep(0)
        embedder.let(10)
        await asyncio.gather(first, rest)

    assert [len(texts) for _, texts in embedder.batches] == [1, 2, 1, 1]


@pytest.mark.parametrize("companions", [0, 1, 4, 9])
async def test_a_text_that_breaks_the_model_fails_alone(companions: int) -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        bad = asyncio.create_task(batcher.embed(["poison"], "document"))
        good = [asyncio.create_task(batcher.embed([f"fine {n}"], "document")) for n in range(companions)]
        await asyncio.sleep(0)
        embedder.let(100)

        with pytest.raises(Unavailable, match="the model broke"):
            await bad
        assert [(await task).shape for task in (first, *good)] == [(1, embedder.dimensions)] * (1 + companions)
        assert ("document", ["poison"]) in embedder.batches
        assert (await batcher.embed(["fine"], "document")).shape == (1, embedder.dimensions)


async def test_who_still_waits_at_the_end_is_told() -> None:
    embedder = GatedEmbedder()
    async with batching(embedder) as batcher:
        first = await occupy(batcher, embedder)
        waiting = asyncio.create_task(batcher.embed(["late"], "document"))
        await asyncio.sleep(0)

    results = await asyncio.gather(first, waiting, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in results)
