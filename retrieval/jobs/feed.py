"""What is heard of jobs while they run. However many listen to a job, its state is read once per change, and not more
than a few times a second; a job that nobody listens to costs nothing.

Events are states, not a log: a listener that was away hears where the job is now, and every failure since the event that
it saw last. An event's id is the job's count of items that had ended (`jobs.changes`), so any process can resume it.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Final

import msgspec
import structlog

from retrieval.jobs.jobs import Jobs, Snapshot
from shared.errors import ServiceError, Unavailable
from shared.retrieval_messages import TERMINAL, ItemError, JobEvent
from shared.routes import Event

log = structlog.get_logger()

# As lively as a person can follow; a job ends a thousand small documents in that time.
_PAUSE_S: Final = 0.2
# Should a change ever go unannounced, listeners learn of it so late.
_LOOK_AGAIN_S: Final = 5.0


class Progress:
    """Of a job that runs here, in memory. `touched` is the last sign of life, on the monotonic clock."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.touched = time.monotonic()
        self.chunks_in_work = 0
        self.chunks_embedded = 0
        self._on_change = on_change

    def touch(self) -> None:
        self.touched = time.monotonic()
        self._on_change()

    def embedded(self, in_work: int, finished: int) -> None:
        """Differences."""
        self.chunks_in_work += in_work
        self.chunks_embedded += finished
        self.touch()


class _Channel:
    """One job that is listened to."""

    def __init__(self) -> None:
        self.listeners = 0
        self.changed = asyncio.Event()
        self.published = asyncio.Condition()
        self.latest: JobEvent | None = None
        self.version = 0
        self.is_over = False
        self.reporter: asyncio.Task[None] | None = None
        # How far the job's changes were read, and every failure up to there with its place, in order.
        self.changes = 0
        self.failed: list[tuple[int, ItemError]] = []

    async def until_past(self, version: int) -> None:
        """Or until nothing more will come."""
        async with self.published:
            await self.published.wait_for(lambda: self.version > version or self.is_over)


class JobFeed:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._channels: dict[str, _Channel] = {}
        self._progress: dict[str, Progress] = {}

    def progress(self, job_id: str) -> Progress:
        """A new one, for as long as the job runs."""
        self._progress[job_id] = Progress(lambda: self.changed(job_id))
        return self._progress[job_id]

    def ended(self, job_id: str) -> None:
        self._progress.pop(job_id, None)
        self.changed(job_id)

    def changed(self, job_id: str) -> None:
        channel = self._channels.get(job_id)
        if channel is not None:
            channel.changed.set()

    async def events(self, tenant: str, job_id: str, *, after: int) -> AsyncIterator[Event]:
        """Until the job ends. `after` is the id of the last event that was seen, or 0. The job is the tenant's own.

        Raises Unavailable where it cannot be followed any longer.
        """
        with self._listening(tenant, job_id) as channel:
            version = 0
            while True:
                await channel.until_past(version)
                event, changes = channel.latest, channel.changes
                if event is None or channel.version == version:
                    raise Unavailable("the job cannot be followed any longer; ask for it again", retry_after_s=1.0)
                version = channel.version
                # A copy: the list grows while this listener's socket is slow.
                for place, item in channel.failed[bisect_right(channel.failed, after, key=itemgetter(0)) :]:
                    yield Event("item_failed", JobEvent(kind="item_failed", item=item), str(place))
                after = max(after, changes)
                yield Event(event.kind, event, str(changes))
                if event.kind == "done":
                    return

    @contextmanager
    def _listening(self, tenant: str, job_id: str) -> Iterator[_Channel]:
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = _Channel()
            channel.reporter = asyncio.create_task(self._report(channel, tenant, job_id), name=f"report-{job_id}")
        channel.listeners += 1
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if not channel.listeners and channel.reporter is not None:
                channel.reporter.cancel()

    async def _report(self, channel: _Channel, tenant: str, job_id: str) -> None:
        """Reads and publishes until the job ends, or nobody listens any more."""
        try:
            while True:
                channel.changed.clear()
                snapshot = await self._jobs.snapshot(tenant, job_id, after=channel.changes)
                await self._publish(channel, job_id, snapshot)
                if channel.is_over:
                    return
                await asyncio.sleep(_PAUSE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_S):
                        await channel.changed.wait()
        except ServiceError as error:
            log.warning("job_not_followed", job_id=job_id, error=str(error))
        finally:
            # Whoever comes now starts anew: the job may have been queued again.
            if self._channels.get(job_id) is channel:
                del self._channels[job_id]
            channel.is_over = True
            async with channel.published:
                channel.published.notify_all()

    async def _publish(self, channel: _Channel, job_id: str, snapshot: Snapshot) -> None:
        is_over = snapshot.job.status in TERMINAL
        progress = self._progress.get(job_id)
        event = JobEvent(
            kind="done" if is_over else "progress",
            # The failures come one by one; repeated with every step they would be most of the stream.
            job=snapshot.job if is_over else msgspec.structs.replace(snapshot.job, errors=[]),
            chunks_in_work=progress.chunks_in_work if progress else 0,
            chunks_embedded=progress.chunks_embedded if progress else 0,
        )
        channel.failed += snapshot.failed
        channel.changes = snapshot.changes
        async with channel.published:
            if event != channel.latest:
                channel.latest = event
                channel.version += 1
                channel.is_over = is_over
                channel.published.notify_all()
