"""Another model for a collection, in SQL: taken up, filled chunk by chunk, ready, flipped, let go.

One model serves and at most one stands beside it. From the moment it stands there, documents are stored with vectors of both
(truth/store.py), so what is left to do is only the chunks that were there before: those without a vector of it, in the order of
their ids. Once none is left, no chunk is stored without one any more, and the two can change places at any time, back too.
"""

import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from retrieval.jobs.items import RunningJob
from retrieval.truth.collection_rows import current_row
from retrieval.truth.records import CollectionRow
from shared.database import Database
from shared.errors import Conflict
from shared.sql_values import inserted_key

# One unit of deleting holds the writer for a few milliseconds.
_DELETED_PER_UNIT: Final = 2000


@dataclass(frozen=True, slots=True)
class Gap:
    """A chunk without a vector, and what the model reads of it."""

    chunk_id: int
    embed_hash: bytes
    title: str
    headings: tuple[str, ...]
    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Gaps:
    """`through`: no chunk up to this one is missing any more, once `chunks` have their vectors."""

    chunks: list[Gap]
    through: int


class Reindexes:
    def __init__(self, database: Database, *, owner: str) -> None:
        """`owner` holds the leases of the jobs that are worked on here."""
        self._database = database
        self._owner = owner

    async def accept(self, row: CollectionRow, model: str, *, flip: bool) -> RunningJob:
        """The job, once it is durable: a new one, or the one that does this already. Raises Conflict, NotFound."""

        def unit(connection: sqlite3.Connection) -> RunningJob:
            now = current_row(connection, row)
            _refuse(now, model)
            found = _unfinished(connection, row.id)
            if found:
                connection.execute("UPDATE reindexes SET flip = ? WHERE job = ?", (flip, found[0][0]))
                return RunningJob(id=found[0][1], accepted=found[0][0], collection=now, kind="reindex")
            if now.beside is None or not now.beside.is_whole:
                connection.execute(
                    "UPDATE collections SET beside_model = ?, beside_status = 'building', beside_overlap = NULL "
                    "WHERE id = ?",
                    (model, row.id),
                )
            # Its old vectors, as far as they are still there, are as good as new ones.
            connection.execute("DELETE FROM discarded WHERE collection_id = ? AND model = ?", (row.id, model))
            return _insert_job(connection, current_row(connection, row), model, flip=flip)

        return await self._database.write(unit)

    async def model_of(self, job: RunningJob) -> str:
        return await self._database.read(
            lambda connection: str(
                connection.execute("SELECT model FROM reindexes WHERE job = ?", (job.accepted,)).fetchone()[0]
            )
        )

    async def standing(self, job: RunningJob) -> CollectionRow | None:
        """The collection now. None where the job is no longer ours to work on."""

        def unit(connection: sqlite3.Connection) -> CollectionRow | None:
            return current_row(connection, job.collection) if self._is_held(connection, job) else None

        return await self._database.read(unit)

    async def count(self, job: RunningJob, model: str) -> None:
        """How much there is to do, and how much of it is done."""

        def unit(connection: sqlite3.Connection) -> tuple[int, int]:
            counted: tuple[int, int] = connection.execute(
                "SELECT count(*), count(v.chunk_id) FROM chunks c "
                "LEFT JOIN vectors v ON v.chunk_id = c.id AND v.model = ? WHERE c.collection_id = ?",
                (model, job.collection.id),
            ).fetchone()
            return counted

        total, done = await self._database.read(unit)
        await self._database.write(lambda connection: _progressed(connection, job, done=done, total=total))

    async def gaps(self, collection_id: int, model: str, *, after: int, limit: int) -> Gaps:
        def unit(connection: sqlite3.Connection) -> Gaps:
            rows = connection.execute(
                "SELECT c.id, c.embed_hash, d.title, c.headings, c.context, c.text FROM chunks c "
                "JOIN documents d ON d.id = c.document WHERE c.collection_id = ? AND c.id > ? "
                "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.chunk_id = c.id AND v.model = ?) ORDER BY c.id LIMIT ?",
                (collection_id, after, model, limit),
            ).fetchall()
            chunks = [Gap(row[0], row[1], row[2], tuple(msgspec.json.decode(row[3])), *row[4:]) for row in rows]
            if len(chunks) == limit:
                return Gaps(chunks, chunks[-1].chunk_id)
            last: int = connection.execute(
                "SELECT coalesce(max(id), 0) FROM chunks WHERE collection_id = ?", (collection_id,)
            ).fetchone()[0]
            return Gaps(chunks, max(after, last))

        return await self._database.read(unit)

    async def fill(self, job: RunningJob, model: str, vectors: Mapping[int, bytes]) -> bool:
        """Stores vectors by chunk; a chunk that is gone meanwhile is left out. False where the job is no longer ours."""

        def unit(connection: sqlite3.Connection) -> bool:
            if not self._is_held(connection, job):
                return False
            filled = connection.executemany(
                "INSERT OR IGNORE INTO vectors (chunk_id, model, vector) SELECT id, ?, ? FROM chunks WHERE id = ?",
                [(model, vector, chunk_id) for chunk_id, vector in vectors.items()],
            ).rowcount
            _progressed(connection, job, done=filled, total=0, is_step=True)
            return True

        return await self._database.write(unit)

    async def close_gaps(self, job: RunningJob, model: str, *, after: int) -> bool:
        """Whether every chunk has a vector now; from then on none is stored without. Up to chunk `after` it is known."""

        def unit(connection: sqlite3.Connection) -> bool:
            if not self._is_held(connection, job):
                return False
            gap = connection.execute(
                "SELECT 1 FROM chunks c WHERE c.collection_id = ? AND c.id > ? "
                "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.chunk_id = c.id AND v.model = ?) LIMIT 1",
                (job.collection.id, after, model),
            ).fetchone()
            if gap is None:
                connection.execute(
                    "UPDATE collections SET beside_status = 'filled' WHERE id = ? AND beside_status = 'building'",
                    (job.collection.id,),
                )
            return gap is None

        return await self._database.write(unit)

    async def sample(self, collection_id: int, size: int) -> dict[int, str]:
        """Texts of chunks, evenly taken from all, by id."""

        def unit(connection: sqlite3.Connection) -> dict[int, str]:
            rows = connection.execute(
                "SELECT c.id, c.text FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, count(*) OVER () AS n "
                "FROM chunks WHERE collection_id = ?) some JOIN chunks c ON c.id = some.id "
                "WHERE some.place % max(1, (some.n + ? - 1) / ?) = 0",
                (collection_id, size, size),
            )
            return dict(rows.fetchall())

        return await self._database.read(unit)

    async def finish(self, job: RunningJob, overlap: float | None) -> CollectionRow | None:
        """Ends the job: the model is ready, and serves from now on if that was asked for. The collection then, or None
        where the job is no longer ours."""

        def unit(connection: sqlite3.Connection) -> CollectionRow | None:
            if not self._is_held(connection, job):
                return None
            model, flip = connection.execute(
                "UPDATE reindexes SET overlap = ?, done = (SELECT count(*) FROM chunks WHERE collection_id = ?) "
                "WHERE job = ? RETURNING model, flip",
                (overlap, job.collection.id, job.accepted),
            ).fetchone()
            connection.execute(
                "UPDATE collections SET beside_status = 'ready', beside_overlap = ? WHERE id = ?",
                (overlap, job.collection.id),
            )
            # A call to flip may have come first.
            if flip and current_row(connection, job.collection).model != model:
                _flip(connection, job.collection.id)
            connection.execute(
                "UPDATE jobs SET status = 'succeeded', updated_at = ?, lease_owner = NULL, changes = changes + 1, "
                "total = (SELECT done FROM reindexes WHERE job = accepted) WHERE accepted = ?",
                (_now(), job.accepted),
            )
            return current_row(connection, job.collection)

        return await self._database.write(unit)

    async def fail(self, job: RunningJob, reason: str) -> None:
        """Ends the job; what was embedded is kept for the next one."""

        def unit(connection: sqlite3.Connection) -> None:
            if self._is_held(connection, job):
                connection.execute(
                    "UPDATE collections SET beside_status = 'failed' "
                    "WHERE id = ? AND beside_status IN ('building', 'filled')",
                    (job.collection.id,),
                )
                connection.execute("UPDATE reindexes SET error = ? WHERE job = ?", (reason, job.accepted))
                connection.execute(
                    "UPDATE jobs SET status = 'failed', updated_at = ?, lease_owner = NULL, changes = changes + 1 "
                    "WHERE accepted = ?",
                    (_now(), job.accepted),
                )

        await self._database.write(unit)

    async def flip(self, row: CollectionRow) -> CollectionRow:
        """The models change places. Raises Conflict where none is ready."""

        def unit(connection: sqlite3.Connection) -> CollectionRow:
            beside = current_row(connection, row).beside
            if beside is None:
                raise Conflict(f"no model stands beside that of collection {row.name!r}; reindex it first")
            if beside.status != "ready":
                raise Conflict(f"the model {beside.model!r} is not ready: {beside.status}; reindex goes on with it")
            _flip(connection, row.id)
            return current_row(connection, row)

        return await self._database.write(unit)

    async def discard(self, row: CollectionRow) -> tuple[str | None, list[str]]:
        """Takes the model away that stands beside, and ends its jobs. Its name, and the ids of the jobs."""

        def unit(connection: sqlite3.Connection) -> tuple[str | None, list[str]]:
            now = current_row(connection, row)
            if now.beside is None:
                return None, []
            found = _unfinished(connection, row.id)
            connection.executemany(
                "UPDATE jobs SET status = 'cancelled', updated_at = ?, changes = changes + 1 WHERE accepted = ?",
                [(_now(), accepted) for accepted, _ in found],
            )
            connection.execute(
                "UPDATE collections SET beside_model = NULL, beside_status = NULL, beside_overlap = NULL WHERE id = ?",
                (row.id,),
            )
            connection.execute("INSERT OR IGNORE INTO discarded VALUES (?, ?)", (row.id, now.beside.model))
            return now.beside.model, [job_id for _, job_id in found]

        return await self._database.write(unit)

    async def delete_discarded(self) -> None:
        """Vectors of models that were let go, a unit at a time, so that other writes are not kept waiting."""
        found = await self._database.read(
            lambda connection: connection.execute("SELECT collection_id, model FROM discarded").fetchall()
        )
        for collection_id, model in found:
            after: int | None = 0
            while after is not None:
                after = await self._delete_some(collection_id, model, after)

    async def _delete_some(self, collection_id: int, model: str, after: int) -> int | None:
        """The last chunk that was looked at, or None when it is done, or the model is wanted again."""

        def unit(connection: sqlite3.Connection) -> int | None:
            key = (collection_id, model)
            if not connection.execute("SELECT 1 FROM discarded WHERE collection_id = ? AND model = ?", key).fetchone():
                return None
            ids = connection.execute(
                "SELECT id FROM chunks WHERE collection_id = ? AND id > ? ORDER BY id LIMIT ?",
                (collection_id, after, _DELETED_PER_UNIT),
            ).fetchall()
            connection.executemany(
                "DELETE FROM vectors WHERE chunk_id = ? AND model = ?", [(chunk_id, model) for (chunk_id,) in ids]
            )
            if ids:
                last: int = ids[-1][0]
                return last
            connection.execute("DELETE FROM discarded WHERE collection_id = ? AND model = ?", key)
            return None

        return await self._database.write(unit)

    def _is_held(self, connection: sqlite3.Connection, job: RunningJob) -> bool:
        found = connection.execute(
            "SELECT 1 FROM jobs j JOIN reindexes r ON r.job = j.accepted JOIN collections n ON n.id = j.collection_id "
            "WHERE j.accepted = ? AND j.status = 'running' AND j.lease_owner = ? AND r.model IN (n.model, n.beside_model)",
            (job.accepted, self._owner),
        ).fetchone()
        return found is not None


