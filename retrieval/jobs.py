"""Jobs in SQL: accepted durably, ended item by item, each item's end in the transaction that stores its document.

An accepted job survives a crash as it is: what had ended stays ended, what had not is taken up again.
"""

import sqlite3
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from retrieval.records import CollectionRow, Item, Outcome
from retrieval.store import put_collection
from shared.database import Database
from shared.errors import NotFound, Overloaded
from shared.paging import Page, number_of, page_of
from shared.retrieval_messages import CollectionSpec, DocumentIn, IngestResult, ItemError, Job, JobStatus

_ERRORS_SHOWN_MAX = 100
_JOB = "accepted, id, kind, collection, status, total, created_at, updated_at"

Commit = Callable[[sqlite3.Connection], Outcome]


class Jobs:
    def __init__(self, database: Database, *, queue_documents_max: int, keep_days: float) -> None:
        self._database = database
        self._queue_documents_max = queue_documents_max
        self._keep = timedelta(days=keep_days)

    async def accept(
        self, tenant: str, collection: str, documents: Sequence[tuple[str, DocumentIn]], *, model: str
    ) -> tuple[str, CollectionRow]:
        """The new job's id, once it is durable, and its collection, which is made if it is missing.

        Raises Overloaded where too much waits already, and then takes and makes nothing.
        """

        def unit(connection: sqlite3.Connection) -> tuple[str, CollectionRow]:
            waiting = connection.execute("SELECT count(*) FROM job_items WHERE status = 'pending'").fetchone()[0]
            if waiting + len(documents) > max(self._queue_documents_max, len(documents)):
                raise Overloaded(
                    f"{waiting} documents wait to be ingested (ingest_queue_documents_max is "
                    f"{self._queue_documents_max}); try again later",
                    retry_after_s=5.0,
                )
            row = put_collection(connection, tenant, collection, CollectionSpec(), model)
            now = datetime.now(UTC)
            _forget_ended(connection, before=now - self._keep)
            job_id = uuid.uuid4().hex
            accepted = connection.execute(
                "INSERT INTO jobs (id, tenant, collection_id, collection, kind, status, total, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, 'ingest', 'queued', ?, ?, ?)",
                (job_id, row.tenant, row.id, row.name, len(documents), now.isoformat(), now.isoformat()),
            ).lastrowid
            connection.executemany(
                "INSERT INTO job_items (job, ordinal, document_id, payload, status) VALUES (?, ?, ?, ?, 'pending')",
                [
                    (accepted, ordinal, document_id, msgspec.msgpack.encode(document))
                    for ordinal, (document_id, document) in enumerate(documents)
                ],
            )
            return job_id, row

        return await self._database.write(unit)

    async def unfinished(self) -> list[str]:
        """Ids in the order of acceptance."""
        return await self._database.read(
            lambda connection: [
                row[0]
                for row in connection.execute(
                    "SELECT id FROM jobs WHERE status IN ('queued', 'running') ORDER BY accepted"
                )
            ]
        )

    async def pending_items(self, job_id: str, row: CollectionRow) -> list[tuple[int, int]]:
        """(accepted, ordinal) of what is still to do. Starting to look makes the job `running`."""

        def unit(connection: sqlite3.Connection) -> list[tuple[int, int]]:
            connection.execute(
                "UPDATE jobs SET status = 'running', updated_at = ? WHERE id = ? AND status = 'queued'",
                (_now(), job_id),
            )
            return connection.execute(
                "SELECT i.job, i.ordinal FROM job_items i JOIN jobs j ON j.accepted = i.job WHERE j.id = ? "
                "AND j.collection_id = ? AND j.status = 'running' AND i.status = 'pending' ORDER BY i.ordinal",
                (job_id, row.id),
            ).fetchall()

        return await self._database.write(unit)

    async def item(self, key: tuple[int, int], row: CollectionRow) -> Item | None:
        """None where the item has ended meanwhile."""

        def unit(connection: sqlite3.Connection) -> Item | None:
            found = connection.execute(
                "SELECT document_id, payload FROM job_items WHERE job = ? AND ordinal = ? AND status = 'pending'", key
            ).fetchone()
            if found is None or found[1] is None:
                return None
            document = msgspec.msgpack.decode(found[1], type=DocumentIn)
            return Item(accepted=key[0], ordinal=key[1], collection=row, document=document, document_id=found[0])

        return await self._database.read(unit)

    async def end_item(self, item: Item, commit: Commit) -> Outcome | None:
        """Runs `commit` and records its outcome in one transaction. None where the item was voided or its job cancelled."""

        def unit(connection: sqlite3.Connection) -> Outcome | None:
            live = connection.execute(
                "SELECT 1 FROM job_items i JOIN jobs j ON j.accepted = i.job "
                "WHERE i.job = ? AND i.ordinal = ? AND i.status = 'pending' AND j.status = 'running'",
                (item.accepted, item.ordinal),
            ).fetchone()
            if live is None:
                return None
            outcome = commit(connection)
            connection.execute(
                "UPDATE job_items SET status = ?, chunks = ?, error = ?, payload = NULL WHERE job = ? AND ordinal = ?",
                (outcome.status, outcome.chunks, outcome.error, item.accepted, item.ordinal),
            )
            return outcome

        return await self._database.write(unit)

    async def finish(self, job_id: str) -> None:
        """Ends a running job: `failed` when nothing of it succeeded, else `succeeded` with a count of what failed."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute(
                "UPDATE jobs SET updated_at = ?, status = CASE WHEN total = (SELECT count(*) FROM job_items "
                "WHERE job = jobs.accepted AND status = 'failed') THEN 'failed' ELSE 'succeeded' END "
                "WHERE id = ? AND status = 'running'",
                (_now(), job_id),
            )

        await self._database.write(unit)

    async def cancel(self, tenant: str, job_id: str) -> Job:
        """What has been stored stays. A job that has ended is left as it is. Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> Job:
            connection.execute(
                "UPDATE jobs SET status = 'cancelled', updated_at = ? "
                "WHERE tenant = ? AND id = ? AND status IN ('queued', 'running')",
                (_now(), tenant, job_id),
            )
            job = _job(connection, tenant, job_id)
            if job.status == "cancelled":
                connection.execute(
                    "UPDATE job_items SET payload = NULL, status = 'cancelled' WHERE status = 'pending' "
                    "AND job = (SELECT accepted FROM jobs WHERE id = ?)",
                    (job_id,),
                )
            return job

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
            order = {row[1]: str(row[0]) for row in rows}
            return page_of([_describe(connection, row) for row in rows], limit, key=lambda job: order[job.id])

        return await self._database.read(unit)

    async def collection_of(self, job_id: str) -> int | None:
        """The id of the collection that an unfinished job writes to."""

        def unit(connection: sqlite3.Connection) -> int | None:
            found = connection.execute("SELECT collection_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return found[0] if found else None

        return await self._database.read(unit)


def _job(connection: sqlite3.Connection, tenant: str, job_id: str) -> Job:
    found = connection.execute(f"SELECT {_JOB} FROM jobs WHERE tenant = ? AND id = ?", (tenant, job_id)).fetchone()
    if found is None:
        raise NotFound(f"there is no job {job_id!r}")
    return _describe(connection, found)


def _describe(connection: sqlite3.Connection, row: tuple[int, str, str, str, JobStatus, int, str, str]) -> Job:
    counts: dict[str, int] = dict(
        connection.execute("SELECT status, count(*) FROM job_items WHERE job = ? GROUP BY status", (row[0],)).fetchall()
    )
    ended = {status: counts.get(status, 0) for status in ("created", "replaced", "unchanged", "failed")}
    errors = connection.execute(
        "SELECT document_id, error FROM job_items WHERE job = ? AND status = 'failed' ORDER BY ordinal LIMIT ?",
        (row[0], _ERRORS_SHOWN_MAX),
    )
    return Job(
        id=row[1],
        kind="ingest",
        collection=row[3],
        status=row[4],
        total=row[5],
        done=sum(ended.values()),
        **ended,
        errors=[ItemError(id=error[0], message=error[1]) for error in errors],
        created_at=datetime.fromisoformat(row[6]),
        updated_at=datetime.fromisoformat(row[7]),
    )


def _forget_ended(connection: sqlite3.Connection, *, before: datetime) -> None:
    connection.execute(
        "DELETE FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled') AND updated_at < ?",
        (before.isoformat(),),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
