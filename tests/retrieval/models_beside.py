"""For tests of two models in one collection: a new model that a test can hold up, and looks at what stands where."""

import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence

from diptych import RetrievalClient
from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from shared.retrieval_messages import TERMINAL, Hit, Job, Reindex
from shared.vectors import Float32Array
from tests.harness import WAIT_S, RunningRetrieval, until

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]


class GatedModel(HashEmbedder):
    """A new model whose documents wait at a gate, so that a test decides how far a reindex comes. Queries pass."""

    def __init__(self, name: str = "new", dimensions: int = 509) -> None:
        super().__init__(name=name, dimensions=dimensions)
        self.waiting = 0
        self.is_broken = False
        self._gate = threading.Semaphore(0)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        if kind == "document":
            self.waiting += 1
            assert self._gate.acquire(timeout=WAIT_S)
            self.waiting -= 1
            if self.is_broken:
                raise RuntimeError("the model broke")
        return super().embed(texts, kind)

    def let(self, batches: int = 10_000) -> None:
        self._gate.release(batches)


def documents(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """No two alike, all related."""
    return [
        {"id": str(number), "text": f"number{number} {WORDS[number % 12]} {WORDS[number // 12 % 12]} of many"}
        for number in range(start, start + count)
    ]


def new_model() -> HashEmbedder:
    return HashEmbedder(name="new", dimensions=509)


async def ended(client: RetrievalClient, job: Job) -> Job:
    async def is_over() -> bool:
        return (await client.job(job.id)).status in TERMINAL

    await until(is_over)
    return await client.job(job.id)


async def reindexed(running: RunningRetrieval, model: str = "new", *, flip: bool = True) -> Job:
    job = await ended(running.client, await running.client.reindex("docs", model, flip=flip))
    assert (job.kind, job.status) == ("reindex", "succeeded")
    return job


async def standing(running: RunningRetrieval) -> Reindex:
    found = (await running.client.collection("docs")).reindex
    assert found is not None
    return found


async def assert_clean(running: RunningRetrieval) -> None:
    report = await running.client.check()
    assert (report.findings, report.clean) == ([], True)


async def dense(running: RunningRetrieval, query: str, limit: int = 10) -> tuple[str, list[Hit]]:
    """Which model answered, and what."""
    answer = await running.client.search(query, collection="docs", mode="dense", limit=limit, explain=True)
    assert answer.plan is not None
    assert answer.plan.model == answer.plan.collections[0].model
    return answer.plan.model, answer.hits


def rounded(hits: Sequence[Hit]) -> list[tuple[str, float]]:
    return [(hit.document_id, round(hit.score, 5)) for hit in hits]


async def vectors_by_model(running: RunningRetrieval) -> dict[str, int]:
    def unit(connection: sqlite3.Connection) -> dict[str, int]:
        return dict(connection.execute("SELECT model, count(*) FROM vectors GROUP BY model").fetchall())

    return await running.service.store.database.read(unit)


def is_waiting(model: GatedModel) -> Callable[[], Awaitable[bool]]:
    async def is_held() -> bool:
        return model.waiting > 0

    return is_held
