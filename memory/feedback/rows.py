"""Feedback as it lies in SQL: how it is read and written, as parts of a transaction."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from shared.feedback import Verdict
from shared.feedback_messages import JudgedItem, JudgedKind, RecallFeedback
from shared.sql_values import listed

# An item by its key in the truth.
Judged = tuple[JudgedKind, int]

_COLUMNS: Final = (
    "f.id, f.feedback_id, f.user_id, s.session_id, f.agent_id, f.query, f.as_of, f.comment, f.created_at, f.judged_at "
    "FROM feedback f LEFT JOIN sessions s ON s.id = f.session"
)


def feedback_of(connection: sqlite3.Connection, rest: str, values: dict[str, Any]) -> list[tuple[int, RecallFeedback]]:
    """Feedback with its key in the truth."""
    rows = connection.execute(f"SELECT {_COLUMNS} WHERE {rest}", values).fetchall()
    judged = _items_of(connection, [row[0] for row in rows])
    return [(row[0], _feedback(row, judged.get(row[0], []))) for row in rows]


def judgments_of(connection: sqlite3.Connection, feedback: Sequence[int]) -> dict[int, dict[Judged, Verdict]]:
    found: dict[int, dict[Judged, Verdict]] = {key: {} for key in feedback}
    for key, turn, fact, *verdict in connection.execute(
        "SELECT feedback, turn, fact, judged_at, relevance, key_id FROM judgments "
        "WHERE feedback IN (SELECT value FROM json_each(?))",
        (listed(feedback),),
    ):
        item: Judged = ("fact", fact) if turn is None else ("turn", turn)
        found[key][item] = Verdict(*verdict)
    return found


def write_judgments(connection: sqlite3.Connection, feedback: int, judged: Mapping[Judged, Verdict]) -> None:
    """In the place of what was said of the same items."""
    connection.executemany(
        "INSERT OR REPLACE INTO judgments (feedback, turn, fact, relevance, judged_at, key_id) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                *(feedback, key if kind == "turn" else None, key if kind == "fact" else None),
                *(verdict.relevance, verdict.judged_at, verdict.key_id),
            )
            for (kind, key), verdict in judged.items()
        ],
    )


def feedback_problems(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """How many there are, and what is wrong with any of them."""
    found: list[str] = []
    for condition, text in _WRONG:
        rows = connection.execute(f"SELECT f.feedback_id FROM feedback f WHERE {condition} LIMIT 10")
        found += [f"feedback {row[0]!r} {text}" for row in rows]
    return connection.execute("SELECT count(*) FROM feedback").fetchone()[0], found


_TURN_ELSEWHERE: Final = (
    "EXISTS (SELECT 1 FROM judgments j JOIN turns t ON t.id = j.turn JOIN sessions s ON s.id = t.session "
    "WHERE j.feedback = f.id AND (s.tenant <> f.tenant OR s.id <> coalesce(f.session, s.id) "
    "OR (f.session IS NULL AND (coalesce(f.user_id, s.user_id) IS NOT s.user_id "
    "OR coalesce(f.agent_id, s.agent_id) IS NOT s.agent_id))))"
)
_FACT_ELSEWHERE: Final = (
    "EXISTS (SELECT 1 FROM judgments j JOIN facts d ON d.id = j.fact "
    "WHERE j.feedback = f.id AND (d.tenant, d.user_id) IS NOT (f.tenant, f.user_id))"
)
_WRONG: Final = (
    ("NOT EXISTS (SELECT 1 FROM judgments j WHERE j.feedback = f.id)", "judges nothing"),
    (_TURN_ELSEWHERE, "judges a turn outside of what was asked"),
    (_FACT_ELSEWHERE, "judges a fact of another user"),
)


def _items_of(connection: sqlite3.Connection, feedback: Sequence[int]) -> dict[int, list[JudgedItem]]:
    """By session and number, then the facts."""
    found: dict[int, list[JudgedItem]] = {}
    for key, kind, name, session_id, seq, relevance, judged_at, key_id in connection.execute(
        "SELECT j.feedback, CASE WHEN j.turn IS NULL THEN 'fact' ELSE 'turn' END, coalesce(t.turn_id, d.fact_id), "
        "s.session_id, t.seq, j.relevance, j.judged_at, j.key_id FROM judgments j LEFT JOIN turns t ON t.id = j.turn "
        "LEFT JOIN sessions s ON s.id = t.session LEFT JOIN facts d ON d.id = j.fact "
        "WHERE j.feedback IN (SELECT value FROM json_each(?)) "
        "ORDER BY j.feedback, j.turn IS NULL, s.session_id, t.seq, d.fact_id",
        (listed(feedback),),
    ):
        item = JudgedItem(
            kind=kind,
            id=name,
            session_id=session_id,
            seq=seq,
            relevance=relevance,
            judged_at=datetime.fromisoformat(judged_at),
            key_id=key_id or None,
        )
        found.setdefault(key, []).append(item)
    return found


def _feedback(row: Sequence[Any], judged: list[JudgedItem]) -> RecallFeedback:
    return RecallFeedback(
        id=row[1],
        user_id=row[2],
        session_id=row[3],
        agent_id=row[4],
        query=row[5],
        as_of=None if row[6] is None else datetime.fromisoformat(row[6]),
        judgments=judged,
        comment=row[7] or None,
        created_at=datetime.fromisoformat(row[8]),
        judged_at=datetime.fromisoformat(row[9]),
    )
