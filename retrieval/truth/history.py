"""The history that projections follow, and what they are checked against."""

import sqlite3
from collections.abc import Sequence

import msgspec
import numpy as np

from retrieval.truth.records import ChunkTexts, TextChanges, VectorChanges
from shared.database import Database, integrity_problems
from shared.vectors import Float32Array


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def vector_changes(
        self, collection_id: int, model: str, *, after: int, until: int | None, limit: int
    ) -> VectorChanges | None:
        """The next changes in order, or None. What was added and is gone again is left out."""

        def unit(connection: sqlite3.Connection) -> VectorChanges | None:
            span = _span_of_changes(connection, collection_id, after=after, until=until, limit=limit)
            if span is None:
                return None
            sequence, removed = span
            rows = connection.execute(
                "SELECT o.chunk_id, v.vector FROM ops o JOIN vectors v ON v.chunk_id = o.chunk_id AND v.model = ? "
                "WHERE o.collection_id = ? AND o.seq > ? AND o.seq <= ? AND o.kind = 'add' ORDER BY o.seq",
                (model, collection_id, after, sequence),
            ).fetchall()
            return VectorChanges(sequence, [found[0] for found in rows], stacked([found[1] for found in rows]), removed)

        return await self._database.read(unit)

    async def text_changes(
        self, collection_id: int, *, after: int, until: int | None, limit: int
    ) -> TextChanges | None:
        """As `vector_changes`, for the lexical index."""

        def unit(connection: sqlite3.Connection) -> TextChanges | None:
            span = _span_of_changes(connection, collection_id, after=after, until=until, limit=limit)
            if span is None:
                return None
            sequence, removed = span
            rows = connection.execute(
                "SELECT o.chunk_id, d.title, c.headings, c.context, c.text FROM ops o JOIN chunks c ON c.id = o.chunk_id "
                "JOIN documents d ON d.id = c.document "
                "WHERE o.collection_id = ? AND o.seq > ? AND o.seq <= ? AND o.kind = 'add' ORDER BY o.seq",
                (collection_id, after, sequence),
            )
            return TextChanges(sequence, [texts_of(*row) for row in rows], removed)

        return await self._database.read(unit)

    async def sequence(self, collection_id: int) -> int:
        return await self._database.read(lambda connection: last_sequence(connection, collection_id))

    async def truth(self, collection_id: int, model: str) -> tuple[int, dict[int, bytes]]:
        """The collection's sequence, and the vector of every chunk: what the projections should hold. For `check`."""

        def unit(connection: sqlite3.Connection) -> tuple[int, dict[int, bytes]]:
            rows = connection.execute(
                "SELECT c.id, v.vector FROM chunks c LEFT JOIN vectors v ON v.chunk_id = c.id AND v.model = ? "
                "WHERE c.collection_id = ?",
                (model, collection_id),
            ).fetchall()
            return last_sequence(connection, collection_id), {row[0]: row[1] or b"" for row in rows}

        return await self._database.read(unit)

    async def problems(self) -> list[str]:
        """What is wrong inside the truth itself."""

        def unit(connection: sqlite3.Connection) -> list[str]:
            found = integrity_problems(connection)
            shifted = connection.execute(
                "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document "
                "WHERE substr(d.text, c.start + 1, c.stop - c.start) <> c.text LIMIT 10"
            )
            found += [f"chunk {row[0]} is not the text at its offsets" for row in shifted]
            unheard = connection.execute(
                # Chunks and their ops are numbered in the same order, so those that came before are pruned too.
                "SELECT c.id FROM chunks c JOIN collections n ON n.id = c.collection_id "
                "WHERE c.id > n.pruned_chunk AND NOT EXISTS "
                "(SELECT 1 FROM ops o WHERE o.collection_id = c.collection_id AND o.chunk_id = c.id AND o.kind = 'add') "
                "LIMIT 10"
            )
            scattered = connection.execute(
                "SELECT document FROM chunks GROUP BY document HAVING max(id) - min(id) + 1 <> count(*) LIMIT 10"
            )
            found += [
                f"the chunks of document {row[0]} have no consecutive ids, as filters need them" for row in scattered
            ]
            miscounted = connection.execute(
                "SELECT tenant, name FROM collections n WHERE "
                "(documents, chunks) <> ((SELECT count(*) FROM documents WHERE collection_id = n.id), "
                "(SELECT count(*) FROM chunks WHERE collection_id = n.id))"
            )
            found += [f"the counts of collection {row[0]}/{row[1]} are not those of its rows" for row in miscounted]
            return found + [f"chunk {row[0]} is missing from ops" for row in unheard]

        return await self._database.read(unit)


def texts_of(chunk_id: int, title: str, headings: str, context: str, text: str) -> ChunkTexts:
    """From the columns, as they are stored."""
    whole = f"{context}\n{text}" if context else text
    return ChunkTexts(chunk_id, title, " ".join(msgspec.json.decode(headings)), whole)


def last_sequence(connection: sqlite3.Connection, collection_id: int) -> int:
    sequence: int = connection.execute(
        "SELECT coalesce(max(seq), 0) FROM ops WHERE collection_id = ?", (collection_id,)
    ).fetchone()[0]
    return sequence


def _span_of_changes(
    connection: sqlite3.Connection, collection_id: int, *, after: int, until: int | None, limit: int
) -> tuple[int, list[int]] | None:
    """The last sequence number of the next `limit` changes, and the chunks that they remove."""
    rows = connection.execute(
        "SELECT seq, kind, chunk_id FROM ops WHERE collection_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (collection_id, after, 2**62 if until is None else until, limit),
    ).fetchall()
    if not rows:
        return None
    return rows[-1][0], [row[2] for row in rows if row[1] == "remove"]


def stacked(vectors: Sequence[bytes]) -> Float32Array:
    if not vectors:
        return np.empty((0, 0), dtype=np.float32)
    return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1).astype(np.float32, copy=False)
