"""The truth as a list, for a projection that starts from nothing, and the end of history that none needs any more.

`ops` is only for catching up. What every projection has durably taken in is pruned; one that finds itself further behind
than the oldest kept row starts from the chunks themselves, as an empty one does anyway: reading what is there is quicker
than replaying how it came about.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final

from retrieval.truth.history import last_sequence, stacked, texts_of
from retrieval.truth.records import TextChanges, VectorChanges
from shared.database import Database

# One unit of pruning holds the writer for a few milliseconds.
PRUNED_ROWS_PER_UNIT: Final = 2000


@dataclass(frozen=True, slots=True)
class Standing:
    """A collection's sequence, and the one up to which its history has been pruned."""

    sequence: int
    pruned: int


class Listings:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, collection_id: int) -> Standing:
        def unit(connection: sqlite3.Connection) -> Standing:
            found = connection.execute("SELECT pruned FROM collections WHERE id = ?", (collection_id,)).fetchone()
            return Standing(last_sequence(connection, collection_id), found[0] if found else 0)

        return await self._database.read(unit)

    async def vectors(self, collection_id: int, model: str, *, after: int, limit: int) -> VectorChanges:
        """Vectors of the chunks that follow chunk `after`, with the sequence at the time. No chunks: that was all."""

        def unit(connection: sqlite3.Connection) -> VectorChanges:
            rows = connection.execute(
                "SELECT c.id, v.vector FROM chunks c JOIN vectors v ON v.chunk_id = c.id AND v.model = ? "
                "WHERE c.collection_id = ? AND c.id > ? ORDER BY c.id LIMIT ?",
                (model, collection_id, after, limit),
            ).fetchall()
            sequence = last_sequence(connection, collection_id)
            return VectorChanges(sequence, [row[0] for row in rows], stacked([row[1] for row in rows]), [])

        return await self._database.read(unit)

    async def texts(self, collection_id: int, *, after: int, limit: int) -> TextChanges:
        """As `vectors`, for the lexical index."""

        def unit(connection: sqlite3.Connection) -> TextChanges:
            rows = connection.execute(
                "SELECT c.id, d.title, c.headings, c.context, c.text FROM chunks c JOIN documents d ON d.id = c.document "
                "WHERE c.collection_id = ? AND c.id > ? ORDER BY c.id LIMIT ?",
                (collection_id, after, limit),
            ).fetchall()
            return TextChanges(last_sequence(connection, collection_id), [texts_of(*row) for row in rows], [])

        return await self._database.read(unit)

    async def prune(self, collection_id: int, *, through: int) -> int:
        """Takes away one unit of history up to `through`, but never the last row, which holds the sequence. How much."""

        def unit(connection: sqlite3.Connection) -> int:
            through_kept = min(through, last_sequence(connection, collection_id) - 1)
            rows = connection.execute(
                "SELECT seq, kind, chunk_id FROM ops WHERE collection_id = ? AND seq <= ? ORDER BY seq LIMIT ?",
                (collection_id, through_kept, PRUNED_ROWS_PER_UNIT),
            ).fetchall()
            if rows:
                connection.execute("DELETE FROM ops WHERE collection_id = ? AND seq <= ?", (collection_id, rows[-1][0]))
                newest = max((row[2] for row in rows if row[1] == "add"), default=0)
                connection.execute(
                    "UPDATE collections SET pruned = ?, pruned_chunk = max(pruned_chunk, ?) WHERE id = ?",
                    (rows[-1][0], newest, collection_id),
                )
            return len(rows)

        return await self._database.write(unit)
