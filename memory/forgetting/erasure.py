"""The erase itself, in SQL: what a selection reaches, its end in one transaction, and the second look afterwards.

A plan names everything by key, so what a dry run counts, what is erased and what is looked for again are the same things.
Turns take with them their vectors, what waits for one, facts that came from nothing else, and every span that stands for them:
it is made anew from what remains, or goes when nothing does. So no summary says what was forgotten, at no moment after the commit.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from memory.compaction.coverage import Covered
from memory.compaction.span_making import span_of_spans, span_of_turns, tokens_of_spans, tokens_of_turns
from memory.compaction.span_text import Composed, compose, merge
from memory.compaction.spans import Source, insert_span, read_source, read_stored, session_problems
from memory.compaction.summaries import EXTRACTIVE
from memory.facts.places import erase_facts
from memory.forgetting.feedback_erasure import feedback_reached, judgments_left
from memory.forgetting.remaking import Remakes, plan_remakes
from memory.forgetting.selection import Selection
from memory.truth.erased import add_erased
from memory.truth.ranges import Ranges
from shared.sql_values import listed

_KINDS: Final = ("turn", "span", "fact")
_LISTED: Final = "IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Whose memory is touched: keys of sessions, and the users and agents that they belong to."""

    sessions: frozenset[int]
    users: frozenset[str]
    agents: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What goes, by key. `turns` are those of each session, keys by numbers; `sessions` are the ones that go altogether."""

    turns: Mapping[int, Mapping[int, int]]
    sessions: Sequence[int]
    remakes: Mapping[int, Remakes]
    facts: Sequence[int]
    feedback: Sequence[int]
    vectors: int
    owners: Owners

    @property
    def is_empty(self) -> bool:
        return not (self.turns or self.sessions or self.facts or self.feedback)

    @property
    def spans_remade(self) -> int:
        return sum(len(each.remade) for each in self.remakes.values())

    def keys(self, kind: str) -> Sequence[int]:
        if kind == "turn":
            return [key for turns in self.turns.values() for key in turns.values()]
        if kind == "span":
            return [key for each in self.remakes.values() for key in (*each.gone, *each.remade)]
        return self.facts


def plan_erasure(connection: sqlite3.Connection, selection: Selection) -> Plan:
    """What the selection reaches now. Reads only."""
    turns = _turns(connection, selection)
    sessions = _sessions(connection, selection, turns)
    whole = set(sessions)
    remakes = {
        session: _remakes(connection, session, sorted(turns.get(session, ())), whole=session in whole)
        for session in sorted({*turns, *sessions})
    }
    facts = _facts(connection, selection, turns)
    spans = [key for each in remakes.values() for key in (*each.gone, *each.remade)]
    keys = {"turn": [key for each in turns.values() for key in each.values()], "span": spans, "fact": facts}
    return Plan(
        turns=turns,
        sessions=sessions,
        remakes=remakes,
        facts=facts,
        feedback=feedback_reached(connection, selection, turns=keys["turn"], facts=facts, sessions=sessions),
        vectors=sum(_count(connection, "vectors WHERE item_kind = ? AND item_id", keys[kind], kind) for kind in _KINDS),
        owners=_owners(connection, sorted({*turns, *sessions}), facts),
    )


def prepare(connection: sqlite3.Connection, plan: Plan, *, share: float) -> dict[bytes, Composed]:
    """What spans of level 0 will say, by the hash of what they are made from, so that the erase need not work it out while
    others wait to write. Reads only."""
    prepared: dict[bytes, Composed] = {}
    for session, remakes in plan.remakes.items():
        without = Ranges.of(plan.turns.get(session, ()))
        for span in _standing(connection, session, remakes.remade):
            if span.level == 0:
                source = read_source(connection, session, span.first_seq, span.last_seq, without=without)
                prepared[source.hash] = compose(source.lines, tokens_of_turns(source.tokens, share))
    return prepared


def erase(connection: sqlite3.Connection, plan: Plan, *, share: float, prepared: Mapping[bytes, Composed]) -> None:
    """Does what was planned in this very transaction."""
    connection.execute(f"DELETE FROM feedback WHERE id {_LISTED}", (listed(plan.feedback),))
    erase_facts(connection, plan.facts)
    for kind in _KINDS:
        keys = listed(plan.keys(kind))
        for table in ("vectors", "pending"):
            connection.execute(f"DELETE FROM {table} WHERE item_kind = ? AND item_id {_LISTED}", (kind, keys))
        # What a projection once followed names users and agents. Whoever has one in memory drops it after the commit.
        connection.execute(
            f"DELETE FROM ops WHERE item_kind = ? AND item_id {_LISTED} AND (session {_LISTED} OR session IS NULL)",
            (kind, keys, listed(plan.remakes)),
        )
    connection.execute(f"DELETE FROM turns WHERE id {_LISTED}", (listed(plan.keys("turn")),))
    whole = set(plan.sessions)
    for session, remakes in plan.remakes.items():
        connection.execute(f"DELETE FROM spans WHERE id {_LISTED}", (listed(remakes.gone),))
        if session in whole:
            connection.execute("DELETE FROM ops WHERE session = ?", (session,))
            continue
        for span in _standing(connection, session, remakes.remade):
            _remake(connection, session, span, share, prepared)
        add_erased(connection, session, plan.turns[session])
        connection.execute(
            "UPDATE sessions SET tail_tokens = (SELECT coalesce(sum(t.tokens), 0) FROM turns t "
            "WHERE t.session = sessions.id AND t.seq >= sessions.tail_from) WHERE id = ?",
            (session,),
        )
    connection.execute(f"DELETE FROM sessions WHERE id {_LISTED}", (listed(plan.sessions),))


def left_of(connection: sqlite3.Connection, plan: Plan) -> int:
    """A second look after the transaction: rows that still stand of what was planned, and faults in what was made anew."""
    left = 0
    for kind, table in (("turn", "turns"), ("span", "spans"), ("fact", "facts")):
        keys = plan.keys(kind)
        left += _count(connection, f"{table} WHERE id", keys)
        left += sum(
            _count(connection, f"{each} WHERE item_kind = ? AND item_id", keys, kind) for each in ("vectors", "pending")
        )
    left += _count(connection, "sessions WHERE id", plan.sessions)
    left += _count(connection, "fact_sources WHERE turn", plan.keys("turn"))
    left += judgments_left(connection, feedback=plan.feedback, turns=plan.keys("turn"), facts=plan.facts)
    left += sum(
        _count(connection, f"{table} WHERE session", plan.sessions) for table in ("turns", "spans", "ops", "erased")
    )
    return left + sum(len(session_problems(connection, session)) for session in plan.turns)


def bytes_of(connection: sqlite3.Connection, plan: Plan) -> list[bytes]:
    """What must not be found in the file any more, in the order in which the columns lie in a row."""
    wanted = (
        ("turn_id || role || content || coalesce(name, '') FROM turns WHERE id", plan.keys("turn")),
        ("metadata FROM turns WHERE id", plan.keys("turn")),
        ("text || ledger FROM spans WHERE id", plan.keys("span")),
        ("coalesce(key, '') || text FROM facts WHERE id", plan.facts),
        (
            "session_id || coalesce(user_id, '') || coalesce(agent_id, '') || title FROM sessions WHERE id",
            plan.sessions,
        ),
        ("metadata FROM sessions WHERE id", plan.sessions),
        (
            "feedback_id || coalesce(user_id, '') || coalesce(agent_id, '') || query || comment FROM feedback WHERE id",
            plan.feedback,
        ),
        ("question_hash FROM feedback WHERE id", plan.feedback),
        *((f"vector FROM vectors WHERE item_kind = '{kind}' AND item_id", plan.keys(kind)) for kind in _KINDS),
    )
    return [
        row[0].encode() if isinstance(row[0], str) else row[0]
        for columns, keys in wanted
        for row in connection.execute(f"SELECT {columns} {_LISTED}", (listed(keys),))
    ]


def _turns(connection: sqlite3.Connection, selection: Selection) -> dict[int, dict[int, int]]:
    if selection.fact_ids is not None or selection.feedback is not None:
        return {}
    condition, values = selection.of_turns()
    found: dict[int, dict[int, int]] = {}
    for session, seq, key in connection.execute(
        f"SELECT t.session, t.seq, t.id FROM sessions s JOIN turns t ON t.session = s.id WHERE {condition}", values
    ):
        found.setdefault(session, {})[seq] = key
    return found


def _sessions(
    connection: sqlite3.Connection, selection: Selection, turns: Mapping[int, Mapping[int, int]]
) -> list[int]:
    if selection.is_whole:
        condition, values = selection.of_sessions()
        return [row[0] for row in connection.execute(f"SELECT s.id FROM sessions s WHERE {condition}", values)]
    if not selection.drops_emptied:
        return []
    counted = connection.execute(
        f"SELECT session, count(*) FROM turns WHERE session {_LISTED} GROUP BY session", (listed(list(turns)),)
    )
    return [session for session, count in counted if count == len(turns[session])]


def _facts(connection: sqlite3.Connection, selection: Selection, turns: Mapping[int, Mapping[int, int]]) -> list[int]:
    """Those that are meant, and those that came from nothing else than these turns."""
    keys = listed([key for each in turns.values() for key in each.values()])
    found = connection.execute(
        f"SELECT DISTINCT d.fact FROM fact_sources d JOIN facts f ON f.id = d.fact WHERE f.derived AND d.turn {_LISTED} "
        f"AND NOT EXISTS (SELECT 1 FROM fact_sources o WHERE o.fact = d.fact AND o.turn NOT {_LISTED})",
        (keys, keys),
    ).fetchall()
    if meant := selection.of_facts():
        found += connection.execute(f"SELECT f.id FROM facts f WHERE {meant[0]}", meant[1]).fetchall()
    return sorted({row[0] for row in found})


def _remakes(connection: sqlite3.Connection, session: int, erased: Sequence[int], *, whole: bool) -> Remakes:
    rows = connection.execute(
        "SELECT id, level, first_seq, last_seq, parent, turns FROM spans WHERE session = ?", (session,)
    ).fetchall()
    if whole:
        return Remakes(remade=[], gone=[row[0] for row in rows])
    return plan_remakes([(_covered(row), row[5]) for row in rows], erased)


def _standing(connection: sqlite3.Connection, session: int, keys: Sequence[int]) -> list[Covered]:
    """The spans by these keys, lowest level first."""
    rows = connection.execute(
        f"SELECT id, level, first_seq, last_seq, parent FROM spans WHERE session = ? AND id {_LISTED} ORDER BY level, first_seq",
        (session, listed(keys)),
    )
    return [_covered(row) for row in rows]


def _covered(row: Sequence[int]) -> Covered:
    return Covered(id=row[0], level=row[1], first_seq=row[2], last_seq=row[3], parent=row[4])


def _remake(
    connection: sqlite3.Connection, session: int, old: Covered, share: float, prepared: Mapping[bytes, Composed]
) -> None:
    """Puts a new span in the place of one whose turns, or whose spans below, are not what they were."""
    if old.level == 0:
        source: Source = read_source(connection, session, old.first_seq, old.last_seq)
        composed = prepared.get(source.hash) or compose(source.lines, tokens_of_turns(source.tokens, share))
        made = span_of_turns(source, composed, EXTRACTIVE)
    else:
        children = read_stored(connection, "p.parent = ?", (old.id,))
        merged = merge([child.span for child in children], tokens_of_spans(children))
        made = span_of_spans(children, merged, EXTRACTIVE)
    connection.execute("DELETE FROM spans WHERE id = ?", (old.id,))
    key = insert_span(connection, session, made)
    connection.execute(f"UPDATE spans SET parent = ? WHERE id {_LISTED}", (key, listed(made.children)))
    connection.execute("UPDATE spans SET parent = ? WHERE id = ?", (old.parent, key))


def _owners(connection: sqlite3.Connection, sessions: Sequence[int], facts: Sequence[int]) -> Owners:
    rows = connection.execute(
        f"SELECT user_id, agent_id FROM sessions WHERE id {_LISTED}", (listed(sessions),)
    ).fetchall()
    rows += connection.execute(f"SELECT user_id, NULL FROM facts WHERE id {_LISTED}", (listed(facts),)).fetchall()
    return Owners(
        sessions=frozenset(sessions),
        users=frozenset(row[0] for row in rows if row[0] is not None),
        agents=frozenset(row[1] for row in rows if row[1] is not None),
    )


def _count(connection: sqlite3.Connection, rows: str, keys: Sequence[int], *values: str) -> int:
    """`rows` are a table and a condition that ends with the column of the keys."""
    counted: int = connection.execute(f"SELECT count(*) FROM {rows} {_LISTED}", (*values, listed(keys))).fetchone()[0]
    return counted
