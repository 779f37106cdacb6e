"""The truth in SQL about facts. Each method is one unit of work, and starts from the tenant.

A value is never overwritten: another of its key stands beside it, and their validities say which holds when
(memory/facts/timeline.py). Only what is no part of the value changes in place: pinning, expiry, approval. A fact that waits for
approval, or was rejected, has no place in the time line and is unknown to recall.
"""

import sqlite3
from typing import Final

from memory.facts.changes import change_fact
from memory.facts.likeness import near_duplicates, text_hash
from memory.facts.rows import FactRow, find_row_or_none, rows_where
from memory.facts.writes import NewFact, activate, add_sources, insert_fact, line_for
from shared.database import Database
from shared.errors import Conflict, invalid
from shared.fact_messages import FactAnswer, FactIn, FactPatch, FactStatus, FactTurn
from shared.sql_values import now_stored, stored_time

# The newest are looked through for near-duplicates: up to 20 ms of a reading thread.
_COMPARED_MAX: Final = 2000


class Facts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, tenant: str, new: NewFact) -> FactAnswer:
        """Raises Conflict for an id that is taken by another fact, InvalidFields for a source that is not the user's."""
        return await self._database.write(lambda connection: _put(connection, tenant, new))

    async def similar(self, tenant: str, user_id: str, fact_id: str, text: str) -> list[str]:
        """Other facts of the user that say nearly the same: ones that hold or will, and ones that wait for approval."""

        def unit(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT fact_id, text FROM facts WHERE tenant = ? AND user_id = ? AND fact_id <> ? AND status <> 'rejected' "
                "AND (valid_to IS NULL OR valid_to > ?) AND (expires_at IS NULL OR expires_at > ?) ORDER BY id DESC LIMIT ?",
                (tenant, user_id, fact_id, now := now_stored(), now, _COMPARED_MAX),
            )
            return near_duplicates(text, rows)

        return await self._database.read(unit)

    async def change(self, tenant: str, fact_id: str, patch: FactPatch, *, status_of_text: FactStatus) -> str:
        """The id of the fact as it is now: another than `fact_id` where its text was corrected.

        Raises NotFound, and Conflict for what its status does not allow.
        """
        return await self._database.write(
            lambda connection: change_fact(connection, tenant, fact_id, patch, status_of_text)
        )

    async def is_rejected(self, tenant: str, user_id: str, text: str) -> bool:
        """Whether somebody has decided against exactly this."""

        def unit(connection: sqlite3.Connection) -> bool:
            found = connection.execute(
                "SELECT 1 FROM facts WHERE tenant = ? AND user_id = ? AND text_hash = ? AND status = 'rejected'",
                (tenant, user_id, text_hash(text)),
            )
            return found.fetchone() is not None

        return await self._database.read(unit)


def _put(connection: sqlite3.Connection, tenant: str, new: NewFact) -> FactAnswer:
    given = new.given
    if given.id is not None and (row := find_row_or_none(connection, tenant, given.id)) is not None:
        if _content_hash(connection, row) != new.content_hash:
            raise Conflict(f"$.id: the id {given.id!r} is taken by a fact with other content")
        return FactAnswer(id=row.fact_id, status="pending" if row.status == "pending" else "unchanged")
    turns = [_turn(connection, tenant, given, turn, index) for index, turn in enumerate(given.sources or ())]
    since, now = stored_time(given.valid_from), now_stored()
    twin = _twin(connection, tenant, given, new.status, since or now)
    if twin is not None and _says_no_more(twin, given):
        add_sources(connection, twin.id, turns)
        if not turns:  # said again without them, it stands by itself
            connection.execute("UPDATE facts SET derived = 0 WHERE id = ?", (twin.id,))
        return FactAnswer(id=twin.fact_id, status="pending" if twin.status == "pending" else "unchanged")
    line = None
    if twin is not None and twin.status == "active" and given.key is None:
        line = line_for(connection, twin)
    row = insert_fact(connection, tenant, new, since=since or now, now=now, line=line)
    add_sources(connection, row.id, turns)
    if new.status != "active":
        return FactAnswer(id=row.fact_id, status="pending")
    ended = activate(connection, row)
    return FactAnswer(id=row.fact_id, status="superseded" if ended else "created", replaced=ended)


def _twin(
    connection: sqlite3.Connection, tenant: str, given: FactIn, status: FactStatus, moment: str
) -> FactRow | None:
    """The fact that says the same, and holds at `moment`; or waits for approval, as the new one would."""
    found = rows_where(
        connection,
        "tenant = ? AND user_id = ? AND text_hash = ? AND kind = ? AND key IS ? AND (expires_at IS NULL OR expires_at > ?) "
        "AND ((status = 'active' AND valid_from <= ? AND (valid_to IS NULL OR valid_to > ?)) OR (status = 'pending' AND ?)) "
        "ORDER BY status, id LIMIT 1",
        (
            *(tenant, given.user_id, text_hash(given.text), given.kind, given.key),
            *(moment, moment, moment, status == "pending"),
        ),
    )
    return found[0] if found else None


def _says_no_more(twin: FactRow, given: FactIn) -> bool:
    return twin.pinned == given.pinned and twin.expires_at == stored_time(given.expires_at)


def _turn(connection: sqlite3.Connection, tenant: str, given: FactIn, turn: FactTurn, index: int) -> int:
    """The turn's key. One of a session that is another user's is as missing as one that does not exist."""
    found = connection.execute(
        "SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session WHERE s.tenant = ? AND s.session_id = ? "
        "AND t.turn_id = ? AND (s.user_id IS NULL OR s.user_id = ?)",
        (tenant, turn.session_id, turn.turn_id, given.user_id),
    ).fetchone()
    if found is None:
        message = f"there is no turn {turn.turn_id!r} in a session {turn.session_id!r} of this user"
        raise invalid(f"$.sources[{index}]", message)
    key: int = found[0]
    return key


def _content_hash(connection: sqlite3.Connection, row: FactRow) -> bytes:
    found: bytes = connection.execute("SELECT content_hash FROM facts WHERE id = ?", (row.id,)).fetchone()[0]
    return found
