"""Facts as recall reads them. Those that hold at the moment that is looked from are all there is: what was superseded by then,
has expired, waits or was rejected is passed over before anything is scored, so that a long history crowds nothing out.

A fact is a user's, and no session's or agent's: a scope that names one of these has none.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from memory.facts.rows import HOLDS, NOT_EXPIRED, select_facts
from memory.truth.records import ItemKey, RecalledFact, Scope
from shared.database import Database
from shared.filters import Filter, matches
from shared.sql_values import listed, stored_time

_THERE: Final = f"f.tenant = :tenant AND f.user_id = :user_id AND f.status = 'active' AND {HOLDS} AND {NOT_EXPIRED}"


@dataclass(frozen=True, slots=True)
class FactItems:
    """Facts as they were, or will be, at `moment`."""

    database: Database
    moment: datetime

    async def passed_over(self, scope: Scope) -> frozenset[ItemKey]:
        """The scope's facts that an index has and that do not hold."""
        if not _has_facts(scope):
            return frozenset()
        values = self._values(scope)

        def unit(connection: sqlite3.Connection) -> frozenset[ItemKey]:
            rows = connection.execute(
                "SELECT f.id FROM facts f WHERE f.tenant = :tenant AND f.user_id = :user_id AND f.status = 'active' "
                f"AND NOT ({HOLDS} AND {NOT_EXPIRED})",
                values,
            )
            return frozenset(("fact", row[0]) for row in rows)

        return await self.database.read(unit)

    async def recalled(self, scope: Scope, item_ids: Sequence[int]) -> dict[int, RecalledFact]:
        """By key. The scope and the moment are asked again, so that an index can never widen them."""
        if not _has_facts(scope):
            return {}
        values = self._values(scope) | {"ids": listed(item_ids)}
        condition = f"{_THERE} AND f.id IN (SELECT value FROM json_each(:ids))"
        found = await self.database.read(lambda connection: select_facts(connection, condition, values))
        return {key: RecalledFact(key, fact) for key, fact in found}

    async def newest(
        self, scope: Scope, *, since: datetime | None, until: datetime | None, part: Filter | None, limit: int
    ) -> list[RecalledFact]:
        """Those that came true in the window, the newest first. They have no metadata, so `part` is true of all or none."""
        if not _has_facts(scope) or (part is not None and not matches(part, {})):
            return []
        values = self._values(scope) | {"since": stored_time(since), "until": stored_time(until), "limit": limit}
        condition = (
            f"{_THERE} AND (:since IS NULL OR f.valid_from >= :since) AND (:until IS NULL OR f.valid_from <= :until) "
            "ORDER BY f.valid_from DESC, f.id DESC LIMIT :limit"
        )
        found = await self.database.read(lambda connection: select_facts(connection, condition, values))
        return [RecalledFact(key, fact) for key, fact in found]

    def _values(self, scope: Scope) -> dict[str, Any]:
        return {"tenant": scope.tenant, "user_id": scope.user_id, "moment": stored_time(self.moment)}


def _has_facts(scope: Scope) -> bool:
    return scope.user_id is not None and scope.agent_id is None and scope.session is None
