"""Forgetting, verified: the erase in one transaction, then the bytes, then a second look, and only then the answer.

The transaction takes the rows and everything derived from them, makes spans anew, and writes the audit record. After it the
log is emptied and the unused space of the file is searched for what was erased; where SQLite left a copy behind, the file is
written anew (VACUUM). What a crash keeps from this stands unsettled in `audit`, and the next start does it.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from memory.compaction.span_text import Composed
from memory.forgetting.audit import Action, Audit, record_erasure
from memory.forgetting.erasure import Plan, bytes_of, erase, left_of, plan_erasure, prepare
from memory.forgetting.remnants import Needles, page_bytes_of, unused
from memory.forgetting.selection import Selection
from memory.recall.indexes import ScopeIndexes
from shared.database import Database
from shared.errors import ServiceError
from shared.forgetting_messages import AuditScope
from shared.memory_messages import EraseReport
from shared.threads import run_in

log = structlog.get_logger()

# A reader that holds the log longer than this together is stuck; its log is emptied with a later erase, or at the next start.
_EMPTY_TRIES: Final = 200
_EMPTY_PAUSE_S: Final = 0.05
# Read at once, and searched while others use the interpreter.
_SCAN_PAGES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be forgotten, who asked, and how the audit record names it."""

    selection: Selection
    scope: AuditScope
    action: Action = "forget"
    key_id: str | None = None


class Forgetting:
    """One erase at a time: they share the file."""

    def __init__(
        self,
        database: Database,
        audit: Audit,
        indexes: ScopeIndexes,
        *,
        threads: ThreadPoolExecutor,
        span_share: float,
        on_spans: Callable[[], None],
    ) -> None:
        """`on_spans` hears of spans that were made anew, which have no vectors yet."""
        self._database = database
        self._audit = audit
        self._indexes = indexes
        self._threads = threads
        self._share = span_share
        self._on_spans = on_spans
        self._turn = asyncio.Lock()

    async def dry_run(self, order: Order) -> EraseReport:
        """What `forget` would erase now."""
        plan = await self._database.read(lambda connection: plan_erasure(connection, order.selection))
        return _report(plan, dry_run=True)

    async def forget(self, order: Order) -> EraseReport:
        """Returns when nothing of it is left, or with `verified` false where something is."""
        async with self._turn:
            prepared = await self._database.read(lambda connection: self._prepared(connection, order.selection))

            def unit(connection: sqlite3.Connection) -> tuple[Plan, list[bytes], int]:
                plan = plan_erasure(connection, order.selection)
                erased = bytes_of(connection, plan)
                erase(connection, plan, share=self._share, prepared=prepared)
                report = _report(plan, dry_run=False)
                key = record_erasure(
                    connection,
                    tenant=order.selection.tenant,
                    key_id=order.key_id,
                    action=order.action,
                    scope=order.scope,
                    report=report,
                )
                return plan, erased, key

            plan, erased, key = await self._database.write(unit)
            owners = plan.owners
            self._indexes.drop(
                order.selection.tenant, sessions=owners.sessions, users=owners.users, agents=owners.agents
            )
            if plan.spans_remade:
                self._on_spans()
            return await self._verified(plan, key, await run_in(self._threads, Needles, erased))

    async def settle(self) -> None:
        """Ends what a crash interrupted: what is gone from the tables goes from the file. Nobody has an answer of it, so its
        record stays without a verdict."""
        async with self._turn:
            if unsettled := await self._audit.unsettled():
                await self._database.vacuum()
                if await self._log_emptied():
                    await self._audit.settle(unsettled)

    def _prepared(self, connection: sqlite3.Connection, selection: Selection) -> dict[bytes, Composed]:
        return prepare(connection, plan_erasure(connection, selection), share=self._share)

    async def _verified(self, plan: Plan, key: int, needles: Needles) -> EraseReport:
        left = await self._database.read(lambda connection: left_of(connection, plan))
        is_gone = plan.is_empty or await self._bytes_gone(needles)
        report = msgspec.structs.replace(_report(plan, dry_run=False), verified=left == 0 and is_gone)
        if not report.verified:
            log.error("erase_not_verified", left=left, bytes_gone=is_gone)
        await self._audit.conclude(key, report, settled=is_gone)
        return report

    async def _bytes_gone(self, needles: Needles) -> bool:
        if not await self._log_emptied():
            return False
        if not await run_in(self._threads, self._remains, needles):
            return True
        try:
            await self._database.vacuum()
        except ServiceError as error:  # the rows are gone all the same; the next start tries again
            log.warning("file_not_written_anew", error=error.detail)
            return False
        # What was erased cannot be in a file made from the tables alone; words that live elsewhere may be in its unused space.
        return await self._log_emptied()

    async def _log_emptied(self) -> bool:
        for _ in range(_EMPTY_TRIES):
            if await self._database.empty_log():
                return True
            await asyncio.sleep(_EMPTY_PAUSE_S)
        return False

    def _remains(self, needles: Needles) -> bool:
        """Whether any of it lies in the unused space of the file. Blocking."""
        if not len(needles):
            return False
        page_bytes = page_bytes_of(self._database.raw(0, 100))
        step = _SCAN_PAGES * page_bytes
        return any(
            needles.are_in(unused(self._database.raw(start, step), page_bytes, at_start=start == 0))
            for start in range(0, self._database.file_bytes, step)
        )


def _report(plan: Plan, *, dry_run: bool) -> EraseReport:
    return EraseReport(
        turns=len(plan.keys("turn")),
        spans_remade=plan.spans_remade,
        facts=len(plan.facts),
        vectors=plan.vectors,
        sessions=len(plan.sessions),
        feedback=len(plan.feedback),
        verified=False,
        dry_run=dry_run,
    )
