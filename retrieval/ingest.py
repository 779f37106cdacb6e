"""Working on jobs: each document is read (conversion/), cut in a thread, embedded as far as its texts are new, and stored in one
transaction. A job ends when everything it stored can be found.

Jobs start in the order of acceptance, a few at a time; what a crash interrupted is taken up again at the start. Nothing
here holds state that matters: all of it is in the database.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from retrieval.batcher import Batcher
from retrieval.conversion.converter import Converter
from retrieval.conversion.limits import Unreadable
from retrieval.embedder import Embedder
from retrieval.jobs import Commit, Jobs
from retrieval.preparing import content_hash, prepare
from retrieval.projections import Projections
from retrieval.records import CollectionRow, Item, Outcome, PreparedDocument
from retrieval.store import Store, commit_document, commit_unchanged
from shared.errors import NotFound, ServiceError
from shared.retrieval_messages import DocumentIn
from shared.threads import run_in

log = structlog.get_logger()


class Ingest:
    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        projections: Projections,
        batcher: Batcher,
        converter: Converter,
        *,
        threads: ThreadPoolExecutor,
        registry: CollectorRegistry,
        jobs_in_flight_max: int,
        documents_in_flight_max: int,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._projections = projections
        self._batcher = batcher
        self._converter = converter
        self._threads = threads
        self._jobs_slots = asyncio.Semaphore(jobs_in_flight_max)
        self._documents_in_flight_max = documents_in_flight_max
        self._running: dict[str, asyncio.Task[None]] = {}
        self._documents = Counter("diptych_documents", "Documents that ended.", ["status"], registry=registry)
        self._chunks = Counter("diptych_chunks", "Chunks stored.", registry=registry)
        self._waiting = Gauge("diptych_jobs_unfinished", "Jobs accepted and not ended.", registry=registry)

    async def start(self, rows: Sequence[CollectionRow]) -> None:
        """Takes up what a stop or crash left unfinished."""
        by_id = {row.id: row for row in rows}
        for job_id in await self._jobs.unfinished():
            row = by_id.get(await self._jobs.collection_of(job_id) or 0)
            # One that came in while the service was starting is on its way already.
            if row is not None and job_id not in self._running:
                self._launch(job_id, row)

    async def close(self) -> None:
        """Stops between transactions; unfinished jobs go on at the next start."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def submit(
        self, tenant: str, collection: str, documents: Sequence[tuple[str, DocumentIn]], *, model: str
    ) -> str:
        """The id of a job that is durable when this returns. Raises Overloaded."""
        job_id, row = await self._jobs.accept(tenant, collection, documents, model=model)
        self._launch(job_id, row)
        return job_id

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Until the job has ended, or the time is up."""
        task = self._running.get(job_id)
        if task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await asyncio.shield(task)

    def _launch(self, job_id: str, row: CollectionRow) -> None:
        task = asyncio.create_task(self._run_job(job_id, row), name=f"job-{job_id}")
        self._running[job_id] = task
        self._waiting.set(len(self._running))
        task.add_done_callback(lambda _: self._forget(job_id))

    def _forget(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._waiting.set(len(self._running))

    async def _run_job(self, job_id: str, row: CollectionRow) -> None:
        async with self._jobs_slots:
            try:
                embedder = await self._batcher.embedder()
                slots = asyncio.Semaphore(self._documents_in_flight_max)
                async with asyncio.TaskGroup() as group:
                    for key in await self._jobs.pending_items(job_id, row):
                        await slots.acquire()
                        task = group.create_task(self._run_item(key, row, embedder))
                        task.add_done_callback(lambda _: slots.release())
                await self._projections.reach(row)
                await self._jobs.finish(job_id)
            except* NotFound:
                log.info("job_without_collection", job_id=job_id)  # deleted meanwhile, and the job with it
            except* Exception:  # a job's loop: others go on, and this one is taken up at the next start
                log.exception("job_interrupted", job_id=job_id)

    async def _run_item(self, key: tuple[int, int], row: CollectionRow, embedder: Embedder) -> None:
        item = await self._jobs.item(key, row)
        if item is None:
            return
        try:
            commit = await self._prepare_commit(item, embedder)
        except (ServiceError, Unreadable) as error:
            commit = partial(_commit_failure, message=str(error))
        except Exception as error:  # a job's loop: a document that breaks its parser fails alone
            log.exception("document_failed", collection_id=row.id)
            commit = partial(_commit_failure, message=f"could not be read: {type(error).__name__}")
        outcome = await self._jobs.end_item(item, commit)
        if outcome is None:
            return
        self._documents.labels(outcome.status).inc()
        if outcome.status in {"created", "replaced"}:
            self._chunks.inc(outcome.chunks)
            await self._projections.advance(row)

    async def _prepare_commit(self, item: Item, embedder: Embedder) -> Commit:
        """Everything that takes time, so that the transaction only writes."""
        row = item.collection
        digest = await run_in(self._threads, content_hash, item.document, row.chunking)
        if await self._store.stored_hash(row.id, item.document_id) == digest:
            return partial(commit_unchanged, item=item)
        parsed = await self._converter.convert(item.document)
        prepared = await run_in(
            self._threads,
            prepare,
            item.document,
            parsed,
            row.chunking,
            token_starts=embedder.token_starts,
            model_tokens_max=embedder.tokens_max,
        )
        vectors = await self._vectors(row, prepared)
        return partial(commit_document, item=item, prepared=prepared, vectors=vectors, digest=digest)

    async def _vectors(self, row: CollectionRow, prepared: PreparedDocument) -> list[bytes]:
        """A vector for each piece: those that the collection holds already, and new ones from the model."""
        known = await self._store.known_vectors(row.id, row.model, [piece.embed_hash for piece in prepared.pieces])
        new = {piece.embed_hash: piece.embed_text for piece in prepared.pieces if piece.embed_hash not in known}
        if new:
            vectors = await self._batcher.embed(list(new.values()), "document", bounded=False)
            known.update(zip(new, (vector.astype("<f4").tobytes() for vector in vectors), strict=True))
        return [known[piece.embed_hash] for piece in prepared.pieces]


def _commit_failure(_connection: sqlite3.Connection, *, message: str) -> Outcome:
    return Outcome("failed", error=message)
