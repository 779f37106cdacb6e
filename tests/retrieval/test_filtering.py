"""Filters in SQL: the same answers as the plain reading whatever way the statement takes, by index, and remembered."""

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlite_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.truth.collection_rows import put_collection
from retrieval.truth.document_writes import commit_document
from retrieval.truth.filter_sql import chunks_statement
from retrieval.truth.filtering import FilterSets, find_chunks, find_documents
from retrieval.truth.records import CollectionRow, Item, Piece, PreparedDocument
from retrieval.truth.schema import migrations
from shared.database import Database
from shared.filters import matches, parse_filter
from shared.retrieval_messages import CollectionSpec, DocumentIn
from tests.shared.filter_oracle import FILTERS, METADATA, holds

pytestmark = pytest.mark.blocking

_PIECE = Piece(start=0, end=1, headings=(), text="x", embed_text="x", embed_hash=b"h")


def store(connection: sqlite3.Connection, collection: CollectionRow, name: str, metadata: dict[str, Any]) -> list[int]:
    """The chunks of a document of one or two."""
    pieces = (_PIECE,) * (1 + len(name) % 2)
    prepared = PreparedDocument(title="", content_type="text/plain", text="x", pieces=pieces)
    document = DocumentIn(id=name, text="x", metadata=metadata)
    item = Item(accepted=1, ordinal=0, collection=collection, document=document, document_id=name, attempt=1)
    commit_document(connection, item, prepared, {collection.model: [b"v"] * len(pieces)}, b"d")
    rows = connection.execute(
        "SELECT c.id FROM chunks c JOIN documents d ON d.id = c.document WHERE d.collection_id = ? AND d.document_id = ?",
        (collection.id, name),
    )
    return [row[0] for row in rows]


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    migrations.apply(sqlite_utils.Database(connection))
    yield connection
    connection.close()


def chunks_by(
    connection: sqlite3.Connection, collection_id: int, conditions: dict[str, Any], sizes: list[int]
) -> set[int]:
    """What the statement finds when it is told these sizes of the parts, true or not."""
    told = iter(sizes)
    statement = chunks_statement(collection_id, parse_filter(conditions), lambda _: next(told, 1))
    texts = connection.execute(statement.sql, statement.values).fetchone()
    firsts, counts = ([int(each) for each in (text or "").split(",") if each] for text in texts)
    return {first + more for first, chunks in zip(firsts, counts, strict=True) for more in range(chunks)}


@given(st.lists(METADATA, max_size=6), METADATA, FILTERS, st.lists(st.sampled_from([0, 1, 10, 1000]), max_size=9))
@settings(max_examples=300, deadline=None)
def test_sql_finds_what_the_plain_reading_says_whatever_way_it_takes(
    connection: sqlite3.Connection,
    stored: list[dict[str, Any]],
    elsewhere: dict[str, Any],
    conditions: dict[str, Any],
    sizes: list[int],
) -> None:
    connection.execute("BEGIN")
    try:
        mine = put_collection(connection, "t", "mine", CollectionSpec(), "m")
        other = put_collection(connection, "t", "other", CollectionSpec(), "m")
        store(connection, other, "elsewhere", elsewhere)
        expected: set[int] = set()
        for number, metadata in enumerate(stored):
            ids = store(connection, mine, "d" * (number + 1), metadata)
            expected |= set(ids) if holds(conditions, metadata) else set()
            assert holds(conditions, metadata) == matches(parse_filter(conditions), metadata)

        found = find_chunks(connection, mine.id, parse_filter(conditions))
        assert sorted(expected) == found.tolist()
        assert expected == chunks_by(connection, mine.id, conditions, sizes)
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "conditions",
    [
        {"a": 1},
        {"a": {"$in": [1, "x", None]}},
        {"a": {"$gte": 1, "$lt": 5}},
        {"a": {"$contains": "x"}},
        {"a": {"$prefix": "x"}},
        {"a": {"$exists": True}, "b": 2},
        {"a": 1, "b": {"$ne": 2}},
        {"$or": [{"a": 1}, {"b": 2, "c": {"$gt": 3}}]},
        {"$not": {"a": 1}},
        {"$not": {"$or": [{"a": 1}, {"$not": {"b": 2, "$or": [{"c": 1}, {"d": 2}]}}]}},
    ],
)
@pytest.mark.parametrize("size", [3, 5000])
def test_every_step_of_a_statement_goes_by_an_index(
    connection: sqlite3.Connection, conditions: dict[str, Any], size: int
) -> None:
    sizes = count(size, 50_000 - size)
    statement = chunks_statement(1, parse_filter(conditions), lambda _: next(sizes))

    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.values)]

    tables = [
        step for step in plan if step.split()[-1] and any(name in step for name in ("fields", "chunks", "documents"))
    ]
    assert tables
    assert [step for step in tables if not step.startswith("SEARCH")] == []


def test_the_largest_filter_is_one_statement(connection: sqlite3.Connection) -> None:
    values = [number + 0.5 for number in range(100)]
    largest = {"$or": [{f"f{number}": {"$in": [None, True, "x", *values[:97]]}} for number in range(100)]}

    assert find_chunks(connection, 1, parse_filter(largest)).tolist() == []
    assert find_documents(connection, 1, parse_filter({"$not": {"$or": [largest]}})) == []


