"""The truth in SQL: collections, documents, chunks and vectors.

Each method is one unit of work, whole and atomic. Every query starts from the tenant or from a collection id that was
found through the tenant, so that nothing crosses between tenants.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from retrieval.fields import field_rows
from retrieval.filter_sql import documents_statement
from retrieval.filtering import counter
from retrieval.history import last_sequence
from retrieval.records import Beside, BesideStatus, CollectionRow, Item, Outcome, Piece, PreparedDocument
from retrieval.reporting import reindex_of_collection
from shared.database import Database
from shared.errors import Conflict, DiptychError, NotFound
from shared.filters import Filter
from shared.paging import Page, page_of
from shared.retrieval_messages import (
    LANGUAGE_DEFAULT,
    ChunkInfo,
    Chunking,
    Collection,
    CollectionSpec,
    Document,
    DocumentInfo,
    Fusion,
    Language,
)

_COLLECTION = (
    "id, tenant, name, model, chunking, fusion, language, description, created_at, "
    "beside_model, beside_status, beside_overlap"
)
_DOCUMENT = (
    "d.document_id, c.name, d.title, d.uri, d.content_type, d.metadata, d.created_at, d.updated_at, length(d.text), "
    "(SELECT count(*) FROM chunks WHERE document = d.id)"
)

_Row = tuple[int, str, str, str, str, str, Language, str, str, str | None, BesideStatus, float | None]

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
        rows = await self.database.read(lambda connection: _find_collections(connection, tenant, names))
        if len(known) + len(rows) <= _COLLECTIONS_KNOWN_MAX:
            # If something was written meanwhile, this is no longer what the next search looks at.
            known |= {(row.tenant, row.name): row for row in rows}
        return rows

    async def every_collection(self) -> list[CollectionRow]:
        """Of all tenants: for opening and checking projections, never for a caller."""
        return await self.database.read(
            lambda connection: [
                _collection_row(row) for row in connection.execute(f"SELECT {_COLLECTION} FROM collections ORDER BY id")
            ]
        )

    async def current(self, row: CollectionRow) -> CollectionRow:
        """The collection as it is now. Raises NotFound where it has been deleted, even if another has its name."""

        def unit(connection: sqlite3.Connection) -> CollectionRow:
            return current_row(connection, row)

        return await self.database.read(unit)

    async def describe(self, row: CollectionRow) -> Collection:
        return await self.database.read(lambda connection: _describe(connection, row))

    async def collection_page(self, tenant: str, *, cursor: str | None, limit: int) -> Page[Collection]:
        def unit(connection: sqlite3.Connection) -> Page[Collection]:
            rows = connection.execute(
                f"SELECT {_COLLECTION} FROM collections WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?",
                (tenant, cursor or "", limit + 1),
            ).fetchall()
            found = [_describe(connection, _collection_row(row)) for row in rows]
            return page_of(found, limit, key=lambda collection: collection.name)

        return await self.database.read(unit)

    async def delete_collection(self, row: CollectionRow) -> None:
        """Takes everything in it along, unfinished jobs too."""

        def unit(connection: sqlite3.Connection) -> None:
            now = _now()
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
        return await self.database.write(lambda connection: _delete_documents(connection, row.id, document_ids))

    async def delete_versions(self, row: CollectionRow, documents: Sequence[int], *, accepted_until: int) -> int:
        """As `delete_documents`, by row ids: a document that was replaced meanwhile has another one, and stays. So do
        writes that were accepted after `accepted_until`."""

        def unit(connection: sqlite3.Connection) -> int:
            wanted = msgspec.json.encode(documents).decode()
            found = connection.execute(
                "SELECT d.document_id FROM json_each(?) wanted JOIN documents d ON d.id = wanted.value "
                "WHERE d.collection_id = ?",
                (wanted, row.id),
            ).fetchall()
            return _delete_documents(connection, row.id, [each[0] for each in found], accepted_until)

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


class ModelsChanged(DiptychError):
    """A document came without vectors of a model that the collection needs by now."""


def commit_document(
    connection: sqlite3.Connection,
    item: Item,
    prepared: PreparedDocument,
    vectors: Mapping[str, Sequence[bytes]],
    digest: bytes,
) -> Outcome:
    """Stores a prepared document in place of the one before it. Part of the transaction that ends its job item.

    `vectors` are by model, in the order of the pieces. Raises ModelsChanged.
    """
    kept = _vectors_to_keep(connection, item.collection, vectors)
    now, sent = _now(), item.document
    found = connection.execute(
        "SELECT accepted, created_at FROM documents WHERE collection_id = ? AND document_id = ?",
        (item.collection.id, item.document_id),
    ).fetchone()
    if found and found[0] > item.accepted:
        # A later write came first. As if this one had happened just before it: replaced.
        return Outcome("replaced")
    _remove_document(connection, item.collection.id, item.document_id)
    document = connection.execute(
        "INSERT INTO documents (collection_id, document_id, title, uri, content_type, text, metadata, content_hash, "
        "accepted, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            item.collection.id,
            item.document_id,
            prepared.title,
            sent.uri or "",
            prepared.content_type,
            prepared.text,
            msgspec.json.encode(sent.metadata or {}).decode(),
            digest,
            item.accepted,
            found[1] if found else now,
            now,
        ),
    ).lastrowid
    chunk_id: int | None = None
    for ordinal, piece in enumerate(prepared.pieces):
        chunk_id = _insert_chunk(connection, item.collection.id, document, ordinal, piece)
        connection.executemany(
            "INSERT INTO vectors (chunk_id, model, vector) VALUES (?, ?, ?)",
            [(chunk_id, model, found_vectors[ordinal]) for model, found_vectors in kept.items()],
        )
    # One thread writes, so the ids of these chunks are consecutive.
    chunks = len(prepared.pieces)
    place = (document, 0 if chunk_id is None else chunk_id - chunks + 1, chunks)
    connection.executemany(
        "INSERT OR IGNORE INTO fields (collection_id, path, kind, is_element, value, document, first_chunk, chunks) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(item.collection.id, *row, *place) for row in field_rows(sent.metadata or {})],
    )
    return Outcome("replaced" if found else "created", chunks)


def _insert_chunk(
    connection: sqlite3.Connection, collection_id: int, document: int | None, ordinal: int, piece: Piece
) -> int | None:
    chunk_id = connection.execute(
        "INSERT INTO chunks (collection_id, document, ordinal, start, stop, headings, page, context, text, "
        "embed_hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            collection_id,
            document,
            ordinal,
            piece.start,
            piece.end,
            msgspec.json.encode(piece.headings).decode(),
            piece.page,
            piece.context,
            piece.text,
            piece.embed_hash,
        ),
    ).lastrowid
    connection.execute(
        "INSERT INTO ops (collection_id, kind, chunk_id) VALUES (?, 'add', ?)", (collection_id, chunk_id)
    )
    return chunk_id


def _vectors_to_keep(
    connection: sqlite3.Connection, collection: CollectionRow, vectors: Mapping[str, Sequence[bytes]]
) -> dict[str, Sequence[bytes]]:
    """Those of the models that the collection has now, which may have changed while the document was embedded."""
    row = current_row(connection, collection)
    if not vectors.keys() >= set(row.whole_models):
        raise ModelsChanged(f"collection {row.name!r} needs vectors of {', '.join(row.whole_models)}")
    return {model: vectors[model] for model in row.written_models if model in vectors}


def commit_unchanged(connection: sqlite3.Connection, item: Item) -> Outcome:
    """Moves the document's place in the order of acceptance, and leaves the rest as it is."""
    key = (item.collection.id, item.document_id)
    connection.execute(
        "UPDATE documents SET accepted = max(accepted, ?) WHERE collection_id = ? AND document_id = ?",
        (item.accepted, *key),
    )
    chunks = connection.execute(
        "SELECT count(*) FROM chunks WHERE document = "
        "(SELECT id FROM documents WHERE collection_id = ? AND document_id = ?)",
        key,
    ).fetchone()[0]
    return Outcome("unchanged", chunks)


