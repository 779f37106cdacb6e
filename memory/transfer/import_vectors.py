"""Vectors that come along with an import. Blocking: for the thread that writes."""

import sqlite3

from shared.memory_messages import RecallKind
from shared.vectors import Vector


def usable_model(connection: sqlite3.Connection, model: str) -> str:
    """`model`, or nothing where another one is used by now. Asked in the transaction itself: what is written under another model
    than the present would get no vector."""
    found = connection.execute("SELECT value FROM state WHERE name = 'model'").fetchone()
    return model if found is not None and found[0] == model else ""


def insert_vector(connection: sqlite3.Connection, kind: RecallKind, key: int, model: str, vector: Vector | None) -> int:
    """How many were used: one or none. Without a `model` none is of use."""
    if vector is None or not model:
        return 0
    raw = vector.array.astype("<f4").tobytes()
    connection.execute(
        "INSERT INTO vectors (item_kind, item_id, model, vector) VALUES (?, ?, ?, ?)", (kind, key, model, raw)
    )
    return 1
