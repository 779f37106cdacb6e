"""The truth in SQL about spans: what is folded, what the spans are made from, and the fold itself, by compare-and-swap."""

import hashlib
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from memory.compaction.coverage import Covered, coverage_problems
from memory.compaction.folding import Piece, Weighed
from memory.compaction.span_text import Composed, render
from memory.truth.erased import read_erased
from memory.truth.items import enter_item
from memory.truth.ranges import NONE, Ranges
from memory.truth.records import Line, RecalledSpan, Scope, SessionRow, speaker_of
from memory.truth.scopes import scope_condition
from memory.truth.store import FOREVER, SESSION_JSON, TURN_COLUMNS, session_row, turn_of
from shared.database import Database
from shared.errors import NotFound
from shared.filters import Filter, matches
from shared.memory_messages import Span, SpansQuery, Summarizer, Turn, TurnsQuery
from shared.paging import Page, number_of, numbered_page, page_of
from shared.sql_values import inserted_key, listed, now_stored, stored_time
from shared.tokens import estimate_tokens

_SPAN: Final = (
    "p.id, p.span_id, s.session_id, p.level, p.first_seq, p.last_seq, p.text, p.ledger, p.tokens, p.source_tokens, "
    "p.summarizer, p.created_at, (SELECT above.span_id FROM spans above WHERE above.id = p.parent), p.since, p.until"
)
# By the index `sessions_overfull`, so that it costs nothing in the number of sessions.
OVERFULL: Final = (
    f"SELECT {SESSION_JSON} FROM sessions WHERE json_extract(policy, '$.summarizer') = ? AND id > ? "
    "AND tail_tokens > json_extract(policy, '$.tail_tokens_max') ORDER BY id LIMIT ?"
)
_JOINED: Final = "FROM spans p JOIN sessions s ON s.id = p.session"


@dataclass(frozen=True, slots=True)
class Source:
    """What a span of level 0 is made from. `hash` tells whether it is still the same, `tokens` are those of its turns."""

    lines: list[Line]
    hash: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class StoredSpan:
    """A span with its key in the truth. `turns` is how many it stands for."""

    id: int
    span: Span
    turns: int
    source_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSpan:
    """What was made of turns, or of the spans `children`, and is not stored yet."""

    level: int
    first_seq: int
    last_seq: int
    turns: int
    since: datetime
    until: datetime
    composed: Composed
    source_tokens: int
    summarizer: str
    source_hash: bytes
    children: Sequence[int] = ()


