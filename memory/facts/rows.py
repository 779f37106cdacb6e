"""Facts as they lie in SQL: their columns, and the ways to find them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from memory.facts.timeline import Validity
from shared.errors import NotFound
from shared.fact_messages import Fact, FactStatus
from shared.memory_messages import FactKind, TurnSource
from shared.sql_values import listed

COLUMNS: Final = (
    "f.id, f.fact_id, f.user_id, f.kind, f.key, f.text, f.status, f.pinned, f.valid_from, f.valid_to, f.expires_at, "
    "(SELECT r.fact_id FROM facts r WHERE r.id = f.replaced_by), f.origin, f.tokens, f.created_at, f.updated_at"
)
# Of `:moment`. An end and an expiry are not part of the time before them.
HOLDS: Final = "f.valid_from <= :moment AND (f.valid_to IS NULL OR f.valid_to > :moment)"
NOT_EXPIRED: Final = "(f.expires_at IS NULL OR f.expires_at > :moment)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactRow:
    """A fact as a change of it needs to know it."""

    id: int
    tenant: str
    user_id: str
    fact_id: str
    kind: FactKind
    key: str | None
    text: str
    status: FactStatus
    pinned: bool
    valid_from: str
    valid_to: str | None
    expires_at: str | None
    replaced_by: int | None
    origin: str
    derived: bool
    line: str | None

    @property
    def validity(self) -> Validity:
        return Validity(id=self.id, since=self.valid_from, until=self.valid_to, replaced_by=self.replaced_by)


_ROW: Final = ", ".join(FactRow.__dataclass_fields__)


def find_row(connection: sqlite3.Connection, tenant: str, fact_id: str) -> FactRow:
    """Raises NotFound."""
    row = find_row_or_none(connection, tenant, fact_id)
    if row is None:
        raise NotFound(f"there is no fact {fact_id!r}")
    return row


def find_row_or_none(connection: sqlite3.Connection, tenant: str, fact_id: str) -> FactRow | None:
    return next(iter(rows_where(connection, "tenant = ? AND fact_id = ?", (tenant, fact_id))), None)


def rows_where(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[FactRow]:
    found = connection.execute(f"SELECT {_ROW} FROM facts WHERE {condition}", values)
    return [_row(values) for values in found]


def _row(values: Sequence[Any]) -> FactRow:
    named: dict[str, Any] = dict(zip(FactRow.__dataclass_fields__, values, strict=True))
    return FactRow(**{**named, "pinned": bool(named["pinned"]), "derived": bool(named["derived"])})


def neighbours(connection: sqlite3.Connection, row: FactRow) -> list[Validity]:
    """The active facts right before and after it in the line of its key; without a key, of those that replace each other."""
    column, value = _line(row)
    found: list[FactRow] = []
    for sign, direction in (("<", "DESC"), (">", "ASC")):
        found += rows_where(
            connection,
            f"tenant = ? AND user_id = ? AND {column} = ? AND status = 'active' AND (valid_from, id) {sign} (?, ?) "
            f"ORDER BY valid_from {direction}, id {direction} LIMIT 1",
            (row.tenant, row.user_id, value, row.valid_from, row.id),
        )
    return [each.validity for each in found]


def replaced_by(connection: sqlite3.Connection, row: FactRow) -> list[Validity]:
    """The facts that it ended."""
    return [each.validity for each in rows_where(connection, "replaced_by = ?", (row.id,))]


def history_of(connection: sqlite3.Connection, row: FactRow, limit: int) -> list[Fact]:
    """All that was ever said in its line, the newest `limit` of it, by validity."""
    column, value = _line(row)
    values = {"tenant": row.tenant, "user_id": row.user_id, "value": value, "limit": limit}
    condition = f"f.tenant = :tenant AND f.user_id = :user_id AND f.{column} = :value"
    found = select_facts(connection, f"{condition} ORDER BY f.valid_from DESC, f.id DESC LIMIT :limit", values)
    return [fact for _, fact in reversed(found)]


def _line(row: FactRow) -> tuple[str, str]:
    if row.key is not None:
        return "key", row.key
    return ("line", row.line) if row.line is not None else ("fact_id", row.fact_id)


def select_facts(connection: sqlite3.Connection, rest: str, values: dict[str, Any]) -> list[tuple[int, Fact]]:
    """Facts with their keys in the truth."""
    rows = connection.execute(f"SELECT {COLUMNS} FROM facts f WHERE {rest}", values).fetchall()
    sources = _sources_of(connection, [row[0] for row in rows])
    return [(row[0], _fact(row, sources.get(row[0], []))) for row in rows]


def _sources_of(connection: sqlite3.Connection, facts: Sequence[int]) -> dict[int, list[TurnSource]]:
    ids = listed(facts)
    found: dict[int, list[TurnSource]] = {}
    for fact, session_id, turn_id, seq in connection.execute(
        "SELECT c.fact, s.session_id, t.turn_id, t.seq FROM fact_sources c JOIN turns t ON t.id = c.turn "
        "JOIN sessions s ON s.id = t.session WHERE c.fact IN (SELECT value FROM json_each(?)) ORDER BY c.fact, t.id",
        (ids,),
    ):
        found.setdefault(fact, []).append(TurnSource(session_id=session_id, turn_id=turn_id, seq=seq))
    return found


def _fact(row: Sequence[Any], sources: list[TurnSource]) -> Fact:
    return Fact(
        id=row[1],
        user_id=row[2],
        kind=row[3],
        key=row[4],
        text=row[5],
        status=row[6],
        pinned=bool(row[7]),
        valid_from=datetime.fromisoformat(row[8]),
        valid_to=_time(row[9]),
        expires_at=_time(row[10]),
        replaced_by=row[11],
        origin=row[12],
        sources=sources,
        tokens=row[13],
        created_at=datetime.fromisoformat(row[14]),
        updated_at=datetime.fromisoformat(row[15]),
    )


def _time(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)
