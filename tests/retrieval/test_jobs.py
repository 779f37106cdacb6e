"""Jobs that meet trouble: tried again, given up, taken over, cancelled, refused; and fair to each other."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from diptych import RetrievalClient
from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from retrieval.truth.schema import migrations
from shared.errors import NotFound, Overloaded
from shared.retrieval_messages import TERMINAL, DocumentIn, IngestRequest, Job
from shared.vectors import Float32Array
from tests.harness import WAIT_S, make_key, running_retrieval, until
from tests.retrieval.test_batcher import GatedEmbedder, batches

BOMB = "<div>" * 20_000


class FailingEmbedder(HashEmbedder):
    """Breaks on texts with the word `broken`, as often as it is told. A batch of several that breaks is not counted: the texts of
    one are tried apart, and which of a job's texts meet in a batch is chance."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        if any("broken" in text for text in texts) and self.failures:
            if len(texts) == 1:
                self.failures -= 1
            raise RuntimeError("the model broke")
        return super().embed(texts, kind)


class StuckEmbedder(HashEmbedder):
    """Its tokenizer never comes back from the first text with the word `stuck`."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()
        self.calls = 0

    def token_starts(self, text: str) -> Sequence[int]:
        if "stuck" in text:
            self.calls += 1
            if self.calls == 1:
                self.released.wait(4 * WAIT_S)
        return super().token_starts(text)


async def ended(client: RetrievalClient, job_id: str) -> Job:
    async def is_over() -> bool:
        return (await client.job(job_id)).status in TERMINAL

    await until(is_over)
    return await client.job(job_id)


async def test_a_failure_that_passes_is_tried_again(tmp_path: Path) -> None:
    embedder = FailingEmbedder(2)
    async with running_retrieval(tmp_path, embedder=embedder, ingest_retry_s=0.01) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "broken"}, {"id": "b", "text": "fine"}])

        assert (answer.job.status, answer.job.created, answer.job.failed) == ("succeeded", 2, 0)


async def test_a_document_that_keeps_failing_is_given_up_and_can_be_queued_again(tmp_path: Path) -> None:
    embedder = FailingEmbedder(3)
    settings: dict[str, Any] = {"ingest_retry_s": 0.01, "ingest_attempts_max": 3}
    async with running_retrieval(tmp_path, embedder=embedder, **settings) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "broken"}, {"id": "b", "text": "fine"}])

        assert (answer.job.created, answer.job.failed, answer.job.dead) == (1, 1, 1)
        (error,) = answer.job.errors
        assert (error.id, error.attempts, error.is_kept) == ("a", 3, True)
        assert error.message == "the model failed: the model broke (given up after attempt 3)"

        queued = await running.client.retry_job(answer.job.id)
        job = await ended(running.client, answer.job.id)
        again = await running.client.retry_job(answer.job.id)

        assert (queued.status, queued.failed, queued.done) == ("queued", 0, 1)
        assert (job.status, job.created, job.failed, job.dead, job.errors) == ("succeeded", 2, 0, 0, [])
        assert again == job
        assert (await running.client.document("docs", "a")).text == "broken"
        assert (await running.client.check()).clean


async def test_a_document_that_cannot_be_read_is_not_tried_again_but_may_be_queued_again(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        answer = await running.client.ingest("docs", [{"id": "bomb", "text": BOMB, "content_type": "text/html"}])
        assert [(error.attempts, error.is_kept) for error in answer.job.errors] == [(1, True)]
        assert answer.job.status == "failed"

        queued = await running.client.retry_job(answer.job.id)
        assert queued.status == "queued"
        assert (await ended(running.client, answer.job.id)).status == "failed"


async def test_a_given_up_write_does_not_come_back_over_a_later_write_or_delete(tmp_path: Path) -> None:
    embedder = FailingEmbedder(2)
    async with running_retrieval(tmp_path, embedder=embedder, ingest_attempts_max=1) as running:
        first = await running.client.ingest("docs", [{"id": "w", "text": "broken write"}])
        second = await running.client.ingest("docs", [{"id": "d", "text": "broken doomed"}])
        await running.client.ingest("docs", [{"id": "w", "text": "later write"}])
        await running.client.delete_documents("docs", ["d"])

        await running.client.retry_job(first.job.id)
        unchanged = await running.client.retry_job(second.job.id)
        await ended(running.client, first.job.id)

        assert (unchanged.status, unchanged.dead, unchanged.failed) == ("failed", 0, 1)
        assert (await running.client.document("docs", "w")).text == "later write"
        with pytest.raises(NotFound):
            await running.client.document("docs", "d")


async def test_kept_payloads_are_bounded_the_oldest_go_first(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, ingest_attempts_max=1, embedder=FailingEmbedder(3)) as running:
        jobs = [
            (await running.client.ingest("docs", [{"id": str(number), "text": "broken " * 40}])).job
            for number in range(3)
        ]

        await running.service.jobs.forget_old(700)

        assert [(await running.client.job(job.id)).dead for job in jobs] == [0, 1, 1]
        assert [(await running.client.job(job.id)).failed for job in jobs] == [1, 1, 1]


async def test_a_job_whose_task_has_died_is_taken_up_when_its_lease_has_expired(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, ingest_lease_s=0.3) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "alpha"}], wait=False)
        await batches(embedder, 1)
        (task,) = [each for each in asyncio.all_tasks() if each.get_name() == f"job-{answer.job.id}"]

        task.cancel()
        embedder.let(100)

        job = await ended(running.client, answer.job.id)
        assert (job.status, job.created) == ("succeeded", 1)


async def test_a_document_that_makes_no_progress_is_started_anew(tmp_path: Path) -> None:
    embedder = StuckEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, ingest_lease_s=0.3) as running:
        documents = [{"id": "a", "text": "stuck"}, {"id": "b", "text": "fine"}]
        answer = await running.client.ingest("docs", documents, wait=False)

        job = await ended(running.client, answer.job.id)
        embedder.released.set()

        assert (job.status, job.created) == ("succeeded", 2)
        assert embedder.calls >= 2
        assert (await running.client.check()).clean


async def test_cancelling_stops_the_embedding_within_a_batch_and_keeps_what_is_stored(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, embed_batch_tokens_max=64) as running:
        answer = await running.client.ingest(
            "docs", [{"id": str(number), "text": f"number{number} " * 20} for number in range(30)], wait=False
        )
        embedder.let(3)
        await batches(embedder, 4)

        cancelled = await running.client.cancel_job(answer.job.id)
        embedder.let(100)
        await running.client.ingest("docs", [{"id": "next", "text": "next"}])

        assert cancelled.status == "cancelled"
        # One batch may have been taken from the queue while the cancelling was on its way to it.
        *late, last = [texts for _, texts in embedder.batches[4:]]
        assert (last, len(late) <= 1) == (["next"], True)
        job = await running.client.job(answer.job.id)
        documents = {document.id for document in (await running.client.documents("docs")).items}
        assert len(documents) == job.created + 1
        assert (await running.client.check()).clean


async def test_bytes_that_wait_are_bounded_as_documents_are(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, ingest_queue_bytes_max=1000) as running:
        await running.client.ingest("docs", [{"id": "a", "text": "x" * 600}], wait=False)
        with pytest.raises(Overloaded, match="ingest_queue_bytes_max is 1000") as caught:
            await running.service.ingest("default", "docs", _request("x" * 500))
        assert caught.value.retry_after_s == 5.0
        await running.client.ingest("docs", [{"id": "b", "text": "x" * 200}], wait=False)
        embedder.let(100)

        async def drained() -> bool:
            return not (await running.client.jobs(status="running")).items

        await until(drained)
        # More than the queue holds is taken when it is empty: otherwise it never would be.
        answer = await running.client.ingest("docs", [{"id": "c", "text": "x " * 600}])
        assert answer.job.created == 1


async def test_places_in_the_queue_are_free_again_when_a_collection_goes(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, ingest_queue_documents_max=2) as running:
        await running.client.ingest("gone", [{"id": "a", "text": "a"}, {"id": "b", "text": "b"}], wait=False)
        await running.client.delete_collection("gone")

        await running.client.ingest("docs", [{"id": "c", "text": "c"}, {"id": "d", "text": "d"}], wait=False)
        embedder.let(100)


async def test_a_large_job_does_not_hold_up_the_small_one_of_another_tenant_or_of_its_own(tmp_path: Path) -> None:
    large, small = await make_key(tmp_path, "large"), await make_key(tmp_path, "small")
    embedder = GatedEmbedder()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(
            running_retrieval(tmp_path, embedder=embedder, key=large, embed_batch_tokens_max=64)
        )
        other = await stack.enter_async_context(RetrievalClient(running.url, api_key=small, timeout_s=WAIT_S))
        text = "\n\n".join(f"# Part {number}\n\n" + f"word{number} " * 100 for number in range(40))
        documents = [{"id": str(each), "text": f"{each} {text}", "content_type": "text/markdown"} for each in range(40)]
        big = await running.client.ingest("docs", documents, wait=False)
        await batches(embedder, 1)

        tenants = [
            asyncio.create_task(other.ingest("docs", [{"id": "s", "text": "small"}])),
            asyncio.create_task(running.client.ingest("docs", [{"id": "s", "text": "own small"}])),
        ]
        for each in tenants:
            while not each.done():
                embedder.let(1)
                await asyncio.wait({each}, timeout=0.01)
        spent = len(embedder.batches)
        embedder.let(10_000)

        assert [(await each).job.created for each in tenants] == [1, 1]
        assert (await running.client.job(big.job.id)).done == 0
        assert spent < 200  # of the 1,600 batches that the large one takes
        await running.client.cancel_job(big.job.id)


def _request(text: str) -> IngestRequest:
    return IngestRequest(documents=[DocumentIn(id="new", text=text)])


@pytest.mark.blocking
def test_jobs_of_the_first_schema_keep_their_place_in_the_queue(tmp_path: Path) -> None:
    database = sqlite_utils.Database(tmp_path / "x.db")
    migrations.apply(database, stop_before="m003_leases_and_retries")
    database.execute(
        "INSERT INTO jobs (accepted, id, tenant, collection_id, collection, kind, status, total, created_at, updated_at) "
        "VALUES (7, 'j', 't', 1, 'c', 'ingest', 'running', 3, 'x', 'x')"
    )
    for ordinal, payload, status in ((0, b"12345", "pending"), (1, None, "created"), (2, None, "pending")):
        database.execute(
            "INSERT INTO job_items (job, ordinal, document_id, payload, status) VALUES (7, ?, 'd', ?, ?)",
            (ordinal, payload, status),
        )

    migrations.apply(database)

    rows = database.execute("SELECT ordinal, status, payload, payload_bytes, attempts FROM job_items ORDER BY ordinal")
    assert rows.fetchall() == [(0, "pending", b"12345", 5, 0), (1, "created", None, 0, 0), (2, "cancelled", None, 0, 0)]
    database.close()


async def test_jobs_that_come_while_leases_are_looked_at_are_waited_for_to_their_end(tmp_path: Path) -> None:
    # On a busy machine such a lease is lost again and again, which is another matter.
    async with running_retrieval(tmp_path, ingest_lease_s=0.01, ingest_attempts_max=1000) as running:

        async def write(writer: int) -> set[str]:
            statuses = set[str]()
            for number in range(40):
                document = {"id": f"{writer}-{number}", "text": f"text {number} of {writer}"}
                answer = await running.client.ingest("c", [document], wait=True)
                statuses.add(answer.job.status)
            return statuses

        statuses = await asyncio.gather(*(write(writer) for writer in range(6)))

    assert set().union(*statuses) == {"succeeded"}
