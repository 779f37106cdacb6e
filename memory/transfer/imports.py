"""An import: received whole, checked whole, and only then written.

The body is put into a file without a name as it comes, however long it is, while its records are checked. A stream that was
cut off, changed, or has a record that nobody would accept, changes nothing. Then its sessions and facts are written, some in
each transaction, so that appends of others go on in between: an import that is interrupted here is repeated from the start,
and finds what it had done.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import structlog

from memory.embeddings import Embeddings
from memory.settings import MemorySettings
from memory.transfer.import_checks import ImportChecks
from memory.transfer.import_facts import ImportFacts
from memory.transfer.import_feedback import ImportFeedback
from memory.transfer.import_records import Records, SessionParts, Tally
from memory.transfer.import_sessions import ImportSessions
from memory.transfer.transfers import Transfers
from memory.truth.made_vectors import MadeVectors
from shared.database import Database
from shared.errors import TooLarge
from shared.memory_records import (
    ExportedFact,
    ExportedFeedback,
    ExportedSession,
    ImportReport,
    MemoryRecord,
)
from shared.memory_stream import MemoryStreamReader
from shared.routes import Incoming

log = structlog.get_logger()

# In one transaction, unless one session has more. A commit waits for the disk; a long transaction keeps appends waiting.
_RECORDS_PER_COMMIT: Final = 1000
_READ_BYTES: Final = 256 * 1024
# Any text: how long its vector is says how long all are.
_PROBE: Final = "vector"


class Imports:
    def __init__(
        self, database: Database, settings: MemorySettings, embeddings: Embeddings, transfers: Transfers
    ) -> None:
        self._database = database
        self._settings = settings
        self._embeddings = embeddings
        self._transfers = transfers

    async def run(self, tenant: str, incoming: Incoming) -> ImportReport:
        """Raises Malformed, InvalidFields or TooLarge with nothing written, and Overloaded."""
        with self._transfers.slot():
            spool = await asyncio.to_thread(_open_spool, self._settings.directory)
            try:
                checks = await self._receive(incoming, spool)
                return await self._write(tenant, checks, spool, incoming.media)
            finally:
                await asyncio.to_thread(spool.close)

    async def _receive(self, incoming: Incoming, spool: IO[bytes]) -> ImportChecks:
        checks = ImportChecks(self._settings)
        reader = self._reader(incoming.media)

        def take(part: bytes) -> int:
            for number, record in reader.feed(part):
                checks.take(number, record)
            spool.write(part)
            return spool.tell()

        async for part in incoming.parts:
            size = await asyncio.to_thread(take, part)
            if size > self._settings.import_bytes_max:
                limit = self._settings.import_bytes_max
                raise TooLarge(f"the stream is larger than {limit} bytes (import_bytes_max); export user by user")
        reader.close()
        return checks

    async def _write(self, tenant: str, checks: ImportChecks, spool: IO[bytes], media: str) -> ImportReport:
        tally = Tally()
        model = await self._usable_model(checks)
        sessions = ImportSessions(tenant, model=model, tally=tally)
        facts = ImportFacts(tenant, model=model, tally=tally)
        feedback = ImportFeedback(tenant, per_tenant_max=self._settings.feedback_max, tally=tally)
        records = await asyncio.to_thread(lambda: Records(_spooled(spool, self._reader(media))))
        while records.next is not None:
            await self._database.write(lambda connection: _write_some(connection, records, sessions, facts, feedback))
            self._embeddings.wake()
        log.info("imported", created=dict(tally.created), refused=dict(tally.refused))
        return ImportReport(
            records=checks.records,
            sessions=tally.counts("session"),
            turns=tally.counts("turn"),
            spans=tally.counts("span"),
            facts=tally.counts("fact"),
            feedback=tally.counts("feedback"),
            vectors=tally.vectors,
            conflicts=tally.conflicts,
        )

    async def _usable_model(self, checks: ImportChecks) -> str:
        """What the vectors that came along are of; empty where they are none, or not what would be made here."""
        if not checks.model:
            return ""
        # A service that has no vectors yet learns in this way what they will be of, if retrieval can be asked.
        probe = await self._embeddings.query_vector(_PROBE)
        await self._embeddings.adopt(checks.model)
        here = await self._database.read(MadeVectors.read)
        dimensions = here.dimensions if probe is None else len(probe)
        is_same = (here.model, here.embed_text) == (checks.model, checks.embed_text)
        return checks.model if is_same and dimensions in {None, checks.dimensions} else ""

    def _reader(self, media: str) -> MemoryStreamReader:
        return MemoryStreamReader(media, record_bytes_max=self._settings.import_record_bytes_max)


def _open_spool(directory: Path) -> IO[bytes]:
    """Beside the database, because a machine's folder for temporary files may be small, or its memory."""
    return tempfile.TemporaryFile(dir=directory)


def _spooled(spool: IO[bytes], reader: MemoryStreamReader) -> Iterator[tuple[int, MemoryRecord]]:
    spool.seek(0)
    while part := spool.read(_READ_BYTES):
        yield from reader.feed(part)


def _write_some(
    connection: sqlite3.Connection,
    records: Records,
    sessions: ImportSessions,
    facts: ImportFacts,
    feedback: ImportFeedback,
) -> None:
    first = last = 0
    while records.next is not None and last - first < _RECORDS_PER_COMMIT:
        last, record = records.next
        first = first or last
        records.skip()
        match record:
            case ExportedSession():
                parts = SessionParts(records)
                sessions.put(connection, last, record, parts)
                last += parts.turn_count + parts.span_count
            case ExportedFact():
                facts.put(connection, last, record)
            case ExportedFeedback():
                feedback.put(connection, last, record)
