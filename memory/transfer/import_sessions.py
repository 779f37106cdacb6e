"""Sessions of an import as rows of the truth. Blocking: for the thread that writes.

A session goes in with all its turns and spans or not at all. What is there already is compared and never changed: a session
that begins with the same turns is `unchanged`, any other is refused. So an import can be repeated, nothing is ever
interleaved with what an agent appends meanwhile, and two imports at once give what one gives.
"""

import sqlite3
import uuid
from itertools import pairwise
from typing import Final

import msgspec

from memory.compaction.coverage import Covered, coverage_problems
from memory.compaction.spans import read_source
from memory.transfer.import_records import Refused, SessionParts, Tally
from memory.transfer.import_vectors import insert_vector, usable_model
from memory.truth.items import SOURCES
from memory.truth.ranges import Ranges
from memory.truth.turn_writes import INSERT_TURN, content_hash
from shared.memory_messages import RecallKind
from shared.memory_records import ExportedSession, ExportedSpan, ExportedTurn
from shared.sql_values import inserted_key, stored_time
from shared.tokens import estimate_tokens

# What of a session is recalled.
_RECALLED: Final[tuple[RecallKind, ...]] = ("turn", "span")


class ImportSessions:
    """Sessions into one tenant. `model` is what the vectors that come along are of, empty where none are of use."""

    def __init__(self, tenant: str, *, model: str, tally: Tally) -> None:
        self._tenant = tenant
        self._model = model
        self._tally = tally

    def put(self, connection: sqlite3.Connection, number: int, session: ExportedSession, parts: SessionParts) -> None:
        """Takes all of its parts, whatever becomes of them."""
        connection.execute("SAVEPOINT session")
        try:
            is_new, vectors = self._put(connection, session, parts)
        except Refused as error:
            connection.execute("ROLLBACK TO session")
            self._tally.refuse(number, session, error)
            counts = self._tally.refused
        else:
            counts = self._tally.created if is_new else self._tally.unchanged
            if is_new:
                self._tally.vectors += vectors
        connection.execute("RELEASE session")
        parts.skip_rest()
        counts.update(session=1, turn=parts.turn_count, span=parts.span_count)

    def _put(self, connection: sqlite3.Connection, session: ExportedSession, parts: SessionParts) -> tuple[bool, int]:
        """Whether it is new, and how many of its vectors are used. Raises Refused."""
        found = connection.execute(
            "SELECT id, user_id, agent_id FROM sessions WHERE tenant = ? AND session_id = ?",
            (self._tenant, session.id),
        ).fetchone()
        if found is not None:
            if (found[1], found[2]) != (session.user_id, session.agent_id):
                raise Refused("it is there already, and belongs to another user or agent")
            _compare_turns(connection, found[0], parts)
            return False, 0
        key = self._insert(connection, session)
        model = usable_model(connection, self._model)
        vectors = sum(_insert_turn(connection, key, turn, model) for turn in parts.turns())
        vectors += _insert_spans(connection, key, parts, model)
        _make_recallable(connection, key, model)
        _check(connection, key, session)
        return True, vectors

    def _insert(self, connection: sqlite3.Connection, session: ExportedSession) -> int:
        return inserted_key(
            connection.execute(
                "INSERT INTO sessions (tenant, session_id, user_id, agent_id, title, policy, metadata, last_seq, tail_from, "
                "created_at, updated_at, retain_days_max, retain_turns_max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._tenant,
                    session.id,
                    session.user_id,
                    session.agent_id,
                    session.title,
                    _json(session.policy),
                    _json(session.metadata),
                    session.last_seq,
                    session.tail_from,
                    stored_time(session.created_at),
                    stored_time(session.updated_at),
                    session.retention and session.retention.days_max,
                    session.retention and session.retention.turns_max,
                ),
            )
        )


def _compare_turns(connection: sqlite3.Connection, session: int, parts: SessionParts) -> None:
    """A session may have gone on since. Raises Refused where it does not begin with these turns."""
    rows = connection.execute(
        "SELECT seq, turn_id, content_hash, created_at, metadata FROM turns WHERE session = ? ORDER BY seq", (session,)
    )
    for turn in parts.turns():
        wanted = (turn.seq, turn.id, _hash(turn), stored_time(turn.created_at), _json(turn.metadata))
        found = rows.fetchone()
        if found != wanted:
            what = "no turn" if found is None else "another turn"
            raise Refused(f"it is there already, with {what} in the place of turn {turn.seq}")


def _insert_turn(connection: sqlite3.Connection, session: int, turn: ExportedTurn, model: str) -> int:
    """How many vectors came with it. Raises Refused."""
    try:
        key = inserted_key(
            connection.execute(
                INSERT_TURN,
                (
                    session,
                    turn.seq,
                    turn.id,
                    turn.role,
                    turn.content,
                    turn.name,
                    stored_time(turn.created_at),
                    stored_time(turn.stored_at),
                    _json(turn.metadata),
                    _hash(turn),
                    estimate_tokens(turn.content),
                ),
            )
        )
    except sqlite3.IntegrityError as error:
        raise Refused(f"two of its turns have the id {turn.id!r}") from error
    return insert_vector(connection, "turn", key, model, turn.vector)


