"""Jobs in SQL: accepted durably, held by whoever works on them under a lease, ended when every item has (items.py).

An accepted job survives a crash as it is: what had ended stays ended, what had not is taken up again. The lease says who
works on a job and until when that holds: a job whose worker has died or got stuck is taken up by the next one.
"""

import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from retrieval.jobs.backpressure import Amount, DrainRate, excess_of
from retrieval.jobs.items import RunningJob
from retrieval.truth.collection_rows import put_collection
from retrieval.truth.records import CollectionRow
from retrieval.truth.reporting import reindex_of_job
from shared.database import Database
from shared.errors import NotFound, Overloaded
from shared.paging import Page, number_of, numbered_page
from shared.retrieval_messages import (
    CollectionSpec,
    DocumentIn,
    IngestResult,
    ItemError,
    Job,
    JobKind,
    JobStatus,
)
from shared.sql_values import inserted_key

_ERRORS_SHOWN_MAX = 100
_JOB = "accepted, id, kind, collection, status, total, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits, and what was given up but is kept."""

    waiting: Amount
    oldest_s: float
    dead: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job without its errors, and where it stands: `changes` grows with each item that ends. `failed` are those that
    failed after an earlier snapshot, each with its place."""

    job: Job
    changes: int
    failed: list[tuple[int, ItemError]]


class Jobs:
    def __init__(
        self, database: Database, *, owner: str, queue_max: Amount, keep_days: float, drain: DrainRate
    ) -> None:
        """`owner` holds the leases that are taken here."""
        self._database = database
        self._owner = owner
        self._queue_max = queue_max
        self._keep = timedelta(days=keep_days)
        self._drain = drain

    async def accept(
        self, tenant: str, collection: str, documents: Sequence[tuple[str, DocumentIn]], *, model: str
    ) -> RunningJob:
        """The new job, once it is durable. Its collection is made if it is missing.

        Raises Overloaded where too much waits already, and then takes and makes nothing.
        """

        def unit(connection: sqlite3.Connection) -> RunningJob:
            payloads = [msgspec.msgpack.encode(document) for _, document in documents]
            self._refuse_excess(connection, Amount(len(payloads), sum(map(len, payloads))))
            row = put_collection(connection, tenant, collection, CollectionSpec(), model)
            job_id, now = uuid.uuid4().hex, _now()
            cursor = connection.execute(
                "INSERT INTO jobs (id, tenant, collection_id, collection, kind, status, total, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, 'ingest', 'queued', ?, ?, ?)",
                (job_id, row.tenant, row.id, row.name, len(documents), now, now),
            )
            accepted = inserted_key(cursor)
            connection.executemany(
                "INSERT INTO job_items (job, ordinal, document_id, payload, payload_bytes, status) "
                "VALUES (?, ?, ?, ?, ?, 'pending')",
                [
                    (accepted, ordinal, document_id, payload, len(payload))
                    for ordinal, ((document_id, _), payload) in enumerate(zip(documents, payloads, strict=True))
                ],
            )
            return RunningJob(id=job_id, accepted=accepted, collection=row)

        return await self._database.write(unit)

    def _refuse_excess(self, connection: sqlite3.Connection, arriving: Amount) -> None:
        waiting = _waiting(connection)
        excess = excess_of(waiting, arriving, self._queue_max)
        if excess is not None:
            raise Overloaded(
                f"{waiting.documents} documents of {waiting.payload_bytes} bytes wait to be ingested "
                f"(ingest_queue_documents_max is {self._queue_max.documents}, "
                f"ingest_queue_bytes_max is {self._queue_max.payload_bytes}); try again later",
                retry_after_s=self._drain.retry_after_s(excess, now=time.monotonic()),
            )

    async def unfinished(self, rows: Sequence[CollectionRow]) -> list[RunningJob]:
        """Those that write to `rows`, in the order of acceptance."""
        by_id = {row.id: row for row in rows}

        def unit(connection: sqlite3.Connection) -> list[RunningJob]:
            found = connection.execute(
                "SELECT id, accepted, collection_id, kind FROM jobs WHERE status IN ('queued', 'running') ORDER BY accepted"
            )
            return [
                RunningJob(id=row[0], accepted=row[1], collection=by_id[row[2]], kind=row[3])
                for row in found
                if row[2] in by_id
            ]

        return await self._database.read(unit)

    async def take(self, job: RunningJob, lease_s: float) -> None:
        """Makes an unfinished job `running`, and ours."""
        await self._database.write(
            lambda connection: connection.execute(
                "UPDATE jobs SET status = 'running', updated_at = ?, lease_owner = ?, lease_expires = ? "
                "WHERE accepted = ? AND status IN ('queued', 'running')",
                (_now(), self._owner, time.time() + lease_s, job.accepted),
            )
        )

    async def renew(self, accepted: Sequence[int], lease_s: float) -> None:
        expires = time.time() + lease_s
        await self._database.write(
            lambda connection: connection.executemany(
                "UPDATE jobs SET lease_expires = ? WHERE accepted = ? AND lease_owner = ?",
                [(expires, each, self._owner) for each in accepted],
            )
        )

    async def abandoned(self) -> list[str]:
        """Unfinished jobs that nobody holds a lease on: never taken, or not worked on for as long as it holds."""
        return await self._database.read(
            lambda connection: [
                row[0]
                for row in connection.execute(
                    "SELECT id FROM jobs WHERE status IN ('queued', 'running') AND lease_expires < ? ORDER BY accepted",
                    (time.time(),),
                )
            ]
        )

    async def finish(self, job: RunningJob) -> bool:
        """Ends a running job of ours: `failed` when nothing of it succeeded, else `succeeded` with a count of what failed.
        False where it cannot end, because items are still pending."""

        def unit(connection: sqlite3.Connection) -> bool:
            pending = connection.execute(
                "SELECT 1 FROM job_items i JOIN jobs j ON j.accepted = i.job WHERE i.job = ? AND i.status = 'pending' "
                "AND j.status = 'running' AND j.lease_owner = ? LIMIT 1",
                (job.accepted, self._owner),
            ).fetchone()
            if pending is not None:
                return False
            connection.execute(
                "UPDATE jobs SET updated_at = ?, lease_owner = NULL, "
                "status = CASE WHEN total = (SELECT count(*) FROM job_items "
                "WHERE job = jobs.accepted AND status = 'failed') THEN 'failed' ELSE 'succeeded' END "
                "WHERE accepted = ? AND status = 'running' AND lease_owner = ?",
                (_now(), job.accepted, self._owner),
            )
            return True

        return await self._database.write(unit)

    async def retry(self, tenant: str, job_id: str) -> Job:
        """Queues the failed items again whose payload is kept, with new attempts. A job that was cancelled, or has none,
        is left as it is. Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> Job:
            job = _job(connection, tenant, job_id)
            if job.status == "cancelled" or not job.dead:
                return job
            connection.execute(
                "UPDATE job_items SET status = 'pending', attempts = 0, retry_at = 0, ended = NULL, error = NULL "
                "WHERE job = (SELECT accepted FROM jobs WHERE id = ?) AND status = 'failed' AND payload IS NOT NULL",
                (job_id,),
            )
            connection.execute(
                "UPDATE jobs SET changes = changes + 1, updated_at = ?, "
                "status = CASE WHEN status = 'running' THEN status ELSE 'queued' END WHERE id = ?",
                (_now(), job_id),
            )
            return _job(connection, tenant, job_id)

        return await self._database.write(unit)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """What has been stored stays. A job that has ended is left as it is. Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> Job:
            is_ended_here = connection.execute(
                "UPDATE jobs SET status = 'cancelled', updated_at = ? "
                "WHERE tenant = ? AND id = ? AND status IN ('queued', 'running')",
                (_now(), tenant, job_id),
            ).rowcount
            job = _job(connection, tenant, job_id)
            if job.status == "cancelled":
                connection.execute(
                    "UPDATE job_items SET payload = NULL, "
                    "status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END "
                    "WHERE payload IS NOT NULL AND job = (SELECT accepted FROM jobs WHERE id = ?)",
                    (job_id,),
                )
                connection.execute(
                    "DELETE FROM embedded WHERE job = (SELECT accepted FROM jobs WHERE id = ?)", (job_id,)
                )
            if is_ended_here:
                connection.execute(
                    "UPDATE collections SET beside_status = 'cancelled' WHERE beside_status IN ('building', 'filled') "
                    "AND (id, beside_model) = (SELECT r.collection_id, r.model FROM reindexes r "
                    "JOIN jobs j ON j.accepted = r.job WHERE j.id = ?)",
                    (job_id,),
                )
            return _job(connection, tenant, job_id)

        return await self._database.write(unit)

    async def job(self, tenant: str, job_id: str) -> Job:
        """Raises NotFound."""
        return await self._database.read(lambda connection: _job(connection, tenant, job_id))

    async def results(self, tenant: str, job_id: str) -> list[IngestResult]:
        def unit(connection: sqlite3.Connection) -> list[IngestResult]:
            rows = connection.execute(
                "SELECT i.document_id, i.status, i.chunks, i.error FROM job_items i JOIN jobs j ON j.accepted = i.job "
                "WHERE j.tenant = ? AND j.id = ? AND i.status IN ('created', 'replaced', 'unchanged', 'failed') "
                "ORDER BY i.ordinal",
                (tenant, job_id),
            )
            return [IngestResult(id=row[0], status=row[1], chunks=row[2], error=row[3]) for row in rows]

        return await self._database.read(unit)

    async def page(self, tenant: str, *, status: JobStatus | None, cursor: str | None, limit: int) -> Page[Job]:
        """Newest first. Raises InvalidFields for a cursor that no page gave."""
        before = number_of(cursor) if cursor is not None else 2**62

        def unit(connection: sqlite3.Connection) -> Page[Job]:
            rows = connection.execute(
                f"SELECT {_JOB} FROM jobs WHERE tenant = ? AND accepted < ? AND (? IS NULL OR status = ?) "
                "ORDER BY accepted DESC LIMIT ?",
                (tenant, before, status, status, limit + 1),
            ).fetchall()
            return numbered_page([(row[0], _describe(connection, row)) for row in rows], limit)

        return await self._database.read(unit)

    async def snapshot(self, tenant: str, job_id: str, *, after: int) -> Snapshot:
        """`after` is the `changes` of an earlier one, or 0. Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> Snapshot:
            job = _job(connection, tenant, job_id)
            accepted, changes = connection.execute(
                "SELECT accepted, changes FROM jobs WHERE id = ?", (job_id,)
            ).fetchone()
            rows = connection.execute(
                f"SELECT {_ERROR}, ended FROM job_items WHERE job = ? AND status = 'failed' AND ended > ? ORDER BY ended",
                (accepted, after),
            )
            return Snapshot(job, changes, [(row[-1], _error(row)) for row in rows])

        return await self._database.read(unit)

    async def queue(self) -> Queue:
        def unit(connection: sqlite3.Connection) -> Queue:
            oldest = connection.execute(
                "SELECT min(created_at) FROM jobs WHERE status IN ('queued', 'running')"
            ).fetchone()[0]
            (dead,) = connection.execute(
                "SELECT count(*) FROM job_items WHERE status = 'failed' AND payload IS NOT NULL"
            ).fetchone()
            age = (datetime.now(UTC) - datetime.fromisoformat(oldest)).total_seconds() if oldest else 0.0
            return Queue(_waiting(connection), age, dead)

        return await self._database.read(unit)

    async def forget_old(self, dead_bytes_max: int) -> None:
        """Ended jobs after `keep_days`, and before that the payloads of the oldest failures beyond `dead_bytes_max`."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled') AND updated_at < ?",
                ((datetime.now(UTC) - self._keep).isoformat(),),
            )
            connection.execute(
                "UPDATE job_items SET payload = NULL WHERE status = 'failed' AND payload IS NOT NULL AND job <= "
                "(SELECT max(job) FROM (SELECT job, sum(sum(payload_bytes)) OVER (ORDER BY job DESC) AS newer "
                "FROM job_items WHERE status = 'failed' AND payload IS NOT NULL GROUP BY job) WHERE newer > ?)",
                (dead_bytes_max,),
            )

        await self._database.write(unit)


_ERROR = "document_id, error, attempts, payload IS NOT NULL"


def _error(row: tuple[str, str, int, int]) -> ItemError:
    return ItemError(id=row[0], message=row[1], attempts=row[2], is_kept=bool(row[3]))


def _waiting(connection: sqlite3.Connection) -> Amount:
    row = connection.execute(
        "SELECT count(*), coalesce(sum(payload_bytes), 0) FROM job_items WHERE status = 'pending'"
    ).fetchone()
    return Amount(*row)


def _job(connection: sqlite3.Connection, tenant: str, job_id: str) -> Job:
    found = connection.execute(f"SELECT {_JOB} FROM jobs WHERE tenant = ? AND id = ?", (tenant, job_id)).fetchone()
    if found is None:
        raise NotFound(f"there is no job {job_id!r}")
    return _describe(connection, found)


def _describe(connection: sqlite3.Connection, row: tuple[int, str, JobKind, str, JobStatus, int, str, str]) -> Job:
    rows = connection.execute(
        "SELECT status, count(*), sum(chunks) FROM job_items WHERE job = ? GROUP BY status", (row[0],)
    ).fetchall()
    counts = {status: count for status, count, _ in rows}
    (dead,) = connection.execute(
        "SELECT count(*) FROM job_items WHERE job = ? AND status = 'failed' AND payload IS NOT NULL", (row[0],)
    ).fetchone()
    ended = {status: counts.get(status, 0) for status in ("created", "replaced", "unchanged", "failed")}
    errors = connection.execute(
        f"SELECT {_ERROR} FROM job_items WHERE job = ? AND status = 'failed' ORDER BY ordinal LIMIT ?",
        (row[0], _ERRORS_SHOWN_MAX),
    )
    reindex, chunks = (
        reindex_of_job(connection, row[0]) if row[2] == "reindex" else (None, sum(each[2] for each in rows))
    )
    return Job(
        id=row[1],
        kind=row[2],
        collection=row[3],
        status=row[4],
        total=row[5],
        done=sum(ended.values()) if reindex is None else chunks,
        **ended,
        dead=dead,
        chunks=chunks,
        reindex=reindex,
        errors=[_error(error) for error in errors],
        created_at=datetime.fromisoformat(row[6]),
        updated_at=datetime.fromisoformat(row[7]),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
