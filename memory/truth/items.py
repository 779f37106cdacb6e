"""How the items that can be recalled are read from the truth: one entry in `SOURCES` for each kind.

Recall indexes, the making of vectors and `check` know no tables. They ask here, by key or by scope, and get the same rows
whatever the kind is. Whoever stores an item calls `enter_item` in the same transaction. So another kind is one more entry here,
and one more reader in `app`.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from memory.truth.records import IndexedItem, ItemKey, Scope, speaker_of
from shared.memory_messages import RecallKind
from shared.sql_values import listed

Op = Literal["add", "remove", "vector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Expressions over the tables of `rows`. `position` counts what follows one another in a session without gaps."""

    rows: str
    id: str
    tenant: str
    user_id: str
    agent_id: str
    session: str
    position: str
    role: str
    name: str
    text: str
    created_at: str
    metadata: str

    @property
    def owner(self) -> str:
        return f"{self.tenant}, {self.user_id}, {self.agent_id}, {self.session}"


SOURCES: Final[dict[RecallKind, Source]] = {
    "turn": Source(
        rows="turns t JOIN sessions s ON s.id = t.session",
        id="t.id",
        tenant="s.tenant",
        user_id="s.user_id",
        agent_id="s.agent_id",
        session="s.id",
        position="t.seq",
        role="t.role",
        name="t.name",
        text="t.content",
        created_at="t.created_at",
        metadata="t.metadata",
    ),
    # What its latest turn said is in it, so it stands at that time. Identifiers count as words, wherever its text lost them.
    "span": Source(
        rows="spans p JOIN sessions s ON s.id = p.session",
        id="p.id",
        tenant="s.tenant",
        user_id="s.user_id",
        agent_id="s.agent_id",
        session="s.id",
        position="NULL",
        role="''",
        name="NULL",
        text="p.text || coalesce((SELECT char(10) || group_concat(json_extract(value, '$.text'), char(10)) "
        "FROM json_each(p.ledger)), '')",
        created_at="p.until",
        metadata="'{}'",
    ),
    # Its time is when it came true. It has no speaker and no neighbours.
    "fact": Source(
        rows="(SELECT * FROM facts WHERE status = 'active') f",
        id="f.id",
        tenant="f.tenant",
        user_id="f.user_id",
        agent_id="NULL",
        session="NULL",
        position="NULL",
        role="''",
        name="NULL",
        text="f.text",
        created_at="f.valid_from",
        metadata="'{}'",
    ),
}


def read_items(connection: sqlite3.Connection, model: str, keys: Iterable[ItemKey]) -> list[IndexedItem]:
    """Those that are there still, by kind and id, with their vectors of `model`."""
    wanted: dict[RecallKind, list[int]] = {}
    for kind, item_id in sorted(keys):
        wanted.setdefault(kind, []).append(item_id)
    return [item for kind, ids in wanted.items() for item in _read(connection, model, kind, ids)]


def _read(connection: sqlite3.Connection, model: str, kind: RecallKind, ids: Sequence[int]) -> list[IndexedItem]:
    source = SOURCES[kind]
    rows = connection.execute(
        f"SELECT {source.id}, {source.session}, {source.position}, {source.role}, {source.name}, {source.text}, "
        f"{source.created_at}, {source.metadata}, v.vector FROM {source.rows} "
        f"LEFT JOIN vectors v ON v.item_kind = ? AND v.item_id = {source.id} AND v.model = ? "
        f"WHERE {source.id} IN (SELECT value FROM json_each(?)) ORDER BY {source.id}",
        (kind, model, listed(ids)),
    )
    return [
        IndexedItem(
            kind=kind,
            id=row[0],
            session=row[1],
            position=row[2],
            role=row[3],
            speaker=speaker_of(row[3], row[4]),
            text=row[5],
            created_at=datetime.fromisoformat(row[6]),
            metadata=row[7],
            vector=row[8],
        )
        for row in rows
    ]


