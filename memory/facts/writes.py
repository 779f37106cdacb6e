"""What a new fact writes: its row, its place in the time line, and where it came from."""

import hashlib
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from memory.facts.likeness import text_hash
from memory.facts.places import store_validities, wants_vector
from memory.facts.rows import FactRow, find_row, neighbours, rows_where
from memory.facts.timeline import placed
from shared.fact_messages import FactIn, FactStatus
from shared.sql_values import stored_time
from shared.tokens import estimate_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFact:
    """A fact on its way in: who it is from, and whether it waits for approval."""

    given: FactIn
    origin: str
    status: FactStatus

    @property
    def content_hash(self) -> bytes:
        """Of what was asked for, whatever the id and the zones of its times."""
        given = self.given
        times = (stored_time(given.valid_from), stored_time(given.expires_at))
        rest = msgspec.structs.replace(given, id=None, valid_from=None, expires_at=None)
        return hashlib.sha256(msgspec.json.encode((rest, times))).digest()


def line_for(connection: sqlite3.Connection, row: FactRow) -> str | None:
    """The line that a fact shares with the one that replaces it: its key, if it has one, else a name made for it."""
    if row.key is not None or row.line is not None:
        return row.line
    line = uuid.uuid4().hex
    connection.execute("UPDATE facts SET line = ? WHERE id = ?", (line, row.id))
    return line


def insert_fact(
    connection: sqlite3.Connection, tenant: str, new: NewFact, *, since: str, now: str, line: str | None
) -> FactRow:
    given = new.given
    fact_id = given.id or uuid.uuid4().hex
    columns = {
        "tenant": tenant,
        "user_id": given.user_id,
        "fact_id": fact_id,
        "kind": given.kind,
        "key": given.key,
        "text": given.text,
        "status": new.status,
        "pinned": given.pinned,
        "valid_from": since,
        "expires_at": stored_time(given.expires_at),
        "origin": new.origin,
        "derived": bool(given.sources),
        "content_hash": new.content_hash,
        "text_hash": text_hash(given.text),
        "line": line,
        "tokens": estimate_tokens(given.text),
        "created_at": now,
        "updated_at": now,
    }
    connection.execute(
        f"INSERT INTO facts ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", tuple(columns.values())
    )
    return find_row(connection, tenant, fact_id)


def activate(connection: sqlite3.Connection, row: FactRow) -> str | None:
    """Gives the fact its place in the time line; the id of the fact that it ends, if any."""
    own, *ended = placed(neighbours(connection, row), replace(row.validity, until=None, replaced_by=None))
    store_validities(connection, [own, *ended])
    wants_vector(connection, row.id)
    names = [each.fact_id for one in ended for each in rows_where(connection, "id = ?", (one.id,))]
    return names[0] if names else None


def add_sources(connection: sqlite3.Connection, fact: int, turns: Sequence[int]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO fact_sources (fact, turn) VALUES (?, ?)", [(fact, turn) for turn in turns]
    )
