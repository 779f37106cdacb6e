"""Rows of collections in SQL, as parts of a transaction: found through the tenant, made, changed and described."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from retrieval.truth.history import last_sequence
from retrieval.truth.records import Beside, BesideStatus, CollectionRow
from retrieval.truth.reporting import reindex_of_collection
from shared.errors import Conflict, NotFound
from shared.retrieval_messages import (
    LANGUAGE_DEFAULT,
    Chunking,
    Collection,
    CollectionSpec,
    Fusion,
    Language,
)
from shared.sql_values import now_stored

COLLECTION_COLUMNS = (
    "id, tenant, name, model, chunking, fusion, language, description, created_at, "
    "beside_model, beside_status, beside_overlap"
)

_Row = tuple[int, str, str, str, str, str, Language, str, str, str | None, BesideStatus, float | None]


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
                now_stored(),
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
    found = connection.execute(f"SELECT {COLLECTION_COLUMNS} FROM collections WHERE id = ?", (row.id,)).fetchone()
    if found is None:
        raise NotFound(f"collection {row.name!r} was deleted meanwhile")
    return collection_row(found)


def _find_collection(connection: sqlite3.Connection, tenant: str, name: str) -> CollectionRow | None:
    found = connection.execute(
        f"SELECT {COLLECTION_COLUMNS} FROM collections WHERE tenant = ? AND name = ?", (tenant, name)
    ).fetchone()
    return collection_row(found) if found else None


def find_collections(connection: sqlite3.Connection, tenant: str, names: Sequence[str] | None) -> list[CollectionRow]:
    if names is None:
        rows = connection.execute(
            f"SELECT {COLLECTION_COLUMNS} FROM collections WHERE tenant = ? ORDER BY name", (tenant,)
        )
        return [collection_row(row) for row in rows]
    found = []
    for name in dict.fromkeys(names):
        row = _find_collection(connection, tenant, name)
        if row is None:
            raise NotFound(f"there is no collection {name!r}")
        found.append(row)
    return found


def collection_row(row: _Row) -> CollectionRow:
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


def describe(connection: sqlite3.Connection, row: CollectionRow) -> Collection:
    # Nothing of a collection that has gone since its row was read.
    documents, chunks = connection.execute(
        "SELECT coalesce(max(documents), 0), coalesce(max(chunks), 0) FROM collections WHERE id = ?", (row.id,)
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
