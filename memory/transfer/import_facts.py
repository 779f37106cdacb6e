"""Facts of an import as rows of the truth, each by itself. Blocking: for the thread that writes.

What is there already is compared and never changed. A fact that came from turns goes in only where they are.
"""

import sqlite3
from collections.abc import Iterable

from memory.facts.likeness import text_hash
from memory.facts.places import wants_vector
from memory.transfer.import_records import Refused, Tally
from memory.transfer.import_vectors import insert_vector, usable_model
from memory.truth.items import record_op
from shared.fact_messages import FactTurn
from shared.memory_records import ExportedFact
from shared.sql_values import inserted_key, stored_time
from shared.tokens import estimate_tokens
from shared.vectors import Vector


class ImportFacts:
    """Facts into one tenant. `model` is what the vectors that come along are of, empty where none are of use."""

    def __init__(self, tenant: str, *, model: str, tally: Tally) -> None:
        self._tenant = tenant
        self._model = model
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
        if fact.status == "active" and self._is_held_by_another(connection, fact):
            raise Refused(f"the key {fact.key!r} has another value for that time")
        turns = [self._source(connection, source) for source in fact.sources]
        key = self._insert(connection, fact)
        connection.executemany(
            "INSERT OR IGNORE INTO fact_sources (fact, turn) VALUES (?, ?)", [(key, turn) for turn in turns]
        )
        self._link(connection, key, fact)
        if fact.status == "active":
            self._make_recallable(connection, key, fact.vector)
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

    def _is_held_by_another(self, connection: sqlite3.Connection, fact: ExportedFact) -> bool:
        since, until = stored_time(fact.valid_from), stored_time(fact.valid_to)
        if since == until or fact.key is fact.line is None:
            return False
        found = connection.execute(
            "SELECT 1 FROM facts WHERE tenant = ? AND user_id = ? AND key IS ? AND line IS ? AND status = 'active' "
            "AND (valid_to IS NULL OR (valid_to > ? AND valid_to > valid_from)) AND (? IS NULL OR valid_from < ?)",
            (self._tenant, fact.user_id, fact.key, fact.line, since, until, until),
        ).fetchone()
        return found is not None

    def _make_recallable(self, connection: sqlite3.Connection, key: int, vector: Vector | None) -> None:
        record_op(connection, "add", key, "fact")
        used = insert_vector(connection, "fact", key, usable_model(connection, self._model), vector)
        self._tally.vectors += used
        if not used:
            wants_vector(connection, key)

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
        return inserted_key(
            connection.execute(
                "INSERT INTO facts (tenant, user_id, fact_id, kind, key, text, status, pinned, valid_from, valid_to, "
                "expires_at, origin, derived, content_hash, text_hash, line, tokens, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    text_hash(fact.text),
                    fact.line,
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
