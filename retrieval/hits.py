"""What a search reads of the truth once it knows which chunks it wants: their texts, documents and vectors."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shared.retrieval_messages import Hit, LegScores
from shared.vectors import Float32Array

Row = tuple[Any, ...]


def read_hits(
    connection: sqlite3.Connection, scored: Sequence[tuple[int, float]], scores: Mapping[int, LegScores]
) -> list[Hit]:
    """Hits in the given order; a chunk that went away meanwhile is left out."""
    found = hit_rows(connection, [chunk_id for chunk_id, _ in scored])
    return [
        hit_of(chunk_id, score, scores[chunk_id], found[chunk_id]) for chunk_id, score in scored if chunk_id in found
    ]


def hit_rows(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, Row]:
    """For `hit_of`, by id of the chunk; without those that are gone."""
    rows = connection.execute(
        "SELECT c.id, d.document_id, n.name, c.text, d.title, d.uri, c.headings, c.start, c.stop, d.metadata, c.page, "
        "c.context FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value JOIN documents d ON d.id = c.document "
        "JOIN collections n ON n.id = c.collection_id",
        (_listed(chunk_ids),),
    )
    return {row[0]: row[1:] for row in rows}


def hit_of(chunk_id: int, score: float, scores: LegScores, row: Row) -> Hit:
    return Hit(
        chunk_id=chunk_id,
        document_id=row[0],
        collection=row[1],
        score=score,
        scores=scores,
        text=row[2],
        title=row[3],
        uri=row[4],
        headings=msgspec.json.decode(row[5]),
        start=row[6],
        end=row[7],
        metadata=msgspec.json.decode(row[8]),
        page=row[9],
        context=row[10] or None,
    )


def read_texts(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, str]:
    """Each chunk's text under its document's title, in the given order; a chunk that is gone is left out."""
    rows = connection.execute(
        "SELECT c.id, d.title, c.text FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value "
        "JOIN documents d ON d.id = c.document ORDER BY wanted.key",
        (_listed(chunk_ids),),
    )
    return {chunk_id: f"{title}\n{text}" if title else text for chunk_id, title, text in rows}


def read_documents(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, int]:
    """The row of each chunk's document; a chunk that is gone is left out."""
    rows = connection.execute(
        "SELECT c.id, c.document FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value", (_listed(chunk_ids),)
    )
    return dict(rows.fetchall())


def read_vectors(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, Float32Array]:
    """Each chunk's vector by the model that its collection uses; a chunk that is gone is left out.

    Vectors of several models cannot be compared, so each model gets dimensions of its own: across them all are unlike.
    """
    rows = connection.execute(
        "SELECT c.id, v.model, v.vector FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value "
        "JOIN collections n ON n.id = c.collection_id JOIN vectors v ON v.chunk_id = c.id AND v.model = n.model",
        (_listed(chunk_ids),),
    )
    found = [(chunk_id, model, np.frombuffer(vector, dtype="<f4")) for chunk_id, model, vector in rows]
    starts: dict[str, int] = {}
    width = 0
    for _, model, vector in found:
        if model not in starts:
            starts[model] = width
            width += len(vector)
    placed = np.zeros((len(found), width), dtype=np.float32)
    for row, (_, model, vector) in enumerate(found):
        placed[row, starts[model] : starts[model] + len(vector)] = vector
    return {chunk_id: placed[row] for row, (chunk_id, _, _) in enumerate(found)}


def _listed(chunk_ids: Iterable[int]) -> str:
    return msgspec.json.encode(list(chunk_ids)).decode()