class Spans:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def tail(self, session: int) -> list[Weighed]:
        """Empty for a session that is gone."""

        def unit(connection: sqlite3.Connection) -> list[Weighed]:
            rows = connection.execute(
                "SELECT t.seq, t.role, t.tokens FROM turns t JOIN sessions s ON s.id = t.session "
                "WHERE s.id = ? AND t.seq >= s.tail_from ORDER BY t.seq",
                (session,),
            )
            return [Weighed(*row) for row in rows]

        return await self._database.read(unit)

    async def overfull(self, summarizer: Summarizer, *, after: int, limit: int) -> list[SessionRow]:
        """Sessions whose tail has outgrown their policy, by key."""
        return await self._database.read(
            lambda connection: [session_row(row) for row in connection.execute(OVERFULL, (summarizer, after, limit))]
        )

    async def source(self, session: int, piece: Piece) -> Source:
        return await self._database.read(
            lambda connection: read_source(connection, session, piece.first_seq, piece.last_seq)
        )

    async def fold(self, session: int, made: NewSpan) -> bool:
        """Stores a span of level 0 and moves the tail behind it. False, with nothing changed, where the tail does not begin
        with its turns any more, or these are not what it was made from."""

        def unit(connection: sqlite3.Connection) -> bool:
            begins = connection.execute(
                "SELECT min(t.seq) FROM turns t JOIN sessions s ON s.id = t.session WHERE s.id = ? AND t.seq >= s.tail_from",
                (session,),
            ).fetchone()[0]
            if begins != made.first_seq:
                return False
            if read_source(connection, session, made.first_seq, made.last_seq).hash != made.source_hash:
                return False
            insert_span(connection, session, made)
            connection.execute(
                "UPDATE sessions SET tail_from = ?, tail_tokens = tail_tokens - ? WHERE id = ?",
                (made.last_seq + 1, made.source_tokens, session),
            )
            return True

        return await self._database.write(unit)

    async def unrolled(self, session: int, level: int) -> list[StoredSpan]:
        """Those of the level that stand in none above, oldest first."""
        return await self._database.read(
            lambda connection: read_stored(
                connection, "p.session = ? AND p.level = ? AND p.parent IS NULL", (session, level)
            )
        )

    async def roll_up(self, session: int, made: NewSpan) -> bool:
        """Stores a span above its children. False, with nothing changed, where one of them is gone or stands in another."""

        def unit(connection: sqlite3.Connection) -> bool:
            children = listed(made.children)
            free = connection.execute(
                "SELECT count(*) FROM spans WHERE session = ? AND parent IS NULL AND id IN (SELECT value FROM json_each(?))",
                (session, children),
            ).fetchone()[0]
            if free != len(made.children):
                return False
            key = insert_span(connection, session, made)
            connection.execute(
                "UPDATE spans SET parent = ? WHERE id IN (SELECT value FROM json_each(?))", (key, children)
            )
            return True

        return await self._database.write(unit)

    async def page(self, row: SessionRow, query: SpansQuery) -> Page[Span]:
        """In the order in which they were made. Raises InvalidFields for a cursor that no page gave."""
        after = 0 if query.cursor is None else number_of(query.cursor)

        def unit(connection: sqlite3.Connection) -> Page[Span]:
            rows = connection.execute(
                f"SELECT {_SPAN} {_JOINED} WHERE p.session = ? AND p.id > ? AND (? IS NULL OR p.level = ?) "
                "ORDER BY p.id LIMIT ?",
                (row.id, after, query.level, query.level, query.limit + 1),
            ).fetchall()
            return numbered_page([(each[0], _span(each)) for each in rows], query.limit)

        return await self._database.read(unit)

    async def outermost(self, session: int, *, as_of: datetime | None) -> list[Span]:
        """The fewest spans that stand for all that is folded, oldest first; with `as_of`, for what had been said by then."""
        moment = stored_time(as_of) or FOREVER

        def unit(connection: sqlite3.Connection) -> list[Span]:
            rows = connection.execute(
                f"SELECT {_SPAN} {_JOINED} LEFT JOIN spans above ON above.id = p.parent "
                "WHERE p.session = ? AND p.until <= ? AND (above.id IS NULL OR above.until > ?) ORDER BY p.first_seq",
                (session, moment, moment),
            )
            return [_span(row) for row in rows]

        return await self._database.read(unit)

    async def over(self, places: Sequence[tuple[int, int]], *, as_of: datetime | None) -> dict[tuple[int, int], Span]:
        """The span of level 0 that stands for each turn, by session and number; none for what was not folded by then."""
        wanted, moment = listed(places), stored_time(as_of) or FOREVER

        def unit(connection: sqlite3.Connection) -> dict[tuple[int, int], Span]:
            rows = connection.execute(
                f"SELECT {_SPAN}, p.session, json_extract(j.value, '$[1]') "
                "FROM json_each(?) j CROSS JOIN spans p ON p.session = json_extract(j.value, '$[0]') AND p.level = 0 "
                "AND json_extract(j.value, '$[1]') BETWEEN p.first_seq AND p.last_seq "
                "JOIN sessions s ON s.id = p.session WHERE p.until <= ?",
                (wanted, moment),
            )
            return {(row[-2], row[-1]): _span(row) for row in rows}

        return await self._database.read(unit)

    async def recalled(self, scope: Scope, item_ids: Sequence[int]) -> dict[int, RecalledSpan]:
        """Spans by key, of those that belong to the scope."""
        ids = listed(item_ids)
        return {
            each.id: each
            for each in await self._recalled(
                scope, "p.id IN (SELECT value FROM json_each(?))", (ids,), limit=len(item_ids)
            )
        }

    async def newest(
        self, scope: Scope, *, since: datetime | None, until: datetime | None, part: Filter | None, limit: int
    ) -> list[RecalledSpan]:
        """By their latest turn. They have no metadata, so `part` is true of all or none."""
        if part is not None and not matches(part, {}):
            return []
        window = (stored_time(since) or "", stored_time(until) or FOREVER)
        return await self._recalled(scope, "p.until BETWEEN ? AND ?", window, limit=limit)

    async def _recalled(self, scope: Scope, which: str, values: Sequence[str], *, limit: int) -> list[RecalledSpan]:
        def unit(connection: sqlite3.Connection) -> list[RecalledSpan]:
            condition, owner = scope_condition(scope, "s.")
            rows = connection.execute(
                f"SELECT {_SPAN}, p.session {_JOINED} WHERE {which} AND {condition} ORDER BY p.until DESC, p.id DESC LIMIT ?",
                (*values, *owner, limit),
            )
            return [RecalledSpan(row[0], row[-1], _span(row)) for row in rows]

        return await self._database.read(unit)

    async def problems(self) -> list[str]:
        """What is wrong with the spans of any session; empty when sound."""
        return await self._database.read(_problems)

    async def turn_page(self, tenant: str, span_id: str, query: TurnsQuery) -> Page[Turn]:
        """The turns that a span stands for, in order. Raises NotFound, InvalidFields."""
        after = max(query.after or 0, 0 if query.cursor is None else number_of(query.cursor))

        def unit(connection: sqlite3.Connection) -> Page[Turn]:
            found = connection.execute(
                f"SELECT p.session, p.first_seq, p.last_seq {_JOINED} WHERE s.tenant = ? AND p.span_id = ?",
                (tenant, span_id),
            ).fetchone()
            if found is None:
                raise NotFound(f"there is no span {span_id!r}")
            session, first_seq, last_seq = found
            before = last_seq + 1 if query.before is None else min(query.before, last_seq + 1)
            rows = connection.execute(
                f"SELECT {TURN_COLUMNS} FROM turns WHERE session = ? AND seq > ? AND seq < ? ORDER BY seq LIMIT ?",
                (session, max(after, first_seq - 1), before, query.limit + 1),
            ).fetchall()
            return page_of([turn_of(row) for row in rows], query.limit, key=lambda turn: str(turn.seq))

        return await self._database.read(unit)


