"""Feedback as it lies in SQL: how it is read, and what goes with a document. Parts of a transaction."""

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from shared.feedback import Verdict
from shared.feedback_messages import JudgedDocument, SearchFeedback
from shared.sql_values import listed

# A document, and one of its chunks or 0.
Judged = tuple[str, int]

_COLUMNS: Final = (
    "f.id, f.feedback_id, c.name, f.query, f.filter, f.comment, f.created_at, f.judged_at "
    "FROM feedback f JOIN collections c ON c.id = f.collection_id"
)


def feedback_of(connection: sqlite3.Connection, rest: str, values: dict[str, Any]) -> list[tuple[int, SearchFeedback]]:
    """Feedback with its key in the truth."""
    rows = connection.execute(f"SELECT {_COLUMNS} WHERE {rest}", values).fetchall()
    judged = judgments_of(connection, [row[0] for row in rows])
    return [(row[0], _feedback(row, judged[row[0]])) for row in rows]


def judgments_of(connection: sqlite3.Connection, feedback: Sequence[int]) -> dict[int, dict[Judged, Verdict]]:
    found: dict[int, dict[Judged, Verdict]] = {key: {} for key in feedback}
    for key, document_id, chunk_id, *verdict in connection.execute(
        "SELECT feedback, document_id, chunk_id, judged_at, relevance, key_id FROM judgments "
        "WHERE feedback IN (SELECT value FROM json_each(?)) ORDER BY feedback, document_id, chunk_id",
        (listed(feedback),),
    ):
        found[key][document_id, chunk_id] = Verdict(*verdict)
    return found


def forget_documents(connection: sqlite3.Connection, collection_id: int, document_ids: Iterable[str]) -> None:
    """What was said of documents that are deleted."""
    # The documents first: few of a collection's queries judge them.
    judged = connection.execute(
        "SELECT DISTINCT j.feedback, j.document_id FROM judgments j JOIN feedback f ON f.id = j.feedback "
        "WHERE j.document_id IN (SELECT value FROM json_each(?)) AND f.collection_id = ?",
        (listed(document_ids), collection_id),
    ).fetchall()
    if not judged:
        return
    connection.executemany("DELETE FROM judgments WHERE feedback = ? AND document_id = ?", judged)
    keys = listed({row[0] for row in judged})
    connection.execute(
        "DELETE FROM feedback WHERE id IN (SELECT value FROM json_each(?)) "
        "AND NOT EXISTS (SELECT 1 FROM judgments j WHERE j.feedback = feedback.id)",
        (keys,),
    )


def feedback_problems(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    """How many there are, and what is wrong with any of them."""
    empty = connection.execute(
        "SELECT f.feedback_id FROM feedback f WHERE NOT EXISTS (SELECT 1 FROM judgments j WHERE j.feedback = f.id) LIMIT 10"
    )
    found = [f"feedback {row[0]!r} judges nothing" for row in empty]
    lost = connection.execute(
        "SELECT f.feedback_id, j.document_id FROM judgments j JOIN feedback f ON f.id = j.feedback "
        "WHERE NOT EXISTS (SELECT 1 FROM documents d WHERE d.collection_id = f.collection_id "
        "AND d.document_id = j.document_id) LIMIT 10"
    )
    found += [f"feedback {row[0]!r} judges document {row[1]!r}, which is gone" for row in lost]
    foreign = connection.execute(
        "SELECT f.feedback_id FROM feedback f JOIN collections c ON c.id = f.collection_id WHERE c.tenant <> f.tenant LIMIT 10"
    )
    found += [f"feedback {row[0]!r} is of another tenant's collection" for row in foreign]
    return connection.execute("SELECT count(*) FROM feedback").fetchone()[0], found


def _feedback(row: Sequence[Any], judged: dict[Judged, Verdict]) -> SearchFeedback:
    return SearchFeedback(
        id=row[1],
        collection=row[2],
        query=row[3],
        filter=None if row[4] is None else msgspec.json.decode(row[4]),
        judgments=[
            JudgedDocument(
                document_id=document_id,
                chunk_id=chunk_id or None,
                relevance=verdict.relevance,
                judged_at=datetime.fromisoformat(verdict.judged_at),
                key_id=verdict.key_id or None,
            )
            for (document_id, chunk_id), verdict in judged.items()
        ],
        comment=row[5] or None,
        created_at=datetime.fromisoformat(row[6]),
        judged_at=datetime.fromisoformat(row[7]),
    )
