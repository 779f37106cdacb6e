"""Who erased how much of what, and when: kept with the erase, in its very transaction, and without what was erased.

Ids of users and sessions stand in it as digests: whoever knows an id can ask for it, and nobody can read it there. The
digest of an id that is easy to guess can be guessed, as with any digest.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from shared.database import Database
from shared.forgetting_messages import AuditEntry, AuditQuery, AuditScope
from shared.memory_messages import EraseReport
from shared.paging import Page, number_of, page_of
from shared.sql_values import inserted_key, now_stored

Action = Literal["forget", "retain"]

_DIGEST_BYTES: Final = 16


def digest_of(tenant: str, kind: Literal["user", "session"], name: str) -> str:
    return hashlib.sha256(f"{tenant}\0{kind}\0{name}".encode()).hexdigest()[: 2 * _DIGEST_BYTES]


def record_erasure(
    connection: sqlite3.Connection,
    *,
    tenant: str,
    key_id: str | None,
    action: Action,
    scope: AuditScope,
    report: EraseReport,
) -> int:
    """Its key. Not settled: the bytes are not looked for yet."""
    cursor = connection.execute(
        "INSERT INTO audit (at, tenant, key_id, action, scope, report) VALUES (?, ?, ?, ?, ?, ?)",
        (now_stored(), tenant, key_id, action, _text(scope), _text(report)),
    )
    return inserted_key(cursor)


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def conclude(self, key: int, report: EraseReport, *, settled: bool) -> None:
        """Says what the second look found."""

        def unit(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE audit SET report = ?, settled = ? WHERE id = ?", (_text(report), settled, key))

        await self._database.write(unit)

    async def unsettled(self) -> list[int]:
        """Keys of erasures whose bytes may still lie in the file."""
        return await self._database.read(
            lambda connection: [row[0] for row in connection.execute("SELECT id FROM audit WHERE NOT settled")]
        )

    async def settle(self, keys: Sequence[int]) -> None:
        def unit(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE audit SET settled = 1 WHERE id = ?", [(key,) for key in keys])

        await self._database.write(unit)

    async def page(self, tenant: str, query: AuditQuery) -> Page[AuditEntry]:
        """Oldest first. Raises InvalidFields for a cursor that no page gave."""
        after = 0 if query.cursor is None else number_of(query.cursor)
        user = None if query.user_id is None else digest_of(tenant, "user", query.user_id)
        session = None if query.session_id is None else digest_of(tenant, "session", query.session_id)

        def unit(connection: sqlite3.Connection) -> Page[AuditEntry]:
            rows = connection.execute(
                "SELECT id, at, action, key_id, scope, report FROM audit WHERE tenant = ? AND id > ? "
                "AND (? IS NULL OR json_extract(scope, '$.user') = ?) "
                "AND (? IS NULL OR json_extract(scope, '$.session') = ?) ORDER BY id LIMIT ?",
                (tenant, after, user, user, session, session, query.limit + 1),
            ).fetchall()
            return page_of([_entry(row) for row in rows], query.limit, key=lambda entry: str(entry.id))

        return await self._database.read(unit)


def _entry(row: tuple[int, str, Action, str | None, str, str]) -> AuditEntry:
    return AuditEntry(
        id=row[0],
        at=datetime.fromisoformat(row[1]),
        action=row[2],
        key_id=row[3],
        scope=msgspec.json.decode(row[4], type=AuditScope),
        report=msgspec.json.decode(row[5], type=EraseReport),
    )


def _text(message: msgspec.Struct) -> str:
    return msgspec.json.encode(message).decode()