def last_accepted(connection: sqlite3.Connection) -> int:
    """The place of the newest job in the order of acceptance."""
    accepted: int = connection.execute("SELECT coalesce(max(accepted), 0) FROM jobs").fetchone()[0]
    return accepted


def _delete_documents(
    connection: sqlite3.Connection, collection_id: int, document_ids: Sequence[str], accepted_until: int = 2**62
) -> int:
    deleted = 0
    for document_id in document_ids:
        deleted += _remove_document(connection, collection_id, document_id)
        connection.execute(
            "UPDATE job_items SET status = CASE status WHEN 'pending' THEN 'replaced' ELSE status END, payload = NULL "
            "WHERE document_id = ? AND payload IS NOT NULL AND job <= ? "
            "AND job IN (SELECT accepted FROM jobs WHERE collection_id = ?)",
            (document_id, accepted_until, collection_id),
        )
    return deleted


def _remove_document(connection: sqlite3.Connection, collection_id: int, document_id: str) -> int:
    key = (collection_id, document_id)
    connection.execute(
        "INSERT INTO ops (collection_id, kind, chunk_id) SELECT collection_id, 'remove', id FROM chunks "
        "WHERE document = (SELECT id FROM documents WHERE collection_id = ? AND document_id = ?)",
        key,
    )
    return connection.execute("DELETE FROM documents WHERE collection_id = ? AND document_id = ?", key).rowcount


