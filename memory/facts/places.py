"""Where facts stand beside their own row: in the time line, among the items of recall, and among what waits for a vector; and
how they leave all of it."""

import sqlite3
from collections.abc import Iterable

from memory.facts.rows import replaced_by, rows_where
from memory.facts.timeline import Validity, erased
from memory.truth.items import record_op


def erase_facts(connection: sqlite3.Connection, keys: Iterable[int]) -> None:
    """Takes them out of their time lines and deletes them, inside the caller's unit of work; what recall has of them is left."""
    for key in keys:
        # Read one by one: the end of one may have changed the next.
        for row in rows_where(connection, "id = ?", (key,)):
            store_validities(connection, erased(replaced_by(connection, row), row.validity))
            connection.execute("DELETE FROM facts WHERE id = ?", (row.id,))


def store_validities(connection: sqlite3.Connection, changed: Iterable[Validity]) -> None:
    for each in changed:
        connection.execute(
            "UPDATE facts SET valid_to = ?, replaced_by = ? WHERE id = ?", (each.until, each.replaced_by, each.id)
        )
        record_op(connection, "add", each.id, "fact")


def wants_vector(connection: sqlite3.Connection, fact: int) -> None:
    connection.execute("INSERT OR IGNORE INTO pending (item_kind, item_id) VALUES ('fact', ?)", (fact,))


def drop_from_recall(connection: sqlite3.Connection, fact: int) -> None:
    """While it is active still: nobody knows the owner of an item that is none."""
    record_op(connection, "remove", fact, "fact")
    for table in ("pending", "vectors"):
        connection.execute(f"DELETE FROM {table} WHERE item_kind = 'fact' AND item_id = ?", (fact,))
