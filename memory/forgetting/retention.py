"""What is not kept for ever: limits of age and number, by tenant and by session, and the job that erases what is past them.

Where a tenant and a session both have a limit, the stricter holds. The age of a turn is that of its `created_at`.
"""

import asyncio
import sqlite3
from datetime import UTC, datetime
from typing import Final

import structlog

from memory.forgetting.forgetting import Forgetting, Order
from memory.forgetting.selection import Selection
from shared.database import Database
from shared.errors import ServiceError
from shared.forgetting_messages import AuditScope
from shared.memory_messages import EraseReport, Retention
from shared.sql_values import stored_time
from shared.tasks import ended

log = structlog.get_logger()

# One transaction and one audit record each. Writers wait for it.
_TURNS_AT_ONCE: Final = 2000
_RETRY_S: Final = 15.0

# An absent limit is no number, and min() of SQL is null where one of its values is.
_OVERDUE: Final = """
    WITH limits AS (
        SELECT s.id, s.tenant,
            min(coalesce(s.retain_days_max, r.days_max), coalesce(r.days_max, s.retain_days_max)) AS days,
            min(coalesce(s.retain_turns_max, r.turns_max), coalesce(r.turns_max, s.retain_turns_max)) AS turns
        FROM sessions s LEFT JOIN retention r ON r.tenant = s.tenant
        WHERE coalesce(s.retain_days_max, s.retain_turns_max, r.days_max, r.turns_max) IS NOT NULL
    )
    SELECT tenant, id FROM (
        SELECT l.tenant, l.days, l.turns, t.id, t.created_at,
            row_number() OVER (PARTITION BY t.session ORDER BY t.seq DESC) AS place
        FROM limits l JOIN turns t ON t.session = l.id
    )
    WHERE created_at < strftime('%Y-%m-%dT%H:%M:%f', ?, '-' || days || ' days') OR place > turns
    ORDER BY tenant, id LIMIT ?
"""

# A tenant's limit of age is feedback's too, by its newest judgment: what it judged may be facts, which have no age.
_OVERDUE_FEEDBACK: Final = """
    SELECT r.tenant, f.id FROM retention r JOIN feedback f ON f.tenant = r.tenant
    WHERE f.judged_at < strftime('%Y-%m-%dT%H:%M:%f', ?, '-' || r.days_max || ' days') ORDER BY r.tenant, f.id LIMIT ?
"""


class Retentions:
    """The truth in SQL about limits, and what is past them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, tenant: str, retention: Retention) -> None:
        def unit(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT OR REPLACE INTO retention (tenant, days_max, turns_max) VALUES (?, ?, ?)",
                (tenant, retention.days_max, retention.turns_max),
            )

        await self._database.write(unit)

    async def get(self, tenant: str) -> Retention:
        found = await self._database.read(
            lambda connection: connection.execute(
                "SELECT days_max, turns_max FROM retention WHERE tenant = ?", (tenant,)
            ).fetchone()
        )
        return Retention(days_max=found[0], turns_max=found[1]) if found else Retention()

    async def overdue(self, now: datetime, limit: int) -> dict[str, list[int]]:
        """Keys of turns by tenant."""
        return await self._overdue(_OVERDUE, now, limit)

    async def overdue_feedback(self, now: datetime, limit: int) -> dict[str, list[int]]:
        """Keys of feedback by tenant."""
        return await self._overdue(_OVERDUE_FEEDBACK, now, limit)

    async def _overdue(self, statement: str, now: datetime, limit: int) -> dict[str, list[int]]:
        def unit(connection: sqlite3.Connection) -> dict[str, list[int]]:
            found: dict[str, list[int]] = {}
            for tenant, key in connection.execute(statement, (stored_time(now), limit)):
                found.setdefault(tenant, []).append(key)
            return found

        return await self._database.read(unit)


class RetentionJob:
    """One task for all tenants. First it ends what a crash left unsettled."""

    def __init__(self, retentions: Retentions, forgetting: Forgetting, *, interval_s: float) -> None:
        self._retentions = retentions
        self._forgetting = forgetting
        self._interval_s = interval_s
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._work(), name="retain")

    async def close(self) -> None:
        await ended(self._task)

    def wake(self) -> None:
        """Tells that a limit has changed."""
        self._woken.set()

    async def erase_overdue(self, now: datetime) -> int:
        """How many turns went."""
        erased = 0
        while overdue := await self._retentions.overdue(now, _TURNS_AT_ONCE):
            for tenant, keys in overdue.items():
                report = await self._erase(Selection(tenant=tenant, turns=tuple(keys)), len(keys))
                erased += report.turns
        while overdue := await self._retentions.overdue_feedback(now, _TURNS_AT_ONCE):
            for tenant, keys in overdue.items():
                await self._erase(Selection(tenant=tenant, feedback=tuple(keys)), len(keys))
        return erased

    async def _erase(self, selection: Selection, count: int) -> EraseReport:
        return await self._forgetting.forget(Order(selection=selection, scope=AuditScope(ids=count), action="retain"))

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self._forgetting.settle()
                if erased := await self.erase_overdue(datetime.now(UTC)):
                    log.info("retention_erased", turns=erased)
            except ServiceError as error:
                log.warning("retention_put_off", error=error.detail)
                await asyncio.sleep(_RETRY_S)
                continue
            except Exception:  # a worker's loop: what is overdue stays overdue
                log.exception("retention_failed")
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._woken.wait()
            except TimeoutError:
                continue