def put_collection(
    connection: sqlite3.Connection, tenant: str, name: str, spec: CollectionSpec, model: str
) -> CollectionRow:
    """Part of a transaction: ingest makes a missing collection in the one that accepts the job."""
    found = _find_collection(connection, tenant, name)
    if found is None:
        connection.execute(
            "INSERT INTO collections (tenant, name, model, chunking, fusion, language, description, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                tenant,
                name,
                spec.model or model,
                msgspec.json.encode(spec.chunking or Chunking()).decode(),
                msgspec.json.encode(spec.fusion or Fusion()).decode(),
                spec.language or LANGUAGE_DEFAULT,
                spec.description or "",
                _now(),
            ),
        )
    else:
        _change_collection(connection, found, spec)
    row = _find_collection(connection, tenant, name)
    if row is None:  # this transaction has just written it
        raise AssertionError(name)
    return row


def _change_collection(connection: sqlite3.Connection, row: CollectionRow, spec: CollectionSpec) -> None:
    if spec.model is not None and spec.model != row.model:
        raise Conflict(
            f"collection {row.name!r} was built with the model {row.model!r}; reindex it to change to {spec.model!r}"
        )
    chunking = spec.chunking or row.chunking
    filled = connection.execute("SELECT 1 FROM documents WHERE collection_id = ? LIMIT 1", (row.id,)).fetchone()
    if chunking != row.chunking and filled:
        raise Conflict(f"collection {row.name!r} has documents cut by its chunking; delete them first, or make another")
    language = spec.language or row.language
    if language != row.language and filled:
        raise Conflict(
            f"collection {row.name!r} has documents analysed as {row.language!r}; delete them first, or make another"
        )
    connection.execute(
        "UPDATE collections SET chunking = ?, fusion = ?, language = ?, description = ? WHERE id = ?",
        (
            msgspec.json.encode(chunking).decode(),
            msgspec.json.encode(spec.fusion or row.fusion).decode(),
            language,
            row.description if spec.description is None else spec.description,
            row.id,
        ),
    )


def current_row(connection: sqlite3.Connection, row: CollectionRow) -> CollectionRow:
    """Raises NotFound."""
    found = connection.execute(f"SELECT {_COLLECTION} FROM collections WHERE id = ?", (row.id,)).fetchone()
    if found is None:
        raise NotFound(f"collection {row.name!r} was deleted meanwhile")
    return _collection_row(found)


def _find_collection(connection: sqlite3.Connection, tenant: str, name: str) -> CollectionRow | None:
    found = connection.execute(
        f"SELECT {_COLLECTION} FROM collections WHERE tenant = ? AND name = ?", (tenant, name)
    ).fetchone()
    return _collection_row(found) if found else None


def _find_collections(connection: sqlite3.Connection, tenant: str, names: Sequence[str] | None) -> list[CollectionRow]:
    if names is None:
        rows = connection.execute(f"SELECT {_COLLECTION} FROM collections WHERE tenant = ? ORDER BY name", (tenant,))
        return [_collection_row(row) for row in rows]
    found = []
    for name in dict.fromkeys(names):
        row = _find_collection(connection, tenant, name)
        if row is None:
            raise NotFound(f"there is no collection {name!r}")
        found.append(row)
    return found


def _collection_row(row: _Row) -> CollectionRow:
    return CollectionRow(
        id=row[0],
        tenant=row[1],
        name=row[2],
        model=row[3],
        chunking=msgspec.json.decode(row[4], type=Chunking),
        fusion=msgspec.json.decode(row[5], type=Fusion),
        language=row[6],
        description=row[7],
        created_at=datetime.fromisoformat(row[8]),
        beside=Beside(model=row[9], status=row[10], overlap_at_10=row[11]) if row[9] is not None else None,
    )


def _describe(connection: sqlite3.Connection, row: CollectionRow) -> Collection:
    documents, chunks = connection.execute(
        "SELECT (SELECT count(*) FROM documents WHERE collection_id = :id), "
        "(SELECT count(*) FROM chunks WHERE collection_id = :id)",
        {"id": row.id},
    ).fetchone()
    return Collection(
        name=row.name,
        model=row.model,
        chunking=row.chunking,
        fusion=row.fusion,
        language=row.language,
        description=row.description,
        documents=documents,
        chunks=chunks,
        sequence=last_sequence(connection, row.id),
        created_at=row.created_at,
        reindex=reindex_of_collection(connection, row, chunks),
    )


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