def item_keys(connection: sqlite3.Connection, scope: Scope) -> set[ItemKey]:
    """All that belong to the scope."""
    found: set[ItemKey] = set()
    for kind, source in SOURCES.items():
        wanted = {
            source.tenant: scope.tenant,
            source.user_id: scope.user_id,
            source.agent_id: scope.agent_id,
            source.session: scope.session,
        }
        given = {column: value for column, value in wanted.items() if value is not None}
        condition = " AND ".join(f"{column} = ?" for column in given)
        rows = connection.execute(f"SELECT {source.id} FROM {source.rows} WHERE {condition}", list(given.values()))
        found |= {(kind, row[0]) for row in rows}
    return found


def enter_item(connection: sqlite3.Connection, kind: RecallKind, item_id: int | None) -> None:
    """A new item: to be recalled from now on, by its words at once and by meaning when it has its vector."""
    record_op(connection, "add", item_id, kind)
    connection.execute("INSERT INTO pending (item_kind, item_id) VALUES (?, ?)", (kind, item_id))


def record_op(connection: sqlite3.Connection, op: Op, item_id: int | None, kind: RecallKind = "turn") -> None:
    """Before the item is gone, where it is removed: `ops` says itself whose it was."""
    source = SOURCES[kind]
    connection.execute(
        "INSERT INTO ops (kind, item_kind, item_id, tenant, user_id, agent_id, session) "
        f"SELECT ?, ?, {source.id}, {source.owner} FROM {source.rows} WHERE {source.id} = ?",
        (op, kind, item_id),
    )


def queue_all(connection: sqlite3.Connection, *, lacking_model: str | None = None) -> None:
    """Puts items into `pending`, to get a vector: all of them, or those that have none of a model."""
    for kind, source in SOURCES.items():
        connection.execute(
            f"INSERT OR IGNORE INTO pending (item_kind, item_id) SELECT ?, {source.id} FROM {source.rows} "
            "WHERE ? IS NULL OR NOT EXISTS (SELECT 1 FROM vectors v WHERE v.item_kind = ? "
            f"AND v.item_id = {source.id} AND v.model = ?) ORDER BY {source.id}",
            (kind, lacking_model, kind, lacking_model),
        )


def exists(connection: sqlite3.Connection, key: ItemKey) -> bool:
    source = SOURCES[key[0]]
    found = connection.execute(f"SELECT 1 FROM {source.rows} WHERE {source.id} = ?", (key[1],)).fetchone()
    return found is not None


def item_problems(connection: sqlite3.Connection, kind: RecallKind, model: str) -> list[str]:
    """What is wrong with what stands of a kind beside its items; empty when sound."""
    source = SOURCES[kind]
    unheard = connection.execute(
        f"SELECT {source.id} FROM {source.rows} WHERE NOT EXISTS (SELECT 1 FROM ops o "
        f"WHERE o.session IS {source.session} AND o.item_kind = '{kind}' AND o.item_id = {source.id} AND o.kind = 'add') LIMIT 10"
    )
    found = [f"{kind} {row[0]} is missing from ops" for row in unheard]
    lost = connection.execute(
        f"SELECT {source.id} FROM {source.rows} "
        f"WHERE NOT EXISTS (SELECT 1 FROM pending q WHERE q.item_kind = ? AND q.item_id = {source.id}) "
        f"AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.item_kind = ? AND v.item_id = {source.id} AND v.model = ?) LIMIT 10",
        (kind, kind, model),
    )
    found += [f"{kind} {row[0]} has no vector and none is pending" for row in lost]
    orphans = connection.execute(
        "SELECT count(*) FROM vectors v WHERE v.item_kind = ? AND NOT EXISTS "
        f"(SELECT 1 FROM {source.rows} WHERE {source.id} = v.item_id)",
        (kind,),
    ).fetchone()[0]
    if orphans:
        found.append(f"{orphans} vectors belong to no {kind}")
    return found