def _problems(connection: sqlite3.Connection) -> list[str]:
    sessions = connection.execute("SELECT id, session_id FROM sessions ORDER BY id").fetchall()
    return [
        f"session {name!r}: {problem}"
        for session, name in sessions
        for problem in session_problems(connection, session)
    ]


def session_problems(connection: sqlite3.Connection, session: int) -> list[str]:
    """What is wrong with the spans and the tail of one session; empty when sound, and for a session that is gone."""
    found = connection.execute("SELECT tail_from, tail_tokens FROM sessions WHERE id = ?", (session,)).fetchone()
    if found is None:
        return []
    tail_from, tail_tokens = found
    rows = connection.execute(
        "SELECT id, level, first_seq, last_seq, parent, source_hash, turns FROM spans WHERE session = ?", (session,)
    ).fetchall()
    spans = [Covered(id=row[0], level=row[1], first_seq=row[2], last_seq=row[3], parent=row[4]) for row in rows]
    problems = coverage_problems(spans, tail_from, read_erased(connection, session))
    for row in rows:
        if row[1] == 0:
            source = read_source(connection, session, row[2], row[3])
            if (source.hash, len(source.lines)) != row[5:]:
                problems.append(f"span {row[0]} was made from other turns")
    counted = connection.execute(
        "SELECT coalesce(sum(tokens), 0) FROM turns WHERE session = ? AND seq >= ?", (session, tail_from)
    ).fetchone()[0]
    if counted != tail_tokens:
        problems.append(f"the tail has {counted} tokens, and {tail_tokens} are remembered")
    return problems


def read_stored(connection: sqlite3.Connection, condition: str, values: Sequence[object]) -> list[StoredSpan]:
    """Oldest first. `condition` is of spans `p` and sessions `s`."""
    rows = connection.execute(
        f"SELECT {_SPAN}, p.turns, p.source_hash {_JOINED} WHERE {condition} ORDER BY p.first_seq", values
    )
    return [StoredSpan(row[0], _span(row), row[-2], row[-1]) for row in rows]


def read_source(
    connection: sqlite3.Connection, session: int, first_seq: int, last_seq: int, *, without: Ranges = NONE
) -> Source:
    """What a span of these turns is made from; `without` are those that are about to be erased."""
    rows = connection.execute(
        "SELECT seq, role, name, content, created_at, content_hash, tokens FROM turns "
        "WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        (session, first_seq, last_seq),
    )
    lines: list[Line] = []
    digest = hashlib.sha256()
    tokens = 0
    for seq, role, name, content, created_at, content_hash, counted in rows:
        if without.holds(seq, seq):
            continue
        tokens += counted
        moment = datetime.fromisoformat(created_at)
        lines.append(Line(seq=seq, role=role, speaker=speaker_of(role, name), created_at=moment, text=content))
        digest.update(f"{seq} ".encode() + content_hash)
    return Source(lines, digest.digest(), tokens)


def insert_span(connection: sqlite3.Connection, session: int, made: NewSpan) -> int:
    """Its key."""
    cursor = connection.execute(
        "INSERT INTO spans (session, span_id, level, first_seq, last_seq, since, until, text, ledger, tokens, source_tokens, "
        "turns, summarizer, source_hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            session,
            uuid.uuid4().hex,
            made.level,
            made.first_seq,
            made.last_seq,
            stored_time(made.since),
            stored_time(made.until),
            made.composed.text,
            listed(made.composed.ledger),
            estimate_tokens(render(made.composed.text, made.composed.ledger)),
            made.source_tokens,
            made.turns,
            made.summarizer,
            made.source_hash,
            now_stored(),
        ),
    )
    key = inserted_key(cursor)
    enter_item(connection, "span", key)
    return key


def _span(row: Sequence[object]) -> Span:
    return msgspec.convert(
        {
            "id": row[1],
            "session_id": row[2],
            "level": row[3],
            "first_seq": row[4],
            "last_seq": row[5],
            "text": row[6],
            "ledger": msgspec.json.decode(str(row[7])),
            "tokens": row[8],
            "source_tokens": row[9],
            "summarizer": row[10],
            "created_at": row[11],
            "parent_id": row[12],
            "since": row[13],
            "until": row[14],
        },
        Span,
    )
