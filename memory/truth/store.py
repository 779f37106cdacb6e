"""The truth in SQL: sessions, and their turns in order.

Each method is one unit of work, whole and atomic. Every query starts from the tenant, so that nothing crosses between
tenants, and what is read belongs to a named user, agent or session.
"""

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from memory.truth.records import SessionRow
from memory.truth.turn_writes import append_turns
from shared.database import Database
from shared.errors import Conflict, NotFound
from shared.memory_messages import (
    AppendAnswer,
    AppendRequest,
    Policy,
    Retention,
    Session,
    SessionSpec,
    Turn,
    TurnsQuery,
)
from shared.paging import Page, number_of, page_of
from shared.sql_values import now_stored, stored_time

# One value, since Python's sqlite3 lets the interpreter go once for each that it reads, and every append reads a session.
SESSION_JSON = (
    "json_object('id', id, 'tenant', tenant, 'session_id', session_id, 'user_id', user_id, 'agent_id', agent_id, "
    "'policy', json(policy), 'last_seq', last_seq, 'tail_tokens', tail_tokens)"
)
# Sorts behind every stored time.
FOREVER = "~"
TURN_COLUMNS = "turn_id, seq, role, content, name, created_at, metadata, tokens"


class Store:
    def __init__(self, database: Database) -> None:
        self.database = database

    async def put_session(
        self, tenant: str, session_id: str, spec: SessionSpec, *, only_of: str | None = None
    ) -> Session:
        """Raises Conflict where a session that has turns would change hands, NotFound where it is not of the user `only_of`."""

        def unit(connection: sqlite3.Connection) -> Session:
            row = _open_session(connection, tenant, session_id, spec.user_id, spec.agent_id, only_of)
            changes = {
                "title": spec.title,
                "policy": spec.policy and msgspec.json.encode(spec.policy).decode(),
                "metadata": None if spec.metadata is None else msgspec.json.encode(spec.metadata).decode(),
            }
            for column, value in changes.items():
                if value is not None:
                    connection.execute(f"UPDATE sessions SET {column} = ? WHERE id = ?", (value, row.id))
            if spec.retention is not None:
                connection.execute(
                    "UPDATE sessions SET retain_days_max = ?, retain_turns_max = ? WHERE id = ?",
                    (spec.retention.days_max, spec.retention.turns_max, row.id),
                )
            connection.execute("UPDATE sessions SET updated_at = ? WHERE id = ?", (now_stored(), row.id))
            return _describe(connection, row.id)

        return await self.database.write(unit)

    async def session(self, tenant: str, session_id: str, *, user_id: str | None = None) -> SessionRow:
        """Raises NotFound, also where the session is another user's than `user_id`."""
        return await self.database.read(lambda connection: _find_session(connection, tenant, session_id, user_id))

    async def describe(self, row: SessionRow) -> Session:
        return await self.database.read(lambda connection: _describe(connection, row.id))

    async def session_page(
        self, tenant: str, *, user_id: str | None, agent_id: str | None, cursor: str | None, limit: int
    ) -> Page[Session]:
        def unit(connection: sqlite3.Connection) -> Page[Session]:
            rows = connection.execute(
                "SELECT id FROM sessions WHERE tenant = ? AND (? IS NULL OR user_id = ?) "
                "AND (? IS NULL OR agent_id = ?) AND session_id > ? ORDER BY session_id LIMIT ?",
                (tenant, user_id, user_id, agent_id, agent_id, cursor or "", limit + 1),
            ).fetchall()
            return page_of([_describe(connection, row[0]) for row in rows], limit, key=lambda session: session.id)

        return await self.database.read(unit)

    async def append(
        self, tenant: str, session_id: str, request: AppendRequest, *, only_of: str | None = None
    ) -> AppendAnswer:
        """All turns of the batch or none, in order, with nothing of another batch between them.

        Raises Conflict where an id is taken by other content, or the session is somebody else's; NotFound where it is not of
        the user `only_of`.
        """

        def unit(connection: sqlite3.Connection) -> AppendAnswer:
            row = _open_session(connection, tenant, session_id, request.user_id, request.agent_id, only_of)
            now = now_stored()
            moments = [stored_time(turn.created_at) or now for turn in request.turns]
            appended = append_turns(connection, row, request.turns, moments=moments, now=now)
            tail_tokens = row.tail_tokens + appended.tokens
            connection.execute(
                "UPDATE sessions SET last_seq = ?, updated_at = ?, tail_tokens = ? WHERE id = ?",
                (appended.last_seq, now, tail_tokens, row.id),
            )
            is_full = tail_tokens > row.policy.tail_tokens_max
            return AppendAnswer(
                turns=appended.turns, tail_tokens=tail_tokens, compaction="queued" if is_full else "none"
            )

        return await self.database.write(unit)

    async def turn_page(self, row: SessionRow, query: TurnsQuery) -> Page[Turn]:
        """In order. Raises InvalidFields for a cursor that no page gave."""
        after = query.after or 0
        if query.cursor is not None:
            after = max(after, number_of(query.cursor))

        def unit(connection: sqlite3.Connection) -> Page[Turn]:
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?",
                (row.id, after, 2**62 if query.before is None else query.before, query.limit + 1),
            ).fetchall()
            return page_of([turn_of(found) for found in rows], query.limit, key=lambda turn: str(turn.seq))

        return await self.database.read(unit)

    async def turns_before(self, row: SessionRow, *, before: int | None, limit: int) -> list[Turn]:
        """The newest turns in front of a number, or of all, in order."""

        def unit(connection: sqlite3.Connection) -> list[Turn]:
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
                (row.id, 2**62 if before is None else before, limit),
            ).fetchall()
            return [turn_of(found) for found in reversed(rows)]

        return await self.database.read(unit)

    async def tail(self, row: SessionRow, *, tokens_max: int, as_of: datetime | None) -> list[Turn]:
        """The newest turns of the session's tail, oldest first, a little more than `tokens_max` of them. With `as_of`, the
        tail as it was read then: what is folded into a span that holds something later counts to it."""
        moment = stored_time(as_of) or FOREVER

        def unit(connection: sqlite3.Connection) -> list[Turn]:
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session = :session AND created_at <= :moment AND seq > "
                "(SELECT coalesce(max(last_seq), 0) FROM spans WHERE session = :session AND level = 0 AND until <= :moment) "
                "ORDER BY seq DESC",
                {"session": row.id, "moment": moment},
            )
            found: list[Turn] = []
            total = 0
            for raw in rows:
                found.append(turn_of(raw))
                total += found[-1].tokens
                if total > tokens_max:
                    break
            return found[::-1]

        return await self.database.read(unit)


