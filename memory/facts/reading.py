"""Facts as they are read: listed, with their history, for a context, and checked."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from memory.facts.rows import HOLDS, NOT_EXPIRED, find_row, history_of, rows_where, select_facts
from memory.facts.timeline import line_problems
from shared.database import Database
from shared.fact_messages import FACT_HISTORY_MAX, Fact, FactRecord, FactsQuery
from shared.memory_messages import FactKind
from shared.paging import Page, number_of, numbered_page
from shared.sql_values import stored_time

# More are never read in one context: these are ten times what fits into one of 2,000 tokens, and cost 3 ms. What is beyond
# them is found by recall.
STANDING_MAX: Final = 200
KNOWN_MAX: Final = 100
_STANDS: Final = "(f.pinned OR f.kind = 'instruction')"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFact:
    """A fact as a context needs it."""

    id: int
    fact_id: str
    kind: FactKind
    text: str
    pinned: bool
    valid_from: datetime


class FactReading:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, tenant: str, fact_id: str) -> FactRecord:
        """Raises NotFound."""

        def unit(connection: sqlite3.Connection) -> FactRecord:
            row = find_row(connection, tenant, fact_id)
            ((_, fact),) = select_facts(connection, "f.id = :id", {"id": row.id})
            fields = {name: getattr(fact, name) for name in Fact.__struct_fields__}
            return FactRecord(**fields, history=history_of(connection, row, FACT_HISTORY_MAX))

        return await self._database.read(unit)

    async def page(self, tenant: str, query: FactsQuery, moment: datetime) -> Page[Fact]:
        """In the order in which they were written. Raises InvalidFields for a cursor that no page gave."""
        after = 0 if query.cursor is None else number_of(query.cursor)
        values: dict[str, Any] = {
            "tenant": tenant,
            "after": after,
            "limit": query.limit + 1,
            "moment": stored_time(moment),
            "user_id": query.user_id,
            "kind": query.kind,
            "key": query.key,
            "status": query.status,
        }

        def unit(connection: sqlite3.Connection) -> Page[Fact]:
            found = select_facts(connection, f"{_condition_of(query)} ORDER BY f.id LIMIT :limit", values)
            return numbered_page(found, query.limit)

        return await self._database.read(unit)

    async def held(self, tenant: str, user_id: str, moment: datetime) -> tuple[list[HeldFact], list[HeldFact]]:
        """What holds at `moment`: what stands in every context, pinned first; and the rest. The newest first."""
        values = {"tenant": tenant, "user_id": user_id, "moment": stored_time(moment)}

        def unit(connection: sqlite3.Connection) -> tuple[list[HeldFact], list[HeldFact]]:
            return (
                _held(connection, _STANDS, values, STANDING_MAX),
                _held(connection, f"NOT {_STANDS}", values, KNOWN_MAX),
            )

        return await self._database.read(unit)

    async def problems(self) -> tuple[int, list[str]]:
        """How many facts there are, and what is wrong with any of them."""
        return await self._database.read(_problems)


def _condition_of(query: FactsQuery) -> str:
    conditions = ["f.tenant = :tenant", "f.id > :after", "f.status = :status"]
    conditions += [f"f.{name} = :{name}" for name in ("user_id", "kind", "key") if getattr(query, name) is not None]
    # What waits or was rejected has no place in the time line.
    if query.status == "active" and not query.include_superseded:
        conditions.append(HOLDS)
    elif query.status == "active" and query.as_of is not None:
        conditions.append("f.valid_from <= :moment")
    if not query.include_expired:
        conditions.append(NOT_EXPIRED)
    return " AND ".join(conditions)


def _held(connection: sqlite3.Connection, condition: str, values: dict[str, Any], limit: int) -> list[HeldFact]:
    rows = connection.execute(
        "SELECT f.id, f.fact_id, f.kind, f.text, f.pinned, f.valid_from FROM facts f WHERE f.tenant = :tenant "
        f"AND f.user_id = :user_id AND f.status = 'active' AND {HOLDS} AND {NOT_EXPIRED} AND {condition} "
        f"ORDER BY f.pinned DESC, f.valid_from DESC, f.id DESC LIMIT {limit}",
        values,
    )
    return [
        HeldFact(
            id=row[0],
            fact_id=row[1],
            kind=row[2],
            text=row[3],
            pinned=bool(row[4]),
            valid_from=datetime.fromisoformat(row[5]),
        )
        for row in rows
    ]


def _problems(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    active = rows_where(connection, "status = 'active' ORDER BY tenant, user_id, key, line, fact_id", ())
    found: list[str] = []
    lines = groupby(
        active,
        key=lambda row: (row.tenant, row.user_id, row.key, row.line, None if row.key or row.line else row.fact_id),
    )
    for line, rows in lines:
        found += [f"user {line[1]!r}: {problem}" for problem in line_problems([row.validity for row in rows])]
    for condition, text in _EXPECTED:
        rows = connection.execute(f"SELECT f.id FROM facts f WHERE {condition} LIMIT 10")
        found += [f"fact {row[0]} {text}" for row in rows]
    return connection.execute("SELECT count(*) FROM facts").fetchone()[0], found


_OP: Final = "SELECT o.kind FROM ops o WHERE o.item_kind = 'fact' AND o.item_id = f.id AND o.kind <> 'vector' "
_WAITS: Final = "EXISTS (SELECT 1 FROM pending p WHERE p.item_kind = 'fact' AND p.item_id = f.id)"
_EXPECTED: Final = (
    (f"f.status = 'active' AND ({_OP} ORDER BY o.seq DESC LIMIT 1) <> 'add'", "is gone from ops"),
    (f"f.status <> 'active' AND ({_OP} ORDER BY o.seq DESC LIMIT 1) = 'add'", "is still in ops"),
    (f"f.status <> 'active' AND {_WAITS}", "waits for a vector, and is not active"),
    ("f.derived AND NOT EXISTS (SELECT 1 FROM fact_sources c WHERE c.fact = f.id)", "came from turns that are gone"),
    ("f.status <> 'active' AND (f.valid_to IS NOT NULL OR f.replaced_by IS NOT NULL)", "ends, and is not active"),
)