def _insert_spans(connection: sqlite3.Connection, session: int, parts: SessionParts, model: str) -> int:
    """How many vectors came with them. Raises Refused."""
    vectors = 0
    keys: dict[str, int] = {}
    parents: dict[int, str] = {}
    for span in parts.spans():
        try:
            key = keys[span.id] = _insert_span(connection, session, span)
        except sqlite3.IntegrityError as error:
            raise Refused(f"two of its spans of level {span.level} begin at turn {span.first_seq}") from error
        vectors += insert_vector(connection, "span", key, model, span.vector)
        if span.parent_id is not None:
            parents[key] = span.parent_id
    for key, parent in parents.items():
        if parent not in keys:
            raise Refused(f"a span stands in {parent!r}, which is not there")
        connection.execute("UPDATE spans SET parent = ? WHERE id = ?", (keys[parent], key))
    return vectors


def _insert_span(connection: sqlite3.Connection, session: int, span: ExportedSpan) -> int:
    # Names of spans are given out over all tenants: one that is taken says nothing of whose it is.
    is_taken = connection.execute("SELECT 1 FROM spans WHERE span_id = ?", (span.id,)).fetchone() is not None
    return inserted_key(
        connection.execute(
            "INSERT INTO spans (session, span_id, level, first_seq, last_seq, since, until, text, ledger, tokens, "
            "source_tokens, turns, summarizer, source_hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                session,
                uuid.uuid4().hex if is_taken else span.id,
                span.level,
                span.first_seq,
                span.last_seq,
                stored_time(span.since),
                stored_time(span.until),
                span.text,
                _json(span.ledger),
                span.tokens,
                span.source_tokens,
                span.turns,
                span.summarizer,
                bytes.fromhex(span.source_hash),
                stored_time(span.created_at),
            ),
        )
    )


def _make_recallable(connection: sqlite3.Connection, session: int, model: str) -> None:
    """Tells recall indexes of what the session has, and has vectors made of what came without."""
    for kind in _RECALLED:
        source = SOURCES[kind]
        connection.execute(
            "INSERT INTO ops (kind, item_kind, item_id, tenant, user_id, agent_id, session) "
            f"SELECT 'add', ?, {source.id}, {source.owner} FROM {source.rows} WHERE {source.session} = ? "
            f"ORDER BY {source.id}",
            (kind, session),
        )
        connection.execute(
            f"INSERT INTO pending (item_kind, item_id) SELECT ?, {source.id} FROM {source.rows} "
            f"WHERE {source.session} = ? AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.item_kind = ? "
            f"AND v.item_id = {source.id} AND v.model = ?) ORDER BY {source.id}",
            (kind, session, kind, model),
        )


def _add_erased(connection: sqlite3.Connection, key: int, last_seq: int) -> Ranges:
    """Numbers that no turn has are of turns that were forgotten before the export."""
    seqs = [row[0] for row in connection.execute("SELECT seq FROM turns WHERE session = ? ORDER BY seq", (key,))]
    gaps = Ranges((before + 1, after - 1) for before, after in pairwise([0, *seqs, last_seq + 1]) if after > before + 1)
    connection.executemany(
        "INSERT INTO erased (session, first_seq, last_seq) VALUES (?, ?, ?)", [(key, *gap) for gap in gaps]
    )
    return gaps


def _check(connection: sqlite3.Connection, key: int, session: ExportedSession) -> None:
    """What `check` looks for, before it can be found. Raises Refused."""
    connection.execute(
        "UPDATE sessions SET tail_tokens = "
        "(SELECT coalesce(sum(tokens), 0) FROM turns WHERE session = sessions.id AND seq >= tail_from) WHERE id = ?",
        (key,),
    )
    erased = _add_erased(connection, key, session.last_seq)
    rows = connection.execute(
        "SELECT id, level, first_seq, last_seq, parent, source_hash FROM spans WHERE session = ?", (key,)
    ).fetchall()
    spans = [Covered(id=row[0], level=row[1], first_seq=row[2], last_seq=row[3], parent=row[4]) for row in rows]
    problems = coverage_problems(spans, session.tail_from, erased)
    if problems:
        raise Refused(f"its spans do not fit its turns: {problems[0]}")
    for row in rows:
        if row[1] == 0 and read_source(connection, key, row[2], row[3]).hash != row[5]:
            raise Refused(f"the span from turn {row[2]} to {row[3]} was made from other turns")


def _hash(turn: ExportedTurn) -> bytes:
    return content_hash(turn.role, turn.name, turn.content)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
