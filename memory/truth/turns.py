"""Turns as recall reads them: across the sessions of a scope, with the session that each belongs to."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from itertools import islice

import msgspec

from memory.truth.records import RecalledTurn, Scope
from memory.truth.scopes import scope_condition
from memory.truth.store import TURN_COLUMNS, turn_of
from shared.database import Database
from shared.filters import Filter, matches
from shared.memory_messages import Turn
from shared.sql_values import listed, stored_time

_RECALLED = (
    "SELECT t.id, t.session, s.session_id, t.turn_id, t.seq, t.role, t.name, t.content, t.created_at, t.metadata "
    "FROM turns t JOIN sessions s ON s.id = t.session"
)


class Turns:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(
        self, scope: Scope, *, since: datetime | None, until: datetime | None, part: Filter | None, limit: int
    ) -> list[RecalledTurn]:
        """`part` is a filter over a turn's metadata."""

        def unit(connection: sqlite3.Connection) -> list[RecalledTurn]:
            condition, values = scope_condition(scope, "s.")
            rows = connection.execute(
                f"{_RECALLED} WHERE {condition} AND (? IS NULL OR t.created_at >= ?) AND (? IS NULL OR t.created_at <= ?) "
                "ORDER BY t.created_at DESC, t.id DESC",
                (*values, stored_time(since), stored_time(since), stored_time(until), stored_time(until)),
            )
            fitting = (row for row in rows if part is None or matches(part, msgspec.json.decode(row[9])))
            return [_recalled(row[:9]) for row in islice(fitting, limit)]

        return await self._database.read(unit)

    async def recalled(self, scope: Scope, item_ids: Sequence[int]) -> dict[int, RecalledTurn]:
        """Turns by key. The scope is asked again, so that an index can never widen it."""
        ids = listed(item_ids)

        def unit(connection: sqlite3.Connection) -> dict[int, RecalledTurn]:
            condition, values = scope_condition(scope, "s.")
            rows = connection.execute(
                f"{_RECALLED} WHERE t.id IN (SELECT value FROM json_each(?)) AND {condition}", (ids, *values)
            )
            return {row[0]: _recalled(row[:9]) for row in rows}

        return await self._database.read(unit)

    async def around(
        self, turn: RecalledTurn, neighbours: int, *, until: datetime | None
    ) -> tuple[list[Turn], list[Turn]]:
        """The turns of the same session right before and after, none later than `until`."""

        def unit(connection: sqlite3.Connection) -> list[Turn]:
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session = ? AND seq BETWEEN ? AND ? AND seq <> ? "
                "AND (? IS NULL OR created_at <= ?) ORDER BY seq",
                (
                    turn.session,
                    turn.seq - neighbours,
                    turn.seq + neighbours,
                    turn.seq,
                    stored_time(until),
                    stored_time(until),
                ),
            ).fetchall()
            return [turn_of(row) for row in rows]

        found = await self._database.read(unit)
        return [each for each in found if each.seq < turn.seq], [each for each in found if each.seq > turn.seq]


def _recalled(row: tuple[int, int, str, str, int, str, str | None, str, str]) -> RecalledTurn:
    return RecalledTurn(
        id=row[0],
        session=row[1],
        session_id=row[2],
        turn_id=row[3],
        seq=row[4],
        role=row[5],  # type: ignore[arg-type]  # the column only ever held a Role
        name=row[6],
        content=row[7],
        created_at=datetime.fromisoformat(row[8]),
    )
