"""The documents of a job in SQL: taken up, ended, put off, given up.

An attempt is counted before its work starts, so that a document which takes the process with it is given up after a few
crashes instead of crashing it for ever. An item that ends does so in the transaction that stores its document. One that
fails keeps its payload, so that it can be tried again.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from retrieval.jobs.backpressure import Amount, DrainRate
from retrieval.truth.records import CollectionRow, Item, Outcome
from shared.database import Database
from shared.retrieval_messages import DocumentIn, JobKind

Commit = Callable[[sqlite3.Connection], Outcome]

_HASH_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job under this process's lease."""

    id: str
    accepted: int
    collection: CollectionRow
    kind: JobKind = "ingest"


@dataclass(frozen=True, slots=True)
class Pending:
    """`is_suspect`: attempts failed, or nothing more was heard of them. It may be what ended the process, so it is better
    tried without company."""

    ordinal: int
    attempts: int
    retry_at: float
    is_suspect: bool


class JobItems:
    def __init__(self, database: Database, *, owner: str, attempts_max: int, drain: DrainRate) -> None:
        """`owner` holds the leases of the jobs that are worked on here."""
        self._database = database
        self._owner = owner
        self._attempts_max = attempts_max
        # One crash is nobody's fault, and work goes on at full speed after it. But the innocent need an attempt alone.
        self._suspected_after = max(1, min(2, attempts_max - 1))
        self._drain = drain

    async def pending(self, job: RunningJob) -> list[Pending]:
        """What is left to do, in order. Empty where the job is no longer ours to work on."""

        def unit(connection: sqlite3.Connection) -> list[Pending]:
            rows = connection.execute(
                "SELECT i.ordinal, i.attempts, i.retry_at FROM job_items i JOIN jobs j ON j.accepted = i.job "
                "WHERE i.job = ? AND i.status = 'pending' AND j.status = 'running' AND j.lease_owner = ? "
                "ORDER BY i.ordinal",
                (job.accepted, self._owner),
            )
            return [
                Pending(ordinal, attempts, retry_at, is_suspect=attempts >= self._suspected_after)
                for ordinal, attempts, retry_at in rows
            ]

        return await self._database.read(unit)

    async def claim(self, job: RunningJob, ordinal: int) -> Item | None:
        """Counts an attempt, durably, and returns the item. None where it has ended meanwhile, or is given up here and
        now because its attempts are used up."""

        def unit(connection: sqlite3.Connection) -> Item | None:
            found = connection.execute(
                "UPDATE job_items SET attempts = attempts + 1, retry_at = 0 WHERE job = ? AND ordinal = ? "
                "AND status = 'pending' AND payload IS NOT NULL AND EXISTS "
                "(SELECT 1 FROM jobs WHERE accepted = ? AND status = 'running' AND lease_owner = ?) "
                "RETURNING document_id, payload, attempts",
                (job.accepted, ordinal, job.accepted, self._owner),
            ).fetchone()
            if found is None:
                return None
            if found[2] > self._attempts_max:
                connection.execute(
                    "UPDATE job_items SET attempts = attempts - 1 WHERE job = ? AND ordinal = ?",
                    (job.accepted, ordinal),
                )
                reason = f"given up: {self._attempts_max} attempts ended with the process, or made no progress"
                self._end(connection, job.accepted, ordinal, Outcome("failed", error=reason))
                return None
            return Item(
                accepted=job.accepted,
                ordinal=ordinal,
                collection=job.collection,
                document=msgspec.msgpack.decode(found[1], type=DocumentIn),
                document_id=found[0],
                attempt=found[2],
            )

        return await self._database.write(unit)

    async def end(self, item: Item, commit: Commit) -> Outcome | None:
        """Runs `commit` and records its outcome in one transaction. None where the item was voided, its job cancelled, or
        the item taken up anew by another attempt."""

        def unit(connection: sqlite3.Connection) -> Outcome | None:
            if not _is_held(connection, item):
                return None
            outcome = commit(connection)
            self._end(connection, item.accepted, item.ordinal, outcome)
            return outcome

        return await self._database.write(unit)

    async def fail(self, item: Item, reason: str) -> Outcome | None:
        """Ends the item for good, its payload kept."""
        return await self.end(item, lambda _: Outcome("failed", error=reason))

    async def put_off(self, item: Item, reason: str, delay_s: float) -> Outcome | None:
        """After a failure that may pass: to be tried again, or given up when its attempts are used up. The outcome if the
        item has ended with it."""
        if item.attempt >= self._attempts_max:
            return await self.fail(item, f"{reason} (given up after attempt {item.attempt})")

        def unit(connection: sqlite3.Connection) -> None:
            if _is_held(connection, item):
                connection.execute(
                    "UPDATE job_items SET retry_at = ?, error = ? WHERE job = ? AND ordinal = ?",
                    (time.time() + delay_s, reason, item.accepted, item.ordinal),
                )

        await self._database.write(unit)
        return None

    async def give_back(self, keys: Iterable[tuple[int, int]]) -> None:
        """Attempts that an orderly stop ended do not count. Keys are (job, ordinal)."""
        given = list(keys)
        await self._database.write(
            lambda connection: connection.executemany(
                "UPDATE job_items SET attempts = attempts - 1 "
                "WHERE job = ? AND ordinal = ? AND status = 'pending' AND attempts > 0 AND retry_at = 0",
                given,
            )
        )

    async def save_vectors(self, item: Item, model: str, vectors: dict[bytes, bytes]) -> None:
        """Makes vectors of an unfinished document durable, by hash of their text: a restart will not embed them again."""
        hashes, joined = b"".join(vectors), b"".join(vectors.values())

        def unit(connection: sqlite3.Connection) -> None:
            if _is_held(connection, item):
                connection.execute(
                    "INSERT INTO embedded (job, ordinal, model, hashes, vectors) VALUES (?, ?, ?, ?, ?)",
                    (item.accepted, item.ordinal, model, hashes, joined),
                )

        await self._database.write(unit)

    async def saved_vectors(self, item: Item, model: str) -> dict[bytes, bytes]:
        """What an earlier attempt saved, by hash of the text."""

        def unit(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            rows = connection.execute(
                "SELECT hashes, vectors FROM embedded WHERE job = ? AND ordinal = ? AND model = ?",
                (item.accepted, item.ordinal, model),
            )
            for hashes, vectors in rows:
                count = len(hashes) // _HASH_BYTES
                found.update(zip(_cut(hashes, count), _cut(vectors, count), strict=True))
            return found

        return await self._database.read(unit)

    def _end(self, connection: sqlite3.Connection, accepted: int, ordinal: int, outcome: Outcome) -> None:
        changes = connection.execute(
            "UPDATE jobs SET changes = changes + 1, updated_at = ? WHERE accepted = ? RETURNING changes",
            (datetime.now(UTC).isoformat(), accepted),
        ).fetchone()[0]
        (payload_bytes,) = connection.execute(
            "UPDATE job_items SET status = ?, chunks = ?, error = ?, ended = ?, retry_at = 0, "
            "payload = CASE ? WHEN 'failed' THEN payload END WHERE job = ? AND ordinal = ? RETURNING payload_bytes",
            (outcome.status, outcome.chunks, outcome.error, changes, outcome.status, accepted, ordinal),
        ).fetchone()
        connection.execute("DELETE FROM embedded WHERE job = ? AND ordinal = ?", (accepted, ordinal))
        self._drain.note(Amount(1, payload_bytes), now=time.monotonic())


def _is_held(connection: sqlite3.Connection, item: Item) -> bool:
    found = connection.execute(
        "SELECT 1 FROM job_items i JOIN jobs j ON j.accepted = i.job WHERE i.job = ? AND i.ordinal = ? "
        "AND i.status = 'pending' AND i.attempts = ? AND j.status = 'running'",
        (item.accepted, item.ordinal, item.attempt),
    ).fetchone()
    return found is not None


def _cut(joined: bytes, count: int) -> list[bytes]:
    length = len(joined) // count
    return [joined[start : start + length] for start in range(0, len(joined), length)]
