"""Facts of an import as rows of the truth, each by itself. Blocking: for the thread that writes.

What is there already is compared and never changed. A fact that came from turns goes in only where they are.
"""

import sqlite3
from collections.abc import Iterable

from memory.import_records import Refused, Tally
from memory.store import stored_time
from shared.memory_records import ExportedFact, FactTurn
from shared.tokens import estimate_tokens


class ImportFacts:
    """Facts into one tenant."""

    def __init__(self, tenant: str, *, tally: Tally) -> None:
        self._tenant = tenant
        self._tally = tally
        # Facts that wait for the one that took their place, by its name.
        self._waiting: dict[str, list[int]] = {}

    def put(self, connection: sqlite3.Connection, number: int, fact: ExportedFact) -> None:
        try:
            is_new = self._put(connection, fact)
        except Refused as error:
            self._tally.refuse(number, fact, error)
            self._tally.refused["fact"] += 1
        else:
            (self._tally.created if is_new else self._tally.unchanged)["fact"] += 1

    def _put(self, connection: sqlite3.Connection, fact: ExportedFact) -> bool:
        """Whether it is new. Raises Refused."""
        wanted = (fact.user_id, fact.kind, fact.key, bytes.fromhex(fact.content_hash), stored_time(fact.valid_from))
        found = connection.execute(
            "SELECT id, user_id, kind, key, content_hash, valid_from FROM facts WHERE tenant = ? AND fact_id = ?",
            (self._tenant, fact.id),
        ).fetchone()
        if found is not None:
            if found[1:] != wanted:
                raise Refused("its id is that of another fact")
            self._link(connection, found[0], fact)
            return False
        is_current = fact.key is not None and fact.valid_to is None and fact.status == "active"
        if is_current and self._has_current(connection, fact.user_id, fact.key):
            raise Refused(f"the key {fact.key!r} has another value that holds now")
        turns = [self._source(connection, source) for source in fact.sources]
        key = self._insert(connection, fact)
        connection.executemany(
            "INSERT OR IGNORE INTO fact_sources (fact, turn) VALUES (?, ?)", [(key, turn) for turn in turns]
        )
        self._link(connection, key, fact)
        return True

    def _link(self, connection: sqlite3.Connection, key: int, fact: ExportedFact) -> None:
        """Also where the fact was there already: an import may have been interrupted before the other one came."""
        _replace(connection, self._waiting.pop(fact.id, []), key)
        if fact.replaced_by is None:
            return
        next_key = connection.execute(
            "SELECT id FROM facts WHERE tenant = ? AND fact_id = ?", (self._tenant, fact.replaced_by)
        ).fetchone()
        if next_key is None:
            self._waiting.setdefault(fact.replaced_by, []).append(key)
        else:
            _replace(connection, [key], next_key[0])

    def _has_current(self, connection: sqlite3.Connection, user_id: str, key: str | None) -> bool:
        found = connection.execute(
            "SELECT 1 FROM facts WHERE tenant = ? AND user_id = ? AND key = ? AND valid_to IS NULL AND status = 'active'",
            (self._tenant, user_id, key),
        ).fetchone()
        return found is not None

    def _source(self, connection: sqlite3.Connection, source: FactTurn) -> int:
        """The turn's key. Raises Refused."""
        found = connection.execute(
            "SELECT t.id FROM turns t JOIN sessions s ON s.id = t.session "
            "WHERE s.tenant = ? AND s.session_id = ? AND t.turn_id = ?",
            (self._tenant, source.session_id, source.turn_id),
        ).fetchone()
        if found is None:
            raise Refused(f"it came from turn {source.turn_id!r} of session {source.session_id!r}, which is not here")
        return int(found[0])

    def _insert(self, connection: sqlite3.Connection, fact: ExportedFact) -> int:
        return _inserted(
            connection.execute(
                "INSERT INTO facts (tenant, user_id, fact_id, kind, key, text, status, pinned, valid_from, valid_to, "
                "expires_at, origin, derived, content_hash, tokens, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._tenant,
                    fact.user_id,
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


def _replace(connection: sqlite3.Connection, keys: Iterable[int], next_key: int) -> None:
    connection.executemany(
        "UPDATE facts SET replaced_by = ? WHERE id = ? AND replaced_by IS NULL", [(next_key, key) for key in keys]
    )


def _inserted(cursor: sqlite3.Cursor) -> int:
    if cursor.lastrowid is None:  # an INSERT that did not raise has one
        raise AssertionError(cursor)
    return cursor.lastrowid
