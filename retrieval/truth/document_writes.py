"""Storing and removing documents in SQL, as parts of a transaction. Every chunk that comes or goes leaves its row in `ops`."""

import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from retrieval.truth.collection_rows import current_row
from retrieval.truth.feedback_rows import forget_documents
from retrieval.truth.fields import field_rows
from retrieval.truth.records import CollectionRow, Item, Outcome, Piece, PreparedDocument
from shared.errors import DiptychError
from shared.sql_values import now_stored


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
    now, sent = now_stored(), item.document
    found = connection.execute(
        "SELECT accepted, created_at FROM documents WHERE collection_id = ? AND document_id = ?",
        (item.collection.id, item.document_id),
    ).fetchone()
    if found and sent.only_if_new:
        return commit_unchanged(connection, item)
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
    _count(connection, item.collection.id, documents=1, chunks=chunks)
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
    """Moves the document's place in the order of acceptance, and leaves the rest as it is. One that was only to be stored
    where there was none moves nothing: it must not stand in the way of an earlier write that is still on its way."""
    key = (item.collection.id, item.document_id)
    if not item.document.only_if_new:
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


def delete_documents(
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
    forget_documents(connection, collection_id, document_ids)
    return deleted


def _remove_document(connection: sqlite3.Connection, collection_id: int, document_id: str) -> int:
    key = (collection_id, document_id)
    chunks = connection.execute(
        "INSERT INTO ops (collection_id, kind, chunk_id) SELECT collection_id, 'remove', id FROM chunks "
        "WHERE document = (SELECT id FROM documents WHERE collection_id = ? AND document_id = ?)",
        key,
    ).rowcount
    removed = connection.execute("DELETE FROM documents WHERE collection_id = ? AND document_id = ?", key).rowcount
    if removed:
        _count(connection, collection_id, documents=-removed, chunks=-chunks)
    return removed


def _count(connection: sqlite3.Connection, collection_id: int, *, documents: int, chunks: int) -> None:
    connection.execute(
        "UPDATE collections SET documents = documents + ?, chunks = chunks + ? WHERE id = ?",
        (documents, chunks, collection_id),
    )
