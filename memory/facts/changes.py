"""Changes of a fact that is there: approved or rejected, corrected, pinned, given another expiry."""

import sqlite3
from datetime import datetime

import msgspec

from memory.facts.places import drop_from_recall, store_validities
from memory.facts.rows import FactRow, find_row, replaced_by, rows_where
from memory.facts.timeline import withdrawn
from memory.facts.writes import NewFact, activate, insert_fact, line_for
from memory.truth.items import record_op
from shared.errors import Conflict
from shared.fact_messages import FactIn, FactPatch, FactStatus
from shared.sql_values import now_stored, stored_time


def change_fact(
    connection: sqlite3.Connection, tenant: str, fact_id: str, patch: FactPatch, status_of_text: FactStatus
) -> str:
    """The id of the fact as it is now. A correction of its text gets `status_of_text`. Raises NotFound, Conflict."""
    row = find_row(connection, tenant, fact_id)
    if patch.status is not None:
        row = _decide(connection, row, patch.status)
    if row.status == "rejected" and patch.status is None:
        raise Conflict(f"fact {fact_id!r} was rejected; write it as a new fact")
    if patch.text is not None:
        row = _correct(connection, row, patch.text, status_of_text)
    changes: dict[str, object] = {}
    if patch.pinned is not None:
        changes["pinned"] = patch.pinned
    if not isinstance(patch.expires_at, msgspec.UnsetType):
        changes["expires_at"] = stored_time(patch.expires_at)
    if changes:
        assignments = ", ".join(f"{column} = ?" for column in changes)
        connection.execute(
            f"UPDATE facts SET {assignments}, updated_at = ? WHERE id = ?", (*changes.values(), now_stored(), row.id)
        )
        if row.status == "active":
            record_op(connection, "add", row.id, "fact")
    return row.fact_id


def _decide(connection: sqlite3.Connection, row: FactRow, status: FactStatus) -> FactRow:
    """Approves what waits, or rejects: then it was never true, and what it had ended goes on."""
    if row.status == status:
        return row
    if row.status == "rejected":
        raise Conflict(f"fact {row.fact_id!r} was rejected; write it as a new fact")
    if row.status == "active":
        drop_from_recall(connection, row.id)
    connection.execute("UPDATE facts SET status = ?, updated_at = ? WHERE id = ?", (status, now_stored(), row.id))
    if status == "active":
        activate(connection, row)
    elif row.status == "active":
        store_validities(connection, withdrawn(replaced_by(connection, row), row.validity))
        connection.execute("UPDATE facts SET valid_to = NULL, replaced_by = NULL WHERE id = ?", (row.id,))
    return find_row(connection, row.tenant, row.fact_id)


def _correct(connection: sqlite3.Connection, row: FactRow, text: str, status: FactStatus) -> FactRow:
    """Another fact in its place, for the whole of its time. Repeating it changes nothing."""
    if row.status != "active":
        raise Conflict(f"fact {row.fact_id!r} waits for approval; approve or reject it first")
    if row.text == text:
        return row
    if row.validity.is_empty:
        after = [each for each in rows_where(connection, "id = ?", (row.replaced_by,)) if each.text == text]
        if after:
            return after[0]
        raise Conflict(f"fact {row.fact_id!r} was corrected already; correct the one that replaced it")
    if waiting := _waiting(connection, row, text):
        return waiting
    given = FactIn(
        user_id=row.user_id,
        text=text,
        kind=row.kind,
        key=row.key,
        pinned=row.pinned,
        expires_at=_moment(row.expires_at),
    )
    new = NewFact(given=given, origin="caller", status=status)
    line = line_for(connection, row)
    made = insert_fact(connection, row.tenant, new, since=row.valid_from, now=now_stored(), line=line)
    # Whoever forgets the turns forgets what was made of their fact, too.
    connection.execute("UPDATE facts SET derived = ? WHERE id = ?", (row.derived, made.id))
    connection.execute(
        "INSERT INTO fact_sources (fact, turn) SELECT ?, turn FROM fact_sources WHERE fact = ?", (made.id, row.id)
    )
    if status == "active":
        activate(connection, made)
    return find_row(connection, row.tenant, made.fact_id)


def _waiting(connection: sqlite3.Connection, row: FactRow, text: str) -> FactRow | None:
    """The same correction, made before and not approved yet."""
    column, value = ("key", row.key) if row.key is not None else ("line", row.line)
    found = rows_where(
        connection,
        f"tenant = ? AND user_id = ? AND status = 'pending' AND text = ? AND valid_from = ? AND {column} = ? LIMIT 1",
        (row.tenant, row.user_id, text, row.valid_from, value),
    )
    return found[0] if found else None


def _moment(stored: str | None) -> datetime | None:
    return None if stored is None else datetime.fromisoformat(stored)