def test_rows_from_before_the_table_can_be_filtered_and_go_with_their_document(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db", isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    migrations.apply(sqlite_utils.Database(connection), stop_before="m002_fields")
    connection.execute("INSERT INTO collections VALUES (1, 't', 'c', 'm', '{}', '{}', '', '2026-01-01T00:00:00+00:00')")
    for number, metadata in enumerate(['{"a":{"b":[1,"x"]},"n":1.5}', "{}"], start=1):
        connection.execute(
            "INSERT INTO documents VALUES (?, 1, ?, '', '', '', 'x', ?, x'00', 1, 'x', 'x')",
            (number, f"d{number}", metadata),
        )
        connection.execute("INSERT INTO chunks VALUES (?, 1, ?, 0, 0, 1, '[]', 'x', x'00')", (number, number))

    migrations.apply(sqlite_utils.Database(connection))

    assert find_chunks(connection, 1, parse_filter({"a.b": {"$contains": "x"}, "n": 1.5})).tolist() == [1]
    assert find_chunks(connection, 1, parse_filter({"n": {"$exists": False}})).tolist() == [2]
    connection.execute("DELETE FROM documents WHERE id = 1")
    assert connection.execute("SELECT DISTINCT document FROM fields").fetchall() == [(2,)]
    connection.close()


class TestFilterSets:
    """The cache, over a real database."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        database = Database.open(tmp_path / "r.db", migrations, readers=2)
        yield database
        database.close()

    async def add(self, database: Database, names: str, value: object) -> CollectionRow:
        def unit(connection: sqlite3.Connection) -> CollectionRow:
            row = put_collection(connection, "t", "c", CollectionSpec(), "m")
            for name in names:
                store(connection, row, name, {"a": value})
            return row

        return await database.write(unit)

    async def test_an_equal_filter_is_resolved_once_until_the_collection_changes(self, database: Database) -> None:
        row = await self.add(database, "xy", 1)
        sets = FilterSets(database, bytes_max=1_000_000)
        first = await sets.resolve(row.id, parse_filter({"a": 1}), sequence=2)
        again = await sets.resolve(row.id, parse_filter({"a": {"$eq": 1}}), sequence=2)
        await self.add(database, "z", 1)
        changed = await sets.resolve(row.id, parse_filter({"a": 1}), sequence=again.sequence + 1)

        assert [first.is_cached, again.is_cached, changed.is_cached] == [False, True, False]
        assert again.chunk_ids is first.chunk_ids
        assert len(changed.chunk_ids) == len(first.chunk_ids) + 2
        assert not first.chunk_ids.flags.writeable

    async def test_values_that_python_takes_for_equal_are_not_mixed_up(self, database: Database) -> None:
        row = await self.add(database, "x", 1)
        sets = FilterSets(database, bytes_max=1_000_000)

        found = [
            len((await sets.resolve(row.id, parse_filter({"a": each}), sequence=0)).chunk_ids) for each in (1, True)
        ]

        assert found == [2, 0]

    async def test_what_comes_together_is_resolved_together(self, database: Database) -> None:
        row = await self.add(database, "xy", 1)
        sets = FilterSets(database, bytes_max=0)
        several = await asyncio.gather(*(sets.resolve(row.id, parse_filter({"a": 1}), sequence=1) for _ in range(8)))

        assert len({id(each.chunk_ids) for each in several}) == 1
        assert not (await sets.resolve(row.id, parse_filter({"a": 1}), sequence=1)).is_cached

    async def test_the_memory_is_bounded_and_what_was_used_last_stays(self, database: Database) -> None:
        row = await self.add(database, "xyz", 1)
        size = 512 + 8 * 6
        sets = FilterSets(database, bytes_max=2 * size)
        filters = [parse_filter({"a": {"$gte": number}}) for number in (1, 0, -1)]
        for number in (0, 1, 0, 2):
            await sets.resolve(row.id, filters[number], sequence=0)

        cached = [(await sets.resolve(row.id, filters[number], sequence=0)).is_cached for number in (0, 2, 1)]

        assert cached == [True, True, False]

    async def test_a_search_that_gave_up_leaves_the_others_their_answer(self, database: Database) -> None:
        row = await self.add(database, "x", 1)
        sets = FilterSets(database, bytes_max=1_000_000)
        impatient = asyncio.create_task(sets.resolve(row.id, parse_filter({"a": 1}), sequence=1))
        patient = asyncio.create_task(sets.resolve(row.id, parse_filter({"a": 1}), sequence=1))
        await asyncio.sleep(0)
        impatient.cancel()

        assert len((await patient).chunk_ids) == 2


def test_the_sets_are_sorted_and_unique_as_the_indexes_need_them(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    row = put_collection(connection, "t", "sorted", CollectionSpec(), "m")
    for name in "zyxw":
        store(connection, row, name, {"a": [1, 2, "x"], "b": "x"})
    part = parse_filter({"$or": [{"a": {"$contains": 1}}, {"a": {"$contains": 2}}, {"b": "x"}]})

    found = find_chunks(connection, row.id, part)

    connection.execute("ROLLBACK")
    assert len(found) == 8
    assert (np.diff(found) > 0).all()
