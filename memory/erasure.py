"""The erase itself, in SQL: what a selection reaches, its end in one transaction, and the second look afterwards.

A plan names everything by key, so what a dry run counts, what is erased and what is looked for again are the same things.
Turns take with them their vectors, what waits for one, facts that came from nothing else, and every span that stands for them:
it is made anew from what remains, or goes when nothing does. So no summary says what was forgotten, at no moment after the commit.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from memory.coverage import Covered, coverage_problems
from memory.erased import add_erased, read_erased
from memory.ranges import Ranges
from memory.records import Owner
from memory.remaking import Remakes, plan_remakes
from memory.selection import Selection
from memory.span_making import span_of_spans, span_of_turns, tokens_of_spans, tokens_of_turns
from memory.span_text import NAME, Composed, compose, merge
from memory.spans import Source, insert_span, read_source, read_stored

_KINDS = ("turn", "span", "fact")
# Makes what a span of level 0 says of its turns, within a budget of tokens.
Compose = Callable[[Source, int], Composed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes, by key. `turns` are those of each session, by their numbers; `sessions` are the ones that go altogether."""

    turns: dict[int, dict[int, int]]
    sessions: list[int]
    remakes: dict[int, Remakes]
    facts: list[int]
    vectors: int
    owners: list[Owner] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.turns or self.sessions or self.facts)

    def keys(self, kind: str) -> list[int]:
        if kind == "turn":
            return [key for turns in self.turns.values() for key in turns.values()]
        if kind == "span":
            return [key for each in self.remakes.values() for key in (*each.gone, *each.remade)]
        return self.facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What a second look still found. `rows` are any that nobody reports, `stale` are spans that are not as they should be."""

    turns: int
    facts: int
    vectors: int
    sessions: int
    spans: int
    rows: int
    stale: int

    @property
    def is_nothing(self) -> bool:
        return not any((self.turns, self.facts, self.vectors, self.sessions, self.spans, self.rows, self.stale))


def plan_erasure(connection: sqlite3.Connection, selection: Selection) -> Plan:
    """What the selection reaches now. Reads only."""
    turns = _turns(connection, selection)
    sessions = _sessions(connection, selection, turns)
    remakes = {
        session: _remakes(connection, session, None if session in set(sessions) else sorted(turns.get(session, ())))
        for session in {*turns, *sessions}
    }
    plan = Plan(turns=turns, sessions=sessions, remakes=remakes, facts=_facts(connection, selection, turns), vectors=0)
    vectors = sum(_count(connection, _VECTORS, kind, plan.keys(kind)) for kind in _KINDS)
    return msgspec.structs.replace(plan, vectors=vectors) if False else _with(plan, vectors, _owners(connection, plan))


def prepare(connection: sqlite3.Connection, plan: Plan, *, share: float) -> dict[bytes, Composed]:
    """What spans of level 0 will say, by the hash of what they are made from, so that the erase need not work it out while
    others wait to write."""
    prepared: dict[bytes, Composed] = {}
    for session, turns in plan.turns.items():
        without = Ranges.of(turns)
        for span in _standing(connection, session, plan.remakes[session].remade, level=0):
            source = read_source(connection, session, span.first_seq, span.last_seq, without=without)
            prepared[source.hash] = compose(source.lines, tokens_of_turns(source.tokens, share))
    return prepared


def erase(connection: sqlite3.Connection, plan: Plan, *, share: float, prepared: dict[bytes, Composed]) -> None:
    """Does what was planned in this very transaction."""

    def say(source: Source, tokens_max: int) -> Composed:
        return prepared.get(source.hash) or compose(source.lines, tokens_max)

    _record_removals(connection, plan)
    for kind in _KINDS:
        for table in ("vectors", "pending"):
            connection.execute(
                f"DELETE FROM {table} WHERE item_kind = ? AND item_id IN (SELECT value FROM json_each(?))",
                (kind, _listed(plan.keys(kind))),
            )
    connection.execute("DELETE FROM facts WHERE id IN (SELECT value FROM json_each(?))", (_listed(plan.facts),))
    connection.execute("DELETE FROM turns WHERE id IN (SELECT value FROM json_each(?))", (_listed(plan.keys("turn")),))
    whole = set(plan.sessions)
    for session, remakes in plan.remakes.items():
        connection.execute("DELETE FROM spans WHERE id IN (SELECT value FROM json_each(?))", (_listed(remakes.gone),))
        if session not in whole:
            _remake(connection, session, remakes.remade, share, say)
            add_erased(connection, session, plan.turns[session])
            connection.execute(
                "UPDATE sessions SET tail_tokens = (SELECT coalesce(sum(t.tokens), 0) FROM turns t "
                "WHERE t.session = sessions.id AND t.seq >= sessions.tail_from) WHERE id = ?",
                (session,),
            )
    connection.execute("DELETE FROM sessions WHERE id IN (SELECT value FROM json_each(?))", (_listed(plan.sessions),))


def look_again(connection: sqlite3.Connection, plan: Plan) -> Left:
    """What is left of what was planned, after its transaction."""
    whole = set(plan.sessions)
    return Left(
        turns=_count(connection, "turns WHERE id", None, plan.keys("turn")),
        facts=_count(connection, "facts WHERE id", None, plan.facts),
        vectors=sum(_count(connection, _VECTORS, kind, plan.keys(kind)) for kind in _KINDS),
        sessions=_count(connection, "sessions WHERE id", None, plan.sessions),
        spans=_count(connection, "spans WHERE id", None, plan.keys("span")),
        rows=sum(_count(connection, "pending WHERE item_kind = ? AND item_id", kind, plan.keys(kind)) for kind in _KINDS)
        + _count(connection, "fact_sources WHERE turn", None, plan.keys("turn"))
        + sum(
            _count(connection, f"{table} WHERE session", None, plan.sessions)
            for table in ("turns", "spans", "ops", "erased")
        ),
        stale=sum(_stale(connection, session, turns) for session, turns in plan.turns.items() if session not in whole),
    )


def texts_of(connection: sqlite3.Connection, plan: Plan) -> list[bytes]:
    """What must not be found in the file any more, as it lies there: columns that follow one another in a row."""
    wanted = (
        ("role || content || coalesce(name, '') || created_at FROM turns WHERE id", plan.keys("turn")),
        ("text || ledger FROM spans WHERE id", plan.keys("span")),
        ("kind || coalesce(key, '') || text FROM facts WHERE id", plan.facts),
        ("title FROM sessions WHERE id", plan.sessions),
        ("metadata FROM sessions WHERE id", plan.sessions),
        ("metadata FROM turns WHERE id", plan.keys("turn")),
    )
    return [
        row[0].encode()
        for columns, keys in wanted
        for row in connection.execute(f"SELECT {columns} IN (SELECT value FROM json_each(?))", (_listed(keys),))
    ]


_VECTORS = "vectors WHERE item_kind = ? AND item_id"
