"""Nothing of another user, agent or tenant has a say in a recall: not in what is found, not in its order, not in a score."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.recall.index import ScopeIndex, Wanted
from memory.recall.indexes import ScopeIndexes
from memory.recall.query import understand
from memory.truth.history import History
from memory.truth.records import Scope
from memory.truth.schema import migrations
from memory.truth.scopes import scope_condition
from memory.truth.store import Store
from shared.database import Database
from shared.memory_messages import AppendRequest, TurnIn
from shared.vectors import Float32Array

START = datetime(2026, 1, 1, tzinfo=UTC)
MODEL = "m"
SCOPES = [
    Scope(tenant="t", user_id="ada"),
    Scope(tenant="v", user_id="bob"),
    Scope(tenant="t", agent_id="x"),
    Scope(tenant="v", user_id="ada", agent_id="y"),
]
Answer = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Said:
    tenant: str
    user: str
    agent: str
    text: str
    day: int


saids = st.lists(
    st.builds(
        Said,
        st.sampled_from(["t", "v"]),
        st.sampled_from(["ada", "bob"]),
        st.sampled_from(["x", "y"]),
        st.lists(st.sampled_from(["alpha", "beta", "gamma", "ada"]), min_size=1, max_size=4).map(" ".join),
        st.integers(0, 90),
    ),
    max_size=30,
)


@given(saids, st.sampled_from(SCOPES))
@settings(max_examples=25, deadline=None)
def test_a_scope_answers_as_if_nothing_else_were_stored(given_saids: list[Said], scope: Scope) -> None:
    own = [
        said
        for said in given_saids
        if said.tenant == scope.tenant and scope.user_id in {None, said.user} and scope.agent_id in {None, said.agent}
    ]

    among_others, alone = recalled(given_saids, scope), recalled(own, scope)

    assert among_others == alone
    assert len(alone) == len(own)


def recalled(stored: Sequence[Said], scope: Scope) -> Answer:
    """Of a database that holds `stored`: each text of the scope, with its score, best first."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as threads:
        database = Database.open(Path(folder) / "memory.db", migrations, readers=1)
        try:
            return asyncio.run(_recalled(database, threads, stored, scope))
        finally:
            database.close()


async def _recalled(database: Database, threads: ThreadPoolExecutor, stored: Sequence[Said], scope: Scope) -> Answer:
    history, store = History(database), Store(database)
    for said in stored:
        turn = TurnIn(role="user", content=said.text, created_at=START + timedelta(days=said.day))
        request = AppendRequest(user_id=said.user, agent_id=said.agent, turns=[turn])
        await store.append(said.tenant, f"{said.user} {said.agent}", request)
    pending = await history.pending(MODEL, 1000)
    await history.store_vectors(MODEL, [(item.key, vector_of(item.text).tobytes()) for item in pending])
    text_of = {item.id: item.text for item in pending}
    indexes = ScopeIndexes(history, threads=threads, items_max=1000)
    return [(text_of[item_id], score) for item_id, score in await indexes.use(scope, MODEL, search)]


def search(index: ScopeIndex) -> list[tuple[int, float]]:
    query = "what did ada say of alpha in February"
    now = START + timedelta(days=100)
    understood = understand(query, now=now, oldest=index.oldest, speakers=index.speakers)
    wanted = Wanted(kinds=frozenset({"turn"}))
    found = index.search(query, vector_of(query), wanted=wanted, understood=understood, limit=1000)
    return [(each.key[1], each.score) for each in found]


def vector_of(text: str) -> Float32Array:
    """A unit vector that depends on the words alone."""
    vector = np.zeros(8, dtype=np.float32)
    for word in text.lower().split():
        vector += np.random.default_rng(len(word) * 7 + ord(word[0])).normal(size=8).astype(np.float32)
    return np.asarray(vector / np.float32(np.linalg.norm(vector)), dtype="<f4")


@pytest.mark.parametrize(
    ("scope", "index"),
    [
        (Scope(tenant="t", user_id="u"), "ops_by_user"),
        (Scope(tenant="t", agent_id="a"), "ops_by_agent"),
        (Scope(tenant="t", session=1), "ops_by_session"),
    ],
)
def test_what_a_scope_has_not_seen_is_found_by_its_index(scope: Scope, index: str) -> None:
    connection = sqlite3.connect(":memory:")
    migrations.apply(sqlite_utils.Database(connection))
    condition, values = scope_condition(scope, "")

    plan = connection.execute(
        f"EXPLAIN QUERY PLAN SELECT seq FROM ops WHERE {condition} AND seq > ? ORDER BY seq", (*values, 0)
    ).fetchall()

    assert [index in step[-1] for step in plan] == [True]
