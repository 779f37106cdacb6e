"""An export as it is sent: one snapshot of the truth, read no faster than the caller takes it.

Writers go on meanwhile, and nothing of what they write is in it.
"""

import sqlite3
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from memory.transfer.export_rows import exported
from memory.transfer.transfers import Transfers
from memory.truth.made_vectors import MadeVectors
from shared.database import Database
from shared.memory_records import FORMAT_VERSION, ExportHeader, ExportQuery
from shared.memory_stream import MemoryStreamWriter

# One hop to the thread and one write to the socket for so much.
_PART_BYTES: Final = 64 * 1024


class Exports:
    def __init__(self, database: Database, transfers: Transfers) -> None:
        self._database = database
        self._transfers = transfers

    async def parts(self, tenant: str, query: ExportQuery, media: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a whole export. Raises Overloaded."""
        with self._transfers.slot():
            async with self._database.view() as view:
                parts = await view.read(lambda connection: _parts(connection, tenant, query, media))
                while part := await view.read(lambda _: next(parts, b"")):
                    yield part


def _parts(connection: sqlite3.Connection, tenant: str, query: ExportQuery, media: str) -> Iterator[bytes]:
    writer = MemoryStreamWriter(media)
    part = bytearray()
    for data in _encoded(connection, tenant, query, writer):
        part += data
        if len(part) >= _PART_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part + writer.end())


def _encoded(
    connection: sqlite3.Connection, tenant: str, query: ExportQuery, writer: MemoryStreamWriter
) -> Iterator[bytes]:
    made = MadeVectors.read(connection)
    model = made.model if query.vectors else ""
    header = ExportHeader(
        version=FORMAT_VERSION,
        user_id=query.user_id,
        model=model or None,
        embed_text=made.embed_text if model else None,
    )
    yield writer.write(header)
    for record in exported(connection, tenant, query.user_id, model):
        yield writer.write(record)
