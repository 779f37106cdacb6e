"""The truth as the records of an export, one at a time, in the order of the format. Blocking: for the thread of a view.

Cursors are open one in another and are read as far as the stream has come, so a memory of any size takes the room of a row.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from memory.feedback.rows import feedback_of
from shared.fact_messages import FactTurn
from shared.feedback_messages import RecallFeedback
from shared.memory_messages import LedgerItem, Policy, Retention
from shared.memory_records import (
    ExportedFact,
    ExportedFeedback,
    ExportedJudgment,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
)
from shared.vectors import Vector

_SESSION = (
    "SELECT item.id, item.session_id, item.user_id, item.agent_id, item.title, item.policy, item.metadata, item.last_seq, "
    "item.tail_from, item.created_at, item.updated_at, item.retain_days_max, item.retain_turns_max FROM sessions item WHERE item.tenant = ?"
)
_VECTOR = "LEFT JOIN vectors v ON v.item_kind = ? AND v.item_id = item.id AND v.model = ?"
_TURN = (
    "SELECT item.turn_id, item.seq, item.role, item.content, item.name, item.created_at, item.stored_at, item.metadata, "
    f"v.vector FROM turns item {_VECTOR} WHERE item.session = ? ORDER BY item.seq"
)
_SPAN = (
    "SELECT item.span_id, item.level, item.first_seq, item.last_seq, above.span_id, item.since, item.until, item.text, "
    "item.ledger, item.tokens, item.source_tokens, item.turns, item.summarizer, item.source_hash, item.created_at, v.vector "
    f"FROM spans item LEFT JOIN spans above ON above.id = item.parent {_VECTOR} WHERE item.session = ? ORDER BY item.id"
)
_FACT = (
    "SELECT item.id, item.fact_id, item.user_id, item.kind, item.key, item.text, item.status, item.pinned, item.valid_from, "
    "item.valid_to, item.expires_at, next.fact_id, item.origin, item.derived, item.content_hash, item.line, item.created_at, "
    f"item.updated_at, v.vector FROM facts item LEFT JOIN facts next ON next.id = item.replaced_by {_VECTOR} "
    "WHERE item.tenant = ?"
)
_SOURCES = (
    "SELECT s.session_id, t.turn_id FROM fact_sources f JOIN turns t ON t.id = f.turn JOIN sessions s ON s.id = t.session "
    "WHERE f.fact = ? ORDER BY s.session_id, t.seq"
)


def exported(
    connection: sqlite3.Connection, tenant: str, user_id: str | None, model: str
) -> Iterator[ExportedSession | ExportedTurn | ExportedSpan | ExportedFact | ExportedFeedback]:
    """A user's, or the whole tenant's. `model` is what vectors are exported of; none are where it is empty."""
    condition, owner = ("", ()) if user_id is None else (" AND item.user_id = ?", (user_id,))
    for row in connection.execute(f"{_SESSION}{condition} ORDER BY item.session_id", (tenant, *owner)):
        session = _session(row)
        yield session
        yield from _turns(connection, row[0], session.id, model)
        yield from _spans(connection, row[0], session.id, model)
    # In the order in which they came.
    for row in connection.execute(f"{_FACT}{condition} ORDER BY item.id", ("fact", model, tenant, *owner)):
        yield _fact(connection, row)
    feedback = f"SELECT item.id FROM feedback item WHERE item.tenant = ?{condition} ORDER BY item.id"
    for (key,) in connection.execute(feedback, (tenant, *owner)):
        ((_, found),) = feedback_of(connection, "f.id = :id", {"id": key})
        yield _feedback(found)


def _session(row: Sequence[Any]) -> ExportedSession:
    return ExportedSession(
        id=row[1],
        user_id=row[2],
        agent_id=row[3],
        title=row[4],
        policy=msgspec.json.decode(row[5], type=Policy),
        retention=None if row[11] is row[12] is None else Retention(days_max=row[11], turns_max=row[12]),
        metadata=msgspec.json.decode(row[6]),
        last_seq=row[7],
        tail_from=row[8],
        created_at=_time(row[9]),
        updated_at=_time(row[10]),
    )


def _turns(connection: sqlite3.Connection, session: int, session_id: str, model: str) -> Iterator[ExportedTurn]:
    for row in connection.execute(_TURN, ("turn", model, session)):
        yield ExportedTurn(
            session_id=session_id,
            id=row[0],
            seq=row[1],
            role=row[2],
            content=row[3],
            name=row[4],
            created_at=_time(row[5]),
            stored_at=_time(row[6]),
            metadata=msgspec.json.decode(row[7]),
            vector=_vector(row[8]),
        )


def _spans(connection: sqlite3.Connection, session: int, session_id: str, model: str) -> Iterator[ExportedSpan]:
    for row in connection.execute(_SPAN, ("span", model, session)):
        yield ExportedSpan(
            session_id=session_id,
            id=row[0],
            level=row[1],
            first_seq=row[2],
            last_seq=row[3],
            parent_id=row[4],
            since=_time(row[5]),
            until=_time(row[6]),
            text=row[7],
            ledger=msgspec.json.decode(row[8], type=list[LedgerItem]),
            tokens=row[9],
            source_tokens=row[10],
            turns=row[11],
            summarizer=row[12],
            source_hash=row[13].hex(),
            created_at=_time(row[14]),
            vector=_vector(row[15]),
        )


def _fact(connection: sqlite3.Connection, row: Sequence[Any]) -> ExportedFact:
    return ExportedFact(
        id=row[1],
        user_id=row[2],
        kind=row[3],
        key=row[4],
        text=row[5],
        status=row[6],
        pinned=bool(row[7]),
        valid_from=_time(row[8]),
        valid_to=_time_or_none(row[9]),
        expires_at=_time_or_none(row[10]),
        replaced_by=row[11],
        origin=row[12],
        derived=bool(row[13]),
        content_hash=row[14].hex(),
        sources=[FactTurn(session_id=each[0], turn_id=each[1]) for each in connection.execute(_SOURCES, (row[0],))],
        line=row[15],
        created_at=_time(row[16]),
        updated_at=_time(row[17]),
        vector=_vector(row[18]),
    )


def _feedback(found: RecallFeedback) -> ExportedFeedback:
    return ExportedFeedback(
        id=found.id,
        user_id=found.user_id,
        session_id=found.session_id,
        agent_id=found.agent_id,
        query=found.query,
        as_of=found.as_of,
        judgments=[
            ExportedJudgment(
                kind=each.kind,
                id=each.id,
                session_id=each.session_id,
                relevance=each.relevance,
                judged_at=each.judged_at,
            )
            for each in found.judgments
        ],
        comment=found.comment or "",
        created_at=found.created_at,
        judged_at=found.judged_at,
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _time_or_none(text: str | None) -> datetime | None:
    return None if text is None else _time(text)


def _vector(raw: Any) -> Vector | None:
    return None if raw is None else Vector(np.frombuffer(raw, dtype="<f4"))
