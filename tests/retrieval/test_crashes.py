"""SIGKILL in the middle of the work: what was acknowledged is stored, and what was embedded is not embedded again."""

import ast
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from diptych import RetrievalClient
from diptych.ports import free_ports
from shared.retrieval_messages import TERMINAL, Job
from tests.harness import PROCESS_WAIT_S, clean_environment, until, until_ready

pytestmark = pytest.mark.blocking

ROOT = Path(__file__).parent.parent.parent
KILLED = -9


class Service:
    """One life of the process after another, on the same data."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.record = data_dir / "embedded.txt"

    @property
    def batches(self) -> list[list[str]]:
        """What the model was given, over all lives."""
        return [ast.literal_eval(line) for line in self.record.read_text().splitlines()]

    @asynccontextmanager
    async def life(
        self, *, crash_before: int = 0, **settings: Any
    ) -> AsyncIterator[tuple[RetrievalClient, asyncio.subprocess.Process]]:
        (port,) = free_ports(1)
        flags = {"port": port, "data-dir": self.data_dir, "model": "hash", "log-level": "error", **settings}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.retrieval.crashing_service"),
            *(str(part) for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)),
            cwd=ROOT,
            env=clean_environment(CRASH_RECORD=str(self.record), CRASH_BEFORE_BATCH=str(crash_before)),
        )
        try:
            async with RetrievalClient(f"http://127.0.0.1:{port}", timeout_s=PROCESS_WAIT_S) as client:
                yield client, process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def crash(self, crash_before: int = 0, **settings: Any) -> None:
        """A life that ends by itself."""
        async with self.life(crash_before=crash_before, **settings) as (_, process), asyncio.timeout(PROCESS_WAIT_S):
            assert await process.wait() == KILLED


async def ended(client: RetrievalClient, job_id: str) -> Job:
    async def is_over() -> bool:
        return (await client.job(job_id)).status in TERMINAL

    await until(is_over, PROCESS_WAIT_S)
    return await client.job(job_id)


async def test_a_document_killed_again_and_again_embeds_each_text_once_but_for_what_was_in_hand(tmp_path: Path) -> None:
    service = Service(tmp_path)
    # One document of some 60 chunks, and batches of a few: before, it would have started anew each time.
    text = "\n\n".join(f"# Part {number}\n\n" + f"word{number} " * 60 for number in range(60))
    settings = {"embed_batch_tokens_max": 512, "ingest_attempts_max": 20}
    async with service.life(crash_before=4, **settings) as (client, process):
        await until_ready(client, PROCESS_WAIT_S)
        answer = await client.ingest(
            "docs", [{"id": "long", "text": text, "content_type": "text/markdown"}], wait=False
        )
        assert await process.wait() == KILLED
    for _ in range(3):
        await service.crash(crash_before=3, **settings)

    async with service.life(**settings) as (client, _):
        await until_ready(client, PROCESS_WAIT_S)
        job = await ended(client, answer.job.id)
        passages = (await client.document("docs", "long")).passages
        assert (await client.check()).clean

    times = Counter(text for batch in service.batches for text in batch)
    assert (job.status, job.created, job.chunks) == ("succeeded", 1, len(passages))
    assert len(times) == len(passages) == 60
    # Each kill costs the batch that it hit, and at most the one before it, whose vectors were being written.
    texts_per_batch = max(map(len, service.batches))
    assert sum(times.values()) - len(times) <= 4 * 2 * texts_per_batch
    assert texts_per_batch <= 8


async def test_small_documents_are_not_embedded_again_but_for_those_in_hand(tmp_path: Path) -> None:
    service = Service(tmp_path)
    async with service.life(crash_before=10, embed_batch_tokens_max=64) as (client, process):
        await until_ready(client, PROCESS_WAIT_S)
        answer = await client.ingest(
            "docs", [{"id": str(number), "text": f"text {number} " * 8} for number in range(60)], wait=False
        )
        assert await process.wait() == KILLED

    async with service.life(embed_batch_tokens_max=64) as (client, _):
        await until_ready(client, PROCESS_WAIT_S)
        job = await ended(client, answer.job.id)
        assert (job.created, job.failed) == (60, 0)
        assert (await client.check()).clean

    embedded = [text for batch in service.batches for text in batch]
    assert len(set(embedded)) == 60
    assert len(embedded) - 60 <= 2 * max(map(len, service.batches))


async def test_a_document_that_kills_the_process_is_given_up_and_the_others_are_not(tmp_path: Path) -> None:
    service = Service(tmp_path)
    documents = [{"id": str(number), "text": f"harmless {number}"} for number in range(12)]
    documents.insert(5, {"id": "bad", "text": "poison"})
    lives = 1
    async with service.life(ingest_attempts_max=3, embed_batch_tokens_max=64) as (client, process):
        await until_ready(client, PROCESS_WAIT_S)
        answer = await client.ingest("docs", documents, wait=False)
        assert await process.wait() == KILLED
    while lives < 8:
        async with service.life(ingest_attempts_max=3, embed_batch_tokens_max=64) as (client, process):
            lives += 1
            dying = asyncio.create_task(process.wait())
            ending = asyncio.create_task(survived(client, answer.job.id))
            await asyncio.wait({dying, ending}, return_when=asyncio.FIRST_COMPLETED, timeout=PROCESS_WAIT_S)
            if ending.done():
                job = await ending
                documents_stored = (await client.collection("docs")).documents
                break
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    # It was tried together with others twice, and alone after that.
    assert lives == 4
    assert (job.status, job.created, job.failed, job.dead, documents_stored) == ("succeeded", 12, 1, 1, 12)
    assert [(error.id, error.attempts, error.is_kept) for error in job.errors] == [("bad", 3, True)]
    assert job.errors[0].message.startswith("given up: 3 attempts ended with the process")


async def test_a_reindex_killed_again_and_again_embeds_each_chunk_once_but_for_the_step_in_hand(tmp_path: Path) -> None:
    service = Service(tmp_path)
    settings: dict[str, Any] = {"embed_batch_tokens_max": 512, "more_models": "new"}
    # Longer than the queries that overlap is measured with.
    texts = [f"number{number} " + "of many words " * 20 for number in range(200)]
    async with service.life(**settings) as (client, _):
        await until_ready(client, PROCESS_WAIT_S)
        written = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
        await client.ingest("docs", written, timeout_s=PROCESS_WAIT_S)
    service.record.unlink()

    async with service.life(crash_before=15, **settings) as (client, process):
        await until_ready(client, PROCESS_WAIT_S)
        job = await client.reindex("docs", "new")
        assert await process.wait() == KILLED
    for _ in range(2):
        await service.crash(crash_before=12, **settings)

    async with service.life(**settings) as (client, _):
        await until_ready(client, PROCESS_WAIT_S)
        done = await ended(client, job.id)
        collection = await client.collection("docs")
        assert (await client.check()).clean
    assert (done.status, done.done, done.total, collection.model) == ("succeeded", 200, 200, "new")
    times = Counter(text for batch in service.batches for text in batch)
    again = sum(count - 1 for text, count in times.items() if text.strip() in {each.strip() for each in texts})
    assert times.keys() >= {each.strip() for each in texts}
    # A kill costs the step of 64 chunks that it hit.
    assert again <= 3 * 64
    assert max(len(batch) for batch in service.batches) < 64


async def survived(client: RetrievalClient, job_id: str) -> Job:
    await until_ready(client, PROCESS_WAIT_S)
    return await ended(client, job_id)
