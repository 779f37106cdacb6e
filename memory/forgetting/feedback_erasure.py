"""What of feedback goes with an erase, in SQL.

A query speaks of what answers it, so a feedback goes as a whole with the first turn or fact that it was judged to be answered by,
with its query and comment; a question with half of its evidence would measure something else anyway. What was judged wrong
takes only its judgment with it, until none is left. Beyond that go those of a user or session that goes altogether, and with a
time those that were last judged before it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final

from memory.forgetting.selection import Selection
from shared.sql_values import listed

_LISTED: Final = "IN (SELECT value FROM json_each(?))"


def feedback_reached(
    connection: sqlite3.Connection,
    selection: Selection,
    *,
    turns: Sequence[int],
    facts: Sequence[int],
    sessions: Sequence[int],
) -> list[int]:
    """Keys of what goes altogether, when these turns, facts and whole sessions do. Reads only."""
    keys = (listed(turns), listed(facts))
    found = connection.execute(
        f"SELECT DISTINCT j.feedback FROM judgments j WHERE (j.turn {_LISTED} OR j.fact {_LISTED}) "
        "AND (j.relevance > 0 OR NOT EXISTS (SELECT 1 FROM judgments k WHERE k.feedback = j.feedback "
        f"AND CASE WHEN k.turn IS NULL THEN k.fact NOT {_LISTED} ELSE k.turn NOT {_LISTED} END))",
        (*keys, *reversed(keys)),
    ).fetchall()
    found += connection.execute(f"SELECT id FROM feedback WHERE session {_LISTED}", (listed(sessions),)).fetchall()
    if meant := selection.of_feedback():
        found += connection.execute(f"SELECT f.id FROM feedback f WHERE {meant[0]}", meant[1]).fetchall()
    return sorted({row[0] for row in found})


def judgments_left(
    connection: sqlite3.Connection, *, feedback: Sequence[int], turns: Sequence[int], facts: Sequence[int]
) -> int:
    """A second look: how many rows still stand of it."""
    left = 0
    for table, column, keys in (
        ("feedback", "id", feedback),
        ("judgments", "feedback", feedback),
        ("judgments", "turn", turns),
        ("judgments", "fact", facts),
    ):
        left += connection.execute(
            f"SELECT count(*) FROM {table} WHERE {column} {_LISTED}", (listed(keys),)
        ).fetchone()[0]
    return left
