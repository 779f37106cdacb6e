"""Facts as recall reads them. Those that hold at the moment that is looked from are all there is: what was superseded by then,
has expired, waits or was rejected is passed over before anything is scored, so that a long history crowds nothing out.

A fact is a user's, and no session's or agent's: a scope that names one of these has none.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from memory.fact_rows import HOLDS, NOT_EXPIRED, select_facts
from memory.records import Scope
from memory.store import stored_time
from shared.database import Database
from shared.fact_messages import Fact

# What an index reads of a fact, as expressions in SQL. Its time is when it came true; it has no speaker and no neighbours.
FACT_SOURCE: Final = {
    "rows": "(SELECT * FROM facts WHERE status = 'active') f",
    "id": "f.id",
    "tenant": "f.tenant",
    "user_id": "f.user_id",
    "agent_id": "NULL",
    "session": "NULL",
    "position": "NULL",
    "role": "''",
    "name": "NULL",
    "text": "f.text",
    "created_at": "f.valid_from",
    "metadata": "'{}'",
}
_THERE: Final = f"f.tenant = :tenant AND f.user_id = :user_id AND f.status = 'active' AND {HOLDS} AND {NOT_EXPIRED}"


@dataclass(frozen=True, slots=True)
class RecalledFact:
    id: int
    fact: Fact

    @property
    def created_at(self) -> datetime:
        return self.fact.valid_from


class FactItems:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def passed_over(self, scope: Scope, moment: datetime) -> set[int]:
        """Keys of the scope's facts that an index holds and that do not hold at `moment`."""
        if not _has_facts(scope):
            return set()
        values = _values(scope, moment)

        def unit(connection: sqlite3.Connection) -> set[int]:
            rows = connection.execute(
                "SELECT f.id FROM facts f WHERE f.tenant = :tenant AND f.user_id = :user_id AND f.status = 'active' "
                f"AND NOT ({HOLDS} AND {NOT_EXPIRED})",
                values,
            )
            return {row[0] for row in rows}

        return await self._database.read(unit)

    async def recalled(self, scope: Scope, item_ids: Sequence[int], *, moment: datetime) -> dict[int, RecalledFact]:
        """By key. The scope and the moment are asked again, so that an index can never widen them."""
        if not _has_facts(scope):
            return {}
        values = _values(scope, moment) | {"ids": msgspec.json.encode(list(item_ids)).decode()}
        condition = f"{_THERE} AND f.id IN (SELECT value FROM json_each(:ids))"
        found = await self._database.read(lambda connection: select_facts(connection, condition, values))
        return {key: RecalledFact(key, fact) for key, fact in found}

    async def newest(
        self, scope: Scope, *, moment: datetime, since: datetime | None, until: datetime | None, limit: int
    ) -> list[RecalledFact]:
        """Those that came true in the window, the newest first."""
        if not _has_facts(scope):
            return []
        values = _values(scope, moment) | {"since": stored_time(since), "until": stored_time(until), "limit": limit}
        condition = (
            f"{_THERE} AND (:since IS NULL OR f.valid_from >= :since) AND (:until IS NULL OR f.valid_from <= :until) "
            "ORDER BY f.valid_from DESC, f.id DESC LIMIT :limit"
        )
        found = await self._database.read(lambda connection: select_facts(connection, condition, values))
        return [RecalledFact(key, fact) for key, fact in found]


def _has_facts(scope: Scope) -> bool:
    return scope.user_id is not None and scope.agent_id is None and scope.session is None


def _values(scope: Scope, moment: datetime) -> dict[str, Any]:
    return {"tenant": scope.tenant, "user_id": scope.user_id, "moment": stored_time(moment)}
