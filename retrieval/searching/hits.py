"""What a search reads of the truth once it knows which chunks it wants: their texts, documents and vectors."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from shared.retrieval_messages import Hit, LegScores
from shared.sql_values import listed
from shared.vectors import Float32Array

Row = list[Any]


def read_hits(
    connection: sqlite3.Connection, scored: Sequence[tuple[int, float]], scores: Mapping[int, LegScores]
) -> list[Hit]:
    """Hits in the given order; a chunk that went away meanwhile is left out."""
    found = hit_rows(connection, [chunk_id for chunk_id, _ in scored])
    return [
        hit_of(chunk_id, score, scores[chunk_id], found[chunk_id]) for chunk_id, score in scored if chunk_id in found
    ]


def hit_rows(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, Row]:
    """For `hit_of`, by id of the chunk; without those that are gone.

    One value, since Python's `sqlite3` lets the interpreter go once for each value that it reads: a page of ten hits did so 145
    times, and each time another thread could take it. So it does 8 times, and 16 clients are answered 6 % more often.
    """
    (rows,) = connection.execute(
        "SELECT json_group_array(json_array(c.id, d.document_id, n.name, c.text, d.title, d.uri, json(c.headings), c.start, "
        "c.stop, json(d.metadata), c.page, c.context)) FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value "
        "JOIN documents d ON d.id = c.document JOIN collections n ON n.id = c.collection_id",
        (listed(chunk_ids),),
    ).fetchone()
    return {row[0]: row[1:] for row in msgspec.json.decode(rows)}


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
        headings=row[5],
        start=row[6],
        end=row[7],
        metadata=row[8],
        page=row[9],
        context=row[10] or None,
    )


def read_texts(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, str]:
    """Each chunk's text under its title and headings and what it continues, as the embedding model reads it but uncut, in
    the given order; a chunk that is gone is left out."""
    rows = connection.execute(
        "SELECT c.id, d.title, c.headings, c.context, c.text FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value "
        "JOIN documents d ON d.id = c.document ORDER BY wanted.key",
        (listed(chunk_ids),),
    )
    return {
        chunk_id: _whole_text(title, msgspec.json.decode(headings), context, text)
        for chunk_id, title, headings, context, text in rows
    }


def _whole_text(title: str, headings: Sequence[str], context: str, text: str) -> str:
    place = " > ".join(dict.fromkeys(name for name in (title, *headings) if name))
    return "\n".join(part for part in (place, context, text) if part)


def read_documents(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, int]:
    """The row of each chunk's document; a chunk that is gone is left out."""
    rows = connection.execute(
        "SELECT c.id, c.document FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value", (listed(chunk_ids),)
    )
    return dict(rows.fetchall())


def read_vectors(connection: sqlite3.Connection, chunk_ids: Iterable[int]) -> dict[int, tuple[str, Float32Array]]:
    """The model that each chunk's collection uses, and the chunk's vector by it; a chunk that is gone is left out."""
    rows = connection.execute(
        "SELECT c.id, v.model, v.vector FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value "
        "JOIN collections n ON n.id = c.collection_id JOIN vectors v ON v.chunk_id = c.id AND v.model = n.model",
        (listed(chunk_ids),),
    )
    return {
        chunk_id: (model, np.frombuffer(vector, dtype="<f4").astype(np.float32, copy=False))
        for chunk_id, model, vector in rows
    }
