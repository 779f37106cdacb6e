"""Running jobs: each is a task that works through its documents under a lease, fairly beside the others.

A document takes a place at the gate (jobs/fairness.py): so many for one job, at most half of all for one tenant. So a small
job starts beside a large one, and a tenant that comes late finds places free, whatever the others have queued.

A job that fails as a whole is tried again by its own task. One whose task has died, or shows no sign of life for as long
as the lease, loses the lease and is taken up anew. Documents that were being worked on in a second crash, or failed twice, are
run one at a time, the least tried ones first: whichever of them is the culprit is then the only one that a further
crash or failure is counted against.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from retrieval.indexes.projections import Projections
from retrieval.ingest.ingest import Ingest
from retrieval.jobs.backpressure import retry_delay_s
from retrieval.jobs.fairness import FairGate
from retrieval.jobs.feed import JobFeed, Progress
from retrieval.jobs.items import JobItems, Pending, RunningJob
from retrieval.jobs.jobs import Jobs
from retrieval.reindexing.reindexing import Reindexer
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import NotFound, ServiceError
from shared.retrieval_messages import TERMINAL, DocumentIn, Job
from shared.tasks import ended

log = structlog.get_logger()

# How often leases and the queue are looked at, at the least, and how often what is old is forgotten.
_LOOK_S: Final = 5.0
_CLEAN_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    jobs_in_flight_max: int
    documents_in_flight_max: int
    lease_s: float
    retry_s: float
    dead_bytes_max: int


class QueueMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.unfinished = Gauge("diptych_jobs_unfinished", "Jobs accepted and not ended.", registry=registry)
        self.documents = Gauge("diptych_ingest_queue_documents", "Documents not yet ingested.", registry=registry)
        self.bytes = Gauge("diptych_ingest_queue_bytes", "Bytes of documents not yet ingested.", registry=registry)
        self.oldest = Gauge("diptych_ingest_oldest_seconds", "Age of the oldest unfinished job.", registry=registry)
        self.dead = Gauge("diptych_ingest_dead_documents", "Documents given up, and kept.", registry=registry)


class _Run:
    """A job that is worked on here."""

    def __init__(self, job: RunningJob, progress: Progress) -> None:
        self.job = job
        self.progress = progress
        self.task: asyncio.Task[None] | None = None
        # Documents under way, as (job, ordinal).
        self.claimed: set[tuple[int, int]] = set()
        # More of it was queued: perhaps after its task looked for the last time.
        self.woken = asyncio.Event()

    def is_alive(self, lease_s: float) -> bool:
        """Waiting for its turn is no fault of a job; a document under way must show signs of life."""
        return not self.claimed or time.monotonic() - self.progress.touched < lease_s


class JobRunner:
    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        items: JobItems,
        ingest: Ingest,
        feed: JobFeed,
        projections: Projections,
        reindexer: Reindexer,
        *,
        limits: Limits,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._items = items
        self._ingest = ingest
        self._feed = feed
        self._projections = projections
        self._reindexer = reindexer
        self._limits = limits
        self._metrics = QueueMetrics(registry)
        everything = limits.jobs_in_flight_max * limits.documents_in_flight_max
        self._gate = FairGate(everything, share_max=max(limits.documents_in_flight_max, everything // 2))
        self._alone = asyncio.Lock()
        self._runs: dict[str, _Run] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, rows: Sequence[CollectionRow]) -> None:
        """Takes up what a stop or crash left unfinished. Whoever had a lease is dead: the database has one owner."""
        for job in await self._jobs.unfinished(rows):
            self.launch(job)
        self._keeper = asyncio.create_task(self._keep(), name="keep-leases")

    async def close(self) -> None:
        """Stops between transactions; unfinished jobs go on at the next start."""
        runs, self._runs = list(self._runs.values()), {}
        await ended(self._keeper, *(run.task for run in runs))
        with contextlib.suppress(ServiceError):
            await self._items.give_back(key for run in runs for key in run.claimed)

    async def submit(
        self, tenant: str, collection: str, documents: Sequence[tuple[str, DocumentIn]], *, model: str
    ) -> str:
        """The id of a job that is durable when this returns. Raises Overloaded."""
        job = await self._jobs.accept(tenant, collection, documents, model=model)
        self.launch(job)
        return job.id

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Until the job has ended, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while (run := self._runs.get(job_id)) is not None and run.task is not None:
                    await asyncio.wait({run.task})

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """Takes effect within a batch of the model; what has been stored stays. Raises NotFound."""
        job = await self._jobs.cancel(tenant, job_id)
        run = self._runs.get(job_id)
        if job.status == "cancelled" and run is not None and run.task is not None:
            run.task.cancel()
            if job.kind == "reindex":  # what was begun in the indexes is undone after it
                await asyncio.wait({run.task})
        self._feed.changed(job_id)
        return job

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Queues again what has failed and is kept. Raises NotFound."""
        job = await self._jobs.retry(tenant, job_id)
        if job.status not in TERMINAL:
            await self._launch_again({job_id})
        return job

    def launch(self, job: RunningJob) -> None:
        """Begins an accepted job, or tells its task that there is more of it."""
        run = self._runs.get(job.id)
        if run is not None:
            run.woken.set()
            return
        self._begin(job)

    def _begin(self, job: RunningJob, *, after: "asyncio.Task[None] | None" = None) -> None:
        """`after` is the task that it takes the job over from. There is no moment without a run: who waits for the job would take that
        for its end."""
        run = self._runs[job.id] = _Run(job, self._feed.progress(job.id))
        run.task = asyncio.create_task(self._work(run, after), name=f"job-{job.id}")
        run.task.add_done_callback(partial(self._ended, run))
        self._metrics.unfinished.set(len(self._runs))

    async def _launch_again(self, job_ids: set[str]) -> None:
        rows = await self._store.every_collection()
        for job in await self._jobs.unfinished(rows):
            if job.id in job_ids:
                self.launch(job)

    def _ended(self, run: _Run, task: "asyncio.Task[None]") -> None:
        if self._runs.get(run.job.id) is not run:  # taken over, or the service closes
            return
        del self._runs[run.job.id]
        self._feed.ended(run.job.id)
        self._metrics.unfinished.set(len(self._runs))
        if run.woken.is_set() and not task.cancelled():
            self.launch(run.job)

    async def _work(self, run: _Run, after: "asyncio.Task[None] | None") -> None:
        if after is not None:
            after.cancel()
            await asyncio.wait({after})
        failures = 0
        while True:
            try:
                await self._work_through(run)
            except NotFound:  # deleted meanwhile, and the job with it
                log.info("job_without_collection", job_id=run.job.id)
            except Exception:  # a job's loop: others go on, and this one does when what broke is whole again
                log.exception("job_interrupted", job_id=run.job.id)
                failures += 1
                await asyncio.sleep(retry_delay_s(failures, self._limits.retry_s))
                await self._give_back(run)
                continue
            return

    async def _work_through(self, run: _Run) -> None:
        """Returns when the job has ended, or is not ours any more."""
        await self._jobs.take(run.job, self._limits.lease_s)
        run.progress.touch()
        if run.job.kind == "reindex":
            await self._reindexer.run(run.job, run.progress)
            return
        while True:
            run.woken.clear()
            if pending := await self._items.pending(run.job):
                await self._run_pending(run, pending)
                continue
            await self._projections.reach(run.job.collection)
            if await self._jobs.finish(run.job):
                return

    async def _run_pending(self, run: _Run, pending: Sequence[Pending]) -> None:
        """What is due, or a wait until something is."""
        now = time.time()
        due = [each for each in pending if each.retry_at <= now]
        if not due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(each.retry_at for each in pending) - now):
                    await run.woken.wait()
            return
        suspects = sorted((each for each in due if each.is_suspect), key=lambda each: each.attempts)
        slots = asyncio.Semaphore(self._limits.documents_in_flight_max)
        tenant = run.job.collection.tenant
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_alone(run, suspects))
                for each in due:
                    if each.is_suspect:
                        continue
                    await slots.acquire()
                    await self._gate.acquire(tenant)
                    task = group.create_task(self._run_item(run, each))
                    # Not inside the task: one that is cancelled before its first step runs nothing of itself.
                    task.add_done_callback(lambda _: slots.release())
                    task.add_done_callback(lambda _: self._gate.release(tenant))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _run_alone(self, run: _Run, suspects: Sequence[Pending]) -> None:
        tenant = run.job.collection.tenant
        for each in suspects:
            async with self._alone:
                await self._gate.acquire(tenant)
                try:
                    await self._run_item(run, each)
                finally:
                    self._gate.release(tenant)

    async def _run_item(self, run: _Run, item: Pending) -> None:
        key = (run.job.accepted, item.ordinal)
        run.progress.touch()
        run.claimed.add(key)
        await self._ingest.run_item(run.job, item.ordinal, run.progress)
        # Kept when it raises: then the attempt was cut short, and is given back.
        run.claimed.discard(key)

    async def _give_back(self, run: _Run) -> None:
        given = list(run.claimed)
        try:
            await self._items.give_back(given)
        except ServiceError:
            log.warning("attempts_not_given_back", job_id=run.job.id, documents=len(given))
        run.claimed.clear()

    async def _keep(self) -> None:
        pause_s = min(self._limits.lease_s / 3, _LOOK_S)
        cleaned = -_CLEAN_S
        while True:
            try:
                await self._keep_leases()
                await self._measure()
                if time.monotonic() - cleaned > _CLEAN_S:
                    await self._jobs.forget_old(self._limits.dead_bytes_max)
                    cleaned = time.monotonic()
            except Exception:  # a worker's loop: what failed is looked at again in a moment
                log.exception("jobs_not_kept")
            await asyncio.sleep(pause_s)

    async def _keep_leases(self) -> None:
        """Renews the leases of jobs that live, and takes up the others anew."""
        if alive := [run.job.accepted for run in self._runs.values() if run.is_alive(self._limits.lease_s)]:
            await self._jobs.renew(alive, self._limits.lease_s)
        # Asked of the runs as they are by now: a job that was taken meanwhile has one, and its lease may be younger than the answer.
        abandoned = await self._jobs.abandoned()
        lost = {job_id for job_id in abandoned if not self._is_alive(job_id)}
        orphans = lost - self._runs.keys()
        for run in [self._runs[job_id] for job_id in lost - orphans]:
            log.warning("job_stuck", job_id=run.job.id, documents=len(run.claimed))
            self._begin(run.job, after=run.task)
        if orphans:
            await self._launch_again(orphans)

    def _is_alive(self, job_id: str) -> bool:
        run = self._runs.get(job_id)
        return run is not None and run.is_alive(self._limits.lease_s)

    async def _measure(self) -> None:
        queue = await self._jobs.queue()
        self._metrics.documents.set(queue.waiting.documents)
        self._metrics.bytes.set(queue.waiting.payload_bytes)
        self._metrics.oldest.set(queue.oldest_s)
        self._metrics.dead.set(queue.dead)
