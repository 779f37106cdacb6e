"""Turns as rows: a batch that is appended to a session, in as few statements as it takes. Blocking: for the thread that writes.

Nothing is read to see whether a turn is new: its row is put in, and only where its id is taken one looks at what is there.
"""

import hashlib
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from memory.truth.records import SessionRow
from shared.errors import Conflict, FieldError
from shared.memory_messages import AppendedTurn, Role, TurnIn
from shared.sql_values import inserted_key
from shared.tokens import estimate_tokens

INSERT_TURN: Final = (
    "INSERT INTO turns (session, seq, turn_id, role, content, name, created_at, stored_at, metadata, content_hash, tokens) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_TO_OPS: Final = "INSERT INTO ops (kind, item_kind, item_id, tenant, user_id, agent_id, session) VALUES ('add', 'turn', ?, ?, ?, ?, ?)"
_TO_PENDING: Final = "INSERT INTO pending (item_kind, item_id) VALUES ('turn', ?)"


@dataclass(frozen=True, slots=True)
class Appended:
    """What the caller is answered, and what it adds to the session's tail."""

    turns: list[AppendedTurn]
    last_seq: int
    tokens: int


def append_turns(
    connection: sqlite3.Connection,
    row: SessionRow,
    turns: Sequence[TurnIn],
    *,
    moments: Sequence[str],
    now: str,
) -> Appended:
    """After the session's last turn; `moments` are when each was said. Raises Conflict where an id is taken by other content."""
    answers: list[AppendedTurn] = []
    keys: list[int] = []
    last_seq, tokens = row.last_seq, 0
    for index, (turn, moment) in enumerate(zip(turns, moments, strict=True)):
        turn_id = turn.id or uuid.uuid4().hex
        digest = content_hash(turn.role, turn.name, turn.content)
        counted = estimate_tokens(turn.content)
        inserted = connection.execute(
            f"{INSERT_TURN} ON CONFLICT (session, turn_id) DO NOTHING",
            (
                row.id,
                last_seq + 1,
                turn_id,
                turn.role,
                turn.content,
                turn.name,
                moment,
                now,
                msgspec.json.encode(turn.metadata).decode() if turn.metadata else "{}",
                digest,
                counted,
            ),
        )
        if not inserted.rowcount:
            answers.append(_duplicate(connection, row, turn_id, digest, f"$.turns[{index}].id"))
            continue
        last_seq += 1
        tokens += counted
        keys.append(inserted_key(inserted))
        answers.append(AppendedTurn(id=turn_id, seq=last_seq, status="stored"))
    connection.executemany(_TO_OPS, [(key, row.tenant, row.user_id, row.agent_id, row.id) for key in keys])
    connection.executemany(_TO_PENDING, [(key,) for key in keys])
    return Appended(answers, last_seq, tokens)


def _duplicate(connection: sqlite3.Connection, row: SessionRow, turn_id: str, digest: bytes, path: str) -> AppendedTurn:
    seq, stored = connection.execute(
        "SELECT seq, content_hash FROM turns WHERE session = ? AND turn_id = ?", (row.id, turn_id)
    ).fetchone()
    if stored != digest:
        message = f"the id {turn_id!r} is taken by a turn with other content (seq {seq})"
        raise Conflict(f"{path}: {message}", errors=[FieldError(path, message)])
    return AppendedTurn(id=turn_id, seq=seq, status="duplicate")


def content_hash(role: Role, name: str | None, content: str) -> bytes:
    """Tells whether two turns of the same id are the same."""
    return hashlib.sha256(msgspec.json.encode((role, name, content))).digest()
