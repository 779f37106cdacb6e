"""The truth in SQL: collections, documents, chunks and vectors.

Each method is one unit of work, whole and atomic. Every query starts from the tenant or from a collection id that was
found through the tenant, so that nothing crosses between tenants.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from retrieval.truth.collection_rows import (
    COLLECTION_COLUMNS,
    collection_row,
    current_row,
    describe,
    find_collections,
    put_collection,
)
from retrieval.truth.document_writes import delete_documents
from retrieval.truth.filter_sql import documents_statement
from retrieval.truth.filtering import counter
from retrieval.truth.records import CollectionRow
from shared.database import Database
from shared.errors import NotFound
from shared.filters import Filter
from shared.paging import Page, page_of
from shared.retrieval_messages import (
    ChunkInfo,
    Collection,
    CollectionSpec,
    Document,
    DocumentInfo,
)
from shared.sql_values import listed, now_stored

_DOCUMENT = (
    "d.document_id, c.name, d.title, d.uri, d.content_type, d.metadata, d.created_at, d.updated_at, length(d.text), "
    "(SELECT count(*) FROM chunks WHERE document = d.id)"
)

# Well below SQLite's limit of bound values, which older builds set at 999.
_VALUES_PER_QUERY = 500
# A few megabytes of rows.
_COLLECTIONS_KNOWN_MAX = 10_000


class Store:
    def __init__(self, database: Database) -> None:
        self.database = database
        # Every search asks for its collections, which hardly ever change: remembered until anything is written.
        self._known: dict[tuple[str, str], CollectionRow] = {}
        self._known_at = -1

    async def put_collection(self, tenant: str, name: str, spec: CollectionSpec, *, model: str) -> CollectionRow:
        """Makes the collection or changes what `spec` names. Raises Conflict for a change that would need re-ingesting."""
        return await self.database.write(lambda connection: put_collection(connection, tenant, name, spec, model))

    async def collection(self, tenant: str, name: str) -> CollectionRow:
        """Raises NotFound."""
        return (await self.collections(tenant, [name]))[0]

    async def collections(self, tenant: str, names: Sequence[str] | None) -> list[CollectionRow]:
        """The named ones in order, or all of the tenant's. Raises NotFound."""
        commits = self.database.commits
        if self._known_at != commits:
            self._known, self._known_at = {}, commits
        known = self._known
        if names is not None and all((tenant, name) in known for name in names):
            return [known[tenant, name] for name in dict.fromkeys(names)]
        rows = await self.database.read(lambda connection: find_collections(connection, tenant, names))
        if len(known) + len(rows) <= _COLLECTIONS_KNOWN_MAX:
            # If something was written meanwhile, this is no longer what the next search looks at.
            known |= {(row.tenant, row.name): row for row in rows}
        return rows

    async def every_collection(self) -> list[CollectionRow]:
        """Of all tenants: for opening and checking projections, never for a caller."""
        return await self.database.read(
            lambda connection: [
                collection_row(row)
                for row in connection.execute(f"SELECT {COLLECTION_COLUMNS} FROM collections ORDER BY id")
            ]
        )

    async def current(self, row: CollectionRow) -> CollectionRow:
        """The collection as it is now. Raises NotFound where it has been deleted, even if another has its name."""

        def unit(connection: sqlite3.Connection) -> CollectionRow:
            return current_row(connection, row)

        return await self.database.read(unit)

    async def describe(self, row: CollectionRow) -> Collection:
        return await self.database.read(lambda connection: describe(connection, row))

    async def collection_page(self, tenant: str, *, cursor: str | None, limit: int) -> Page[Collection]:
        def unit(connection: sqlite3.Connection) -> Page[Collection]:
            rows = connection.execute(
                f"SELECT {COLLECTION_COLUMNS} FROM collections WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?",
                (tenant, cursor or "", limit + 1),
            ).fetchall()
            found = [describe(connection, collection_row(row)) for row in rows]
            return page_of(found, limit, key=lambda collection: collection.name)

        return await self.database.read(unit)

    async def delete_collection(self, row: CollectionRow) -> None:
        """Takes everything in it along, unfinished jobs too."""

        def unit(connection: sqlite3.Connection) -> None:
            now = now_stored()
            connection.execute(
                "UPDATE jobs SET status = 'cancelled', updated_at = ? "
                "WHERE collection_id = ? AND status IN ('queued', 'running')",
                (now, row.id),
            )
            connection.execute(
                "UPDATE job_items SET payload = NULL, "
                "status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END "
                "WHERE payload IS NOT NULL AND job IN (SELECT accepted FROM jobs WHERE collection_id = ?)",
                (row.id,),
            )
            connection.execute("DELETE FROM collections WHERE id = ?", (row.id,))
            connection.execute("DELETE FROM ops WHERE collection_id = ?", (row.id,))

        await self.database.write(unit)

    async def document(self, row: CollectionRow, document_id: str) -> Document:
        """Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> Document:
            found = connection.execute(
                f"SELECT {_DOCUMENT}, d.text, d.id FROM documents d JOIN collections c ON c.id = d.collection_id "
                "WHERE d.collection_id = ? AND d.document_id = ?",
                (row.id, document_id),
            ).fetchone()
            if found is None:
                raise NotFound(f"there is no document {document_id!r} in collection {row.name!r}")
            chunks = connection.execute(
                "SELECT id, text, start, stop, headings, page, context FROM chunks WHERE document = ? ORDER BY ordinal",
                (found[-1],),
            )
            passages = [
                ChunkInfo(
                    id=chunk[0],
                    text=chunk[1],
                    start=chunk[2],
                    end=chunk[3],
                    headings=msgspec.json.decode(chunk[4]),
                    page=chunk[5],
                    context=chunk[6] or None,
                )
                for chunk in chunks
            ]
            info = msgspec.structs.asdict(_document_info(found))
            return Document(**info, text=found[-2], passages=passages)

        return await self.database.read(unit)

    async def document_page(
        self, row: CollectionRow, wanted: Filter | None, *, cursor: str | None, limit: int
    ) -> Page[DocumentInfo]:
        def unit(connection: sqlite3.Connection) -> Page[DocumentInfo]:
            matching = None if wanted is None else documents_statement(row.id, wanted, counter(connection))
            rows = connection.execute(
                f"SELECT {_DOCUMENT} FROM documents d JOIN collections c ON c.id = d.collection_id "
                "WHERE d.collection_id = ? AND d.document_id > ? "
                f"{f'AND d.id IN ({matching.sql})' if matching else ''} ORDER BY d.document_id LIMIT ?",
                (row.id, cursor or "", *(matching.values if matching else ()), limit + 1),
            ).fetchall()
            return page_of([_document_info(found) for found in rows], limit, key=lambda document: document.id)

        return await self.database.read(unit)

    async def delete_documents(self, row: CollectionRow, document_ids: Sequence[str]) -> int:
        """How many there were. Writes of these documents that were accepted earlier and still wait are void, and those
        that failed can no longer be tried again."""
        return await self.database.write(lambda connection: delete_documents(connection, row.id, document_ids))

    async def delete_versions(self, row: CollectionRow, documents: Sequence[int], *, accepted_until: int) -> int:
        """As `delete_documents`, by row ids: a document that was replaced meanwhile has another one, and stays. So do
        writes that were accepted after `accepted_until`."""

        def unit(connection: sqlite3.Connection) -> int:
            wanted = listed(documents)
            found = connection.execute(
                "SELECT d.document_id FROM json_each(?) wanted JOIN documents d ON d.id = wanted.value "
                "WHERE d.collection_id = ?",
                (wanted, row.id),
            ).fetchall()
            return delete_documents(connection, row.id, [each[0] for each in found], accepted_until)

        return await self.database.write(unit)

    async def stored_hash(self, collection_id: int, document_id: str) -> bytes | None:
        def unit(connection: sqlite3.Connection) -> bytes | None:
            found = connection.execute(
                "SELECT content_hash FROM documents WHERE collection_id = ? AND document_id = ?",
                (collection_id, document_id),
            ).fetchone()
            return found[0] if found else None

        return await self.database.read(unit)

    async def known_vectors(self, collection_id: int, model: str, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """Vectors of texts that the collection already holds, by hash of the text."""
        wanted = list(set(hashes))

        def unit(connection: sqlite3.Connection) -> dict[bytes, bytes]:
            known: dict[bytes, bytes] = {}
            for start in range(0, len(wanted), _VALUES_PER_QUERY):
                some = wanted[start : start + _VALUES_PER_QUERY]
                rows = connection.execute(
                    "SELECT c.embed_hash, v.vector FROM chunks c JOIN vectors v ON v.chunk_id = c.id AND v.model = ? "
                    f"WHERE c.collection_id = ? AND c.embed_hash IN ({','.join('?' * len(some))})",
                    (model, collection_id, *some),
                )
                known.update(rows.fetchall())
            return known

        return await self.database.read(unit)


def _document_info(row: tuple[str, ...]) -> DocumentInfo:
    return DocumentInfo(
        id=row[0],
        collection=row[1],
        title=row[2],
        uri=row[3],
        content_type=row[4],
        metadata=msgspec.json.decode(row[5]),
        created_at=datetime.fromisoformat(row[6]),
        updated_at=datetime.fromisoformat(row[7]),
        characters=int(row[8]),
        chunks=int(row[9]),
    )
