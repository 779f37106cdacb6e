"""Where facts stand beside their own row: in the time line, in the history that recall follows, and among what waits for a
vector; and how they leave all of it."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from memory.fact_rows import FactRow, replaced_by, rows_where
from memory.fact_timeline import Validity, erased


@dataclass(frozen=True, slots=True)
class ErasedFacts:
    facts: int
    vectors: int


def erase_fact(connection: sqlite3.Connection, row: FactRow) -> int:
    """With everything derived from it, inside the caller's unit of work. How many vectors went."""
    vectors = drop_from_recall(connection, row.id) if row.status == "active" else 0
    store_validities(connection, erased(replaced_by(connection, row), row.validity))
    connection.execute("DELETE FROM facts WHERE id = ?", (row.id,))
    return vectors


def erase_derived_facts(connection: sqlite3.Connection, turns: Sequence[int]) -> ErasedFacts:
    """Erases the facts that came from nothing but these turns, before the turns go."""
    leaving = msgspec.json.encode(list(turns)).decode()
    derived = connection.execute(
        "SELECT f.id FROM facts f WHERE f.derived "
        "AND f.id IN (SELECT fact FROM fact_sources WHERE turn IN (SELECT value FROM json_each(:leaving))) AND NOT EXISTS "
        "(SELECT 1 FROM fact_sources c WHERE c.fact = f.id AND c.turn NOT IN (SELECT value FROM json_each(:leaving)))",
        {"leaving": leaving},
    ).fetchall()
    vectors = 0
    for key in derived:
        # Read one by one: the end of one may have changed the next.
        vectors += sum(erase_fact(connection, row) for row in rows_where(connection, "id = ?", key))
    return ErasedFacts(facts=len(derived), vectors=vectors)


def store_validities(connection: sqlite3.Connection, changed: Iterable[Validity]) -> None:
    for each in changed:
        connection.execute(
            "UPDATE facts SET valid_to = ?, replaced_by = ? WHERE id = ?", (each.until, each.replaced_by, each.id)
        )
        record_fact_op(connection, "add", each.id)


def record_fact_op(connection: sqlite3.Connection, kind: str, fact: int) -> None:
    """Facts belong to a user, and to no session or agent."""
    connection.execute(
        "INSERT INTO ops (kind, item_kind, item_id, tenant, user_id) SELECT ?, 'fact', id, tenant, user_id FROM facts "
        "WHERE id = ?",
        (kind, fact),
    )


def wants_vector(connection: sqlite3.Connection, fact: int) -> None:
    connection.execute("INSERT OR IGNORE INTO pending (item_kind, item_id) VALUES ('fact', ?)", (fact,))


def drop_from_recall(connection: sqlite3.Connection, fact: int) -> int:
    """How many vectors went."""
    record_fact_op(connection, "remove", fact)
    connection.execute("DELETE FROM pending WHERE item_kind = 'fact' AND item_id = ?", (fact,))
    return connection.execute("DELETE FROM vectors WHERE item_kind = 'fact' AND item_id = ?", (fact,)).rowcount
