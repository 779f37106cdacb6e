"""Facts of an import as rows of the truth, each by itself. Blocking: for the thread that writes.

What is there already is compared and never changed. A fact that came from turns goes in only where they are.
"""

import sqlite3

from memory.import_records import Refused, Tally
from memory.store import stored_time
from shared.memory_records import ExportedFact
from shared.tokens import estimate_tokens


class ImportFacts:
    """Facts into one tenant. With `user_id` they become that user's. `sessions` are those that this import created."""

    def __init__(self, tenant: str, *, user_id: str | None, sessions: set[str], tally: Tally) -> None:
        self._tenant = tenant
        self._user_id = user_id
        self._sessions = sessions
        self._tally = tally
        self._links: list[tuple[int, str]] = []

    def put(self, connection: sqlite3.Connection, number: int, fact: ExportedFact) -> None:
        try:
            is_new = self._put(connection, fact)
        except Refused as error:
            self._tally.refuse(number, fact, error)
            self._tally.refused["fact"] += 1
        else:
            (self._tally.created if is_new else self._tally.unchanged)["fact"] += 1

    def link(self, connection: sqlite3.Connection) -> None:
        """After the last fact, because a fact stands before the one that took its place."""
        connection.executemany(
            "UPDATE facts SET replaced_by = (SELECT id FROM facts WHERE tenant = ? AND fact_id = ?) WHERE id = ?",
            [(self._tenant, name, fact) for fact, name in self._links],
        )

    def _put(self, connection: sqlite3.Connection, fact: ExportedFact) -> bool:
        """Whether it is new. Raises Refused."""
        user_id = self._user_id or fact.user_id
        wanted = (user_id, fact.kind, fact.key, bytes.fromhex(fact.content_hash), stored_time(fact.valid_from))
        found = connection.execute(
            "SELECT user_id, kind, key, content_hash, valid_from FROM facts WHERE tenant = ? AND fact_id = ?",
            (self._tenant, fact.id),
        ).fetchone()
        if found is not None:
            if found != wanted:
                raise Refused("its id is that of another fact")
            return False
        is_current = fact.key is not None and fact.valid_to is None and fact.status == "active"
        if is_current and self._has_current(connection, user_id, fact.key):
            raise Refused(f"the key {fact.key!r} has another value that holds now")
        turns = [self._source(connection, source.session_id, source.turn_id) for source in fact.sources]
        key = self._insert(connection, fact, user_id)
        connection.executemany(
            "INSERT OR IGNORE INTO fact_sources (fact, turn) VALUES (?, ?)",
            [(key, turn) for turn in turns if turn is not None],
        )
        if fact.replaced_by is not None:
            self._links.append((key, fact.replaced_by))
        return True

    def _has_current(self, connection: sqlite3.Connection, user_id: str, key: str | None) -> bool:
        found = connection.execute(
            "SELECT 1 FROM facts WHERE tenant = ? AND user_id = ? AND key = ? AND valid_to IS NULL AND status = 'active'",
            (self._tenant, user_id, key),
        ).fetchone()
        return found is not None

    def _source(self, connection: sqlite3.Connection, session_id: str, turn_id: str) -> int | None:
        """The turn's key; None in a dry run whose session was rolled back. Raises Refused."""
        found = connection.execute(
            "SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session "
            "WHERE s.tenant = ? AND s.session_id = ? AND t.turn_id = ?",
            (self._tenant, session_id, turn_id),
        ).fetchone()
        if found is not None:
            return int(found[0])
        if session_id in self._sessions:
            return None
        raise Refused(f"it came from turn {turn_id!r} of session {session_id!r}, which is not here")

    def _insert(self, connection: sqlite3.Connection, fact: ExportedFact, user_id: str) -> int:
        return _inserted(
            connection.execute(
                "INSERT INTO facts (tenant, user_id, fact_id, kind, key, text, status, pinned, valid_from, valid_to, "
                "expires_at, origin, derived, content_hash, tokens, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._tenant,
                    user_id,
                    fact.id,
                    fact.kind,
                    fact.key,
                    fact.text,
                    fact.status,
                    fact.pinned,
                    stored_time(fact.valid_from),
                    stored_time(fact.valid_to),
                    stored_time(fact.expires_at),
                    fact.origin,
                    fact.derived,
                    bytes.fromhex(fact.content_hash),
                    estimate_tokens(fact.text),
                    stored_time(fact.created_at),
                    stored_time(fact.updated_at),
                ),
            )
        )


def _inserted(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:  # an INSERT that did not raise has one
        raise AssertionError(cursor)
    return cursor.lastrowid
