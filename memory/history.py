"""The history that recall indexes follow, the vectors that are still to be made, and what is checked."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from memory.erased import gap_problems
from memory.records import Changes, IndexedTurn, Scope, speaker_of
from memory.scopes import scope_condition
from shared.database import Database, integrity_problems


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def changes(self, scope: Scope, model: str, *, after: int, limit: int) -> Changes | None:
        """The scope's next changes in order, or None. What came and is gone again is only named as removed."""

        def unit(connection: sqlite3.Connection) -> Changes | None:
            condition, values = scope_condition(scope, "")
            rows = connection.execute(
                f"SELECT seq, kind, item_id FROM ops WHERE {condition} AND item_kind = 'turn' AND seq > ? "
                "ORDER BY seq LIMIT ?",
                (*values, after, limit),
            ).fetchall()
            if not rows:
                return None
            removed = [row[2] for row in rows if row[1] == "remove"]
            touched = msgspec.json.encode(sorted({row[2] for row in rows} - set(removed))).decode()
            return Changes(rows[-1][0], _indexed(connection, model, touched), removed)

        return await self._database.read(unit)

    async def pending(self, model: str, limit: int) -> list[IndexedTurn]:
        """The oldest turns without a vector."""

        def unit(connection: sqlite3.Connection) -> list[IndexedTurn]:
            rows = connection.execute(
                "SELECT item_id FROM pending WHERE item_kind = 'turn' ORDER BY id LIMIT ?", (limit,)
            )
            ids = msgspec.json.encode([row[0] for row in rows]).decode()
            return _indexed(connection, model, ids)

        return await self._database.read(unit)

    async def pending_count(self) -> int:
        return await self._database.read(
            lambda connection: int(connection.execute("SELECT count(*) FROM pending").fetchone()[0])
        )

    async def store_vectors(self, model: str, vectors: Sequence[tuple[int, bytes]]) -> None:
        """Turns that were erased meanwhile are passed over."""

        def unit(connection: sqlite3.Connection) -> None:
            for item_id, vector in vectors:
                connection.execute("DELETE FROM pending WHERE item_kind = 'turn' AND item_id = ?", (item_id,))
                written = connection.execute(
                    "INSERT OR REPLACE INTO vectors (item_kind, item_id, model, vector) "
                    "SELECT 'turn', id, ?, ? FROM turns WHERE id = ?",
                    (model, vector, item_id),
                ).rowcount
                if written:
                    record_op(connection, "vector", item_id)

        await self._database.write(unit)

    async def model(self) -> str:
        """The model that vectors are of; empty before the first."""
        return await self._database.read(_model)

    async def change_model(self, model: str) -> None:
        """From now on vectors are of this model. Turns that have none of it are queued again."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO state (name, value) VALUES ('model', ?)", (model,))
            connection.execute(
                "INSERT OR IGNORE INTO pending (item_kind, item_id) SELECT 'turn', t.id FROM turns t WHERE NOT EXISTS "
                "(SELECT 1 FROM vectors v WHERE v.item_kind = 'turn' AND v.item_id = t.id AND v.model = ?) ORDER BY t.id",
                (model,),
            )

        await self._database.write(unit)

    async def problems(self) -> tuple[dict[str, int], list[str]]:
        """What is counted, and what is wrong inside the truth itself."""
        return await self._database.read(_problems)

    async def turn_ids(self, scope: Scope) -> set[int]:
        """For `check`: what a recall index of the scope should hold."""

        def unit(connection: sqlite3.Connection) -> set[int]:
            condition, values = scope_condition(scope, "s.")
            rows = connection.execute(
                f"SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session WHERE {condition}", values
            )
            return {row[0] for row in rows}

        return await self._database.read(unit)


def record_op(connection: sqlite3.Connection, kind: str, item_id: int | None) -> None:
    connection.execute(
        "INSERT INTO ops (kind, item_kind, item_id, tenant, user_id, agent_id, session) "
        "SELECT ?, 'turn', t.id, s.tenant, s.user_id, s.agent_id, s.id "
        "FROM turns t JOIN sessions s ON s.id = t.session WHERE t.id = ?",
        (kind, item_id),
    )


def _indexed(connection: sqlite3.Connection, model: str, ids: str) -> list[IndexedTurn]:
    rows = connection.execute(
        "SELECT t.id, t.session, t.role, t.name, t.content, t.created_at, v.vector FROM turns t LEFT JOIN vectors v "
        "ON v.item_kind = 'turn' AND v.item_id = t.id AND v.model = ? "
        "WHERE t.id IN (SELECT value FROM json_each(?)) ORDER BY t.id",
        (model, ids),
    )
    return [
        IndexedTurn(
            id=row[0],
            session=row[1],
            speaker=speaker_of(row[2], row[3]),
            text=row[4],
            created_at=datetime.fromisoformat(row[5]),
            vector=row[6],
        )
        for row in rows
    ]


def _model(connection: sqlite3.Connection) -> str:
    found = connection.execute("SELECT value FROM state WHERE name = 'model'").fetchone()
    return found[0] if found else ""


def _problems(connection: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    found = integrity_problems(connection)
    found += gap_problems(connection)
    unheard = connection.execute(
        "SELECT t.id FROM turns t WHERE NOT EXISTS (SELECT 1 FROM ops o WHERE o.session = t.session "
        "AND o.item_kind = 'turn' AND o.item_id = t.id AND o.kind = 'add') LIMIT 10"
    )
    found += [f"turn {row[0]} is missing from ops" for row in unheard]
    lost = connection.execute(
        "SELECT t.id FROM turns t WHERE NOT EXISTS (SELECT 1 FROM pending p WHERE p.item_kind = 'turn' AND p.item_id = t.id) "
        "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.item_kind = 'turn' AND v.item_id = t.id AND v.model = ?) LIMIT 10",
        (_model(connection),),
    )
    found += [f"turn {row[0]} has no vector and none is pending" for row in lost]
    orphans = connection.execute(
        "SELECT count(*) FROM vectors v WHERE v.item_kind = 'turn' AND NOT EXISTS (SELECT 1 FROM turns t WHERE t.id = v.item_id)"
    ).fetchone()[0]
    if orphans:
        found.append(f"{orphans} vectors belong to no turn")
    names = ("sessions", "turns", "vectors", "pending")
    counts = {name: int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]) for name in names}
    return counts, found
