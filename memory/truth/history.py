"""The history that recall indexes follow, the vectors that are still to be made, and what is checked."""

import sqlite3
from collections.abc import Sequence

from memory.truth.erased import gap_problems
from memory.truth.items import SOURCES, exists, item_keys, item_problems, queue_all, read_items, record_op
from memory.truth.records import Changes, IndexedItem, ItemKey, Scope
from memory.truth.scopes import scope_condition
from shared.database import Database, integrity_problems


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def changes(self, scope: Scope, model: str, *, after: int, limit: int) -> Changes | None:
        """The scope's next changes in order, or None. What came and is gone again is only named as removed."""

        def unit(connection: sqlite3.Connection) -> Changes | None:
            condition, values = scope_condition(scope, "")
            rows = connection.execute(
                f"SELECT seq, kind, item_kind, item_id FROM ops WHERE {condition} AND seq > ? ORDER BY seq LIMIT ?",
                (*values, after, limit),
            ).fetchall()
            if not rows:
                return None
            removed: dict[ItemKey, None] = {(row[2], row[3]): None for row in rows if row[1] == "remove"}
            touched = {(row[2], row[3]) for row in rows} - removed.keys()
            return Changes(rows[-1][0], read_items(connection, model, touched), list(removed))

        return await self._database.read(unit)

    async def pending(self, model: str, limit: int) -> list[IndexedItem]:
        """Some of those that wait for a vector: facts and spans, which are few, before turns, and each kind by age."""

        def unit(connection: sqlite3.Connection) -> list[IndexedItem]:
            keys = connection.execute(
                "SELECT item_kind, item_id FROM pending ORDER BY item_kind, item_id LIMIT ?", (limit,)
            ).fetchall()
            return read_items(connection, model, keys)

        return await self._database.read(unit)

    async def pending_count(self) -> int:
        return await self._database.read(
            lambda connection: int(connection.execute("SELECT count(*) FROM pending").fetchone()[0])
        )

    async def store_vectors(self, model: str, vectors: Sequence[tuple[ItemKey, bytes]]) -> None:
        """Items that were erased meanwhile are passed over."""

        def unit(connection: sqlite3.Connection) -> None:
            for key, vector in vectors:
                connection.execute("DELETE FROM pending WHERE item_kind = ? AND item_id = ?", key)
                if exists(connection, key):
                    connection.execute(
                        "INSERT OR REPLACE INTO vectors (item_kind, item_id, model, vector) VALUES (?, ?, ?, ?)",
                        (*key, model, vector),
                    )
                    record_op(connection, "vector", key[1], key[0])

        await self._database.write(unit)

    async def model(self) -> str:
        """The model that vectors are of; empty before the first."""
        return await self._database.read(lambda connection: _state(connection, "model"))

    async def change_model(self, model: str) -> None:
        """From now on vectors are of this model. Items that have none of it are queued again."""

        def unit(connection: sqlite3.Connection) -> None:
            _set_state(connection, "model", model)
            queue_all(connection, lacking_model=model)

        await self._database.write(unit)

    async def change_embed_text(self, version: str) -> bool:
        """From now on the model reads items in this version. True where they had been read in another.

        Then all are queued again. Their vectors go on serving until the new ones come; those of earlier models, which
        nothing would ever make anew, go at once.
        """

        def unit(connection: sqlite3.Connection) -> bool:
            # Databases that are older than this number are of the first version.
            if (_state(connection, "embed_text") or "1") == version:
                return False
            _set_state(connection, "embed_text", version)
            connection.execute("DELETE FROM vectors WHERE model <> ?", (_state(connection, "model"),))
            is_changed = connection.execute("SELECT 1 FROM vectors LIMIT 1").fetchone() is not None
            queue_all(connection)
            return is_changed

        return await self._database.write(unit)

    async def problems(self) -> tuple[dict[str, int], list[str]]:
        """What is counted, and what is wrong inside the truth itself."""
        return await self._database.read(_problems)

    async def item_keys(self, scope: Scope) -> set[ItemKey]:
        """For `check`: what a recall index of the scope should hold."""
        return await self._database.read(lambda connection: item_keys(connection, scope))


def _state(connection: sqlite3.Connection, name: str) -> str:
    """Empty where it was never said."""
    found = connection.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
    return found[0] if found else ""


def _set_state(connection: sqlite3.Connection, name: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)", (name, value))


def _problems(connection: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    found = integrity_problems(connection)
    found += gap_problems(connection)
    for kind in SOURCES:
        found += item_problems(connection, kind, _state(connection, "model"))
    names = ("sessions", "turns", "vectors", "pending")
    counts = {name: int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in names}
    return counts, found