def _refuse(row: CollectionRow, model: str) -> None:
    if model == row.model:
        raise Conflict(f"collection {row.name!r} is served by the model {model!r} already")
    if row.beside is not None and row.beside.model != model:
        raise Conflict(
            f"the model {row.beside.model!r} stands beside that of collection {row.name!r}; discard it before another"
        )


def _unfinished(connection: sqlite3.Connection, collection_id: int) -> list[tuple[int, str]]:
    return connection.execute(
        "SELECT accepted, id FROM jobs WHERE collection_id = ? AND kind = 'reindex' AND status IN ('queued', 'running')",
        (collection_id,),
    ).fetchall()


def _insert_job(connection: sqlite3.Connection, row: CollectionRow, model: str, *, flip: bool) -> RunningJob:
    job_id, now = uuid.uuid4().hex, _now()
    (total,) = connection.execute("SELECT count(*) FROM chunks WHERE collection_id = ?", (row.id,)).fetchone()
    cursor = connection.execute(
        "INSERT INTO jobs (id, tenant, collection_id, collection, kind, status, total, created_at, updated_at) "
        "VALUES (?, ?, ?, ?, 'reindex', 'queued', ?, ?, ?)",
        (job_id, row.tenant, row.id, row.name, total, now, now),
    )
    accepted = inserted_key(cursor)
    connection.execute(
        "INSERT INTO reindexes (job, collection_id, model, flip) VALUES (?, ?, ?, ?)", (accepted, row.id, model, flip)
    )
    return RunningJob(id=job_id, accepted=accepted, collection=row, kind="reindex")


def _progressed(
    connection: sqlite3.Connection, job: RunningJob, *, done: int, total: int, is_step: bool = False
) -> None:
    """Sets both numbers, or adds a step to what is done."""
    changed = "done = done + ?" if is_step else "done = ?"
    connection.execute(f"UPDATE reindexes SET {changed} WHERE job = ?", (done, job.accepted))
    connection.execute(
        "UPDATE jobs SET changes = changes + 1, updated_at = ?, "
        "total = max(CASE WHEN ? THEN total ELSE ? END, (SELECT done FROM reindexes WHERE job = accepted)) "
        "WHERE accepted = ?",
        (_now(), is_step, total, job.accepted),
    )


def _flip(connection: sqlite3.Connection, collection_id: int) -> None:
    connection.execute(
        "UPDATE collections SET model = beside_model, beside_model = model WHERE id = ? AND beside_status = 'ready'",
        (collection_id,),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat()