def _open_session(
    connection: sqlite3.Connection,
    tenant: str,
    session_id: str,
    user_id: str | None,
    agent_id: str | None,
    only_of: str | None,
) -> SessionRow:
    """The session, made where it is missing. Raises Conflict where it has turns of another owner, and NotFound where it is
    there, and not of the user `only_of`."""
    try:
        row = _find_session(connection, tenant, session_id, None)
    except NotFound:
        now = now_stored()
        connection.execute(
            "INSERT INTO sessions (tenant, session_id, user_id, agent_id, title, policy, metadata, created_at, updated_at) "
            "VALUES (?, ?, ?, ?, '', ?, '{}', ?, ?)",
            (tenant, session_id, user_id, agent_id, msgspec.json.encode(Policy()).decode(), now, now),
        )
        row = _find_session(connection, tenant, session_id, None)
    else:
        if only_of is not None and row.user_id != only_of:
            raise NotFound(
                f"there is no session {session_id!r} of the user {only_of!r}, and the id is taken; use another"
            )
    changes = {
        name: given
        for name, given, own in (("user_id", user_id, row.user_id), ("agent_id", agent_id, row.agent_id))
        if given not in {None, own}
    }
    if not changes:
        return row
    if row.last_seq:
        raise Conflict(f"session {session_id!r} has turns under another {next(iter(changes))}; use another session")
    for name, given in changes.items():
        connection.execute(f"UPDATE sessions SET {name} = ? WHERE id = ?", (given, row.id))
    return _find_session(connection, tenant, session_id, None)


def _find_session(connection: sqlite3.Connection, tenant: str, session_id: str, user_id: str | None) -> SessionRow:
    found = connection.execute(
        f"SELECT {SESSION_JSON} FROM sessions WHERE tenant = ? AND session_id = ? AND (? IS NULL OR user_id = ?)",
        (tenant, session_id, user_id, user_id),
    ).fetchone()
    if found is None:
        raise NotFound(f"there is no session {session_id!r}")
    return session_row(found)


def session_row(row: Sequence[Any]) -> SessionRow:
    """Of `SESSION_JSON`."""
    return msgspec.json.decode(row[0], type=SessionRow)


def _describe(connection: sqlite3.Connection, session: int) -> Session:
    row = connection.execute(
        "SELECT session_id, user_id, agent_id, title, policy, metadata, last_seq, created_at, updated_at, tail_tokens, "
        "retain_days_max, retain_turns_max, "
        "(SELECT coalesce(sum(e.last_seq - e.first_seq + 1), 0) FROM erased e WHERE e.session = s.id) "
        "FROM sessions s WHERE id = ?",
        (session,),
    ).fetchone()
    return Session(
        id=row[0],
        user_id=row[1],
        agent_id=row[2],
        title=row[3],
        policy=msgspec.json.decode(row[4], type=Policy),
        metadata=msgspec.json.decode(row[5]),
        retention=Retention(days_max=row[10], turns_max=row[11]) if row[10] or row[11] else None,
        turns=row[6] - row[12],
        tail_tokens=row[9],
        created_at=datetime.fromisoformat(row[7]),
        updated_at=datetime.fromisoformat(row[8]),
    )


def turn_of(row: tuple[str, ...]) -> Turn:
    return msgspec.convert(
        {
            "id": row[0],
            "seq": row[1],
            "role": row[2],
            "content": row[3],
            "name": row[4],
            "created_at": row[5],
            "metadata": msgspec.json.decode(row[6]),
            "tokens": row[7],
        },
        Turn,
    )
