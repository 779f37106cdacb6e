"""The truth in SQL about numbers of turns that are gone, so that what was forgotten is told from what was lost."""

import sqlite3
from collections.abc import Iterable

from memory.truth.ranges import Ranges


def read_erased(connection: sqlite3.Connection, session: int) -> Ranges:
    return Ranges(
        connection.execute("SELECT first_seq, last_seq FROM erased WHERE session = ? ORDER BY first_seq", (session,))
    )


def add_erased(connection: sqlite3.Connection, session: int, seqs: Iterable[int]) -> None:
    together = read_erased(connection, session) | Ranges.of(seqs)
    connection.execute("DELETE FROM erased WHERE session = ?", (session,))
    connection.executemany(
        "INSERT INTO erased (session, first_seq, last_seq) VALUES (?, ?, ?)",
        [(session, first, last) for first, last in together],
    )


def gap_problems(connection: sqlite3.Connection) -> list[str]:
    """Each number up to a session's last one must be a turn's or erased, and never both."""
    uneven = connection.execute(
        "SELECT s.session_id FROM sessions s LEFT JOIN turns t ON t.session = s.id GROUP BY s.id HAVING s.last_seq <> "
        "count(t.id) + (SELECT coalesce(sum(e.last_seq - e.first_seq + 1), 0) FROM erased e WHERE e.session = s.id) "
        "OR coalesce(max(t.seq), 0) > s.last_seq OR coalesce(min(t.seq), 1) < 1 LIMIT 10"
    )
    found = [f"session {row[0]!r} has gaps in its turns" for row in uneven]
    # With the numbers even, this leaves no way to be wrong: turns differ by the schema.
    wrong = connection.execute(
        "SELECT s.session_id FROM sessions s JOIN erased e ON e.session = s.id WHERE e.first_seq < 1 "
        "OR e.last_seq < e.first_seq OR e.last_seq > s.last_seq "
        "OR EXISTS (SELECT 1 FROM turns t WHERE t.session = s.id AND t.seq BETWEEN e.first_seq AND e.last_seq) "
        "OR EXISTS (SELECT 1 FROM erased o WHERE o.session = s.id AND o.first_seq > e.first_seq "
        "AND o.first_seq <= e.last_seq) LIMIT 10"
    )
    return found + [f"session {row[0]!r} is said to lack turns that it has" for row in wrong]
