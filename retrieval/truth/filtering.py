"""From a filter to the chunks that it keeps: found in the truth, remembered until the collection changes.

A set is remembered with the sequence number at which it was found, and used while the collection's indexes have not gone
past it: then it knows of everything that the indexes can return. So a hit never comes from a version of a document that
the filter would refuse, and what was answered as stored or deleted is found or not found at once.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.truth.filter_sql import Count, Statement, chunks_statement, documents_statement
from retrieval.truth.history import last_sequence
from shared.database import Database
from shared.filters import Filter

ChunkIds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Resolved:
    """`chunk_ids` are sorted, each once, and read-only."""

    chunk_ids: ChunkIds
    sequence: int
    took_ms: float = 0.0
    is_cached: bool = False


_Key = tuple[int, bytes]


class FilterSets:
    """Resolves filters, each once for any number of searches that ask together."""

    def __init__(self, database: Database, *, bytes_max: int) -> None:
        self._database = database
        self._bytes_max = bytes_max
        self._bytes = 0
        self._known: OrderedDict[_Key, Resolved] = OrderedDict()
        self._underway: dict[tuple[_Key, int], asyncio.Task[Resolved]] = {}

    async def resolve(self, collection_id: int, part: Filter, *, sequence: int) -> Resolved:
        """The chunks of the documents that match, as of `sequence` or later."""
        started = time.perf_counter()
        # By repr, because equality takes 1, 1.0 and True for the same value.
        key = (collection_id, hashlib.sha256(repr(part).encode()).digest())
        found = self._known.get(key)
        is_cached = found is not None and found.sequence >= sequence
        if found is None or not is_cached:
            found = await asyncio.shield(self._task(key, part, sequence))
        else:
            self._known.move_to_end(key)
        return Resolved(found.chunk_ids, found.sequence, (time.perf_counter() - started) * 1000.0, is_cached)

    def _task(self, key: _Key, part: Filter, sequence: int) -> asyncio.Task[Resolved]:
        waiting = (key, sequence)
        task = self._underway.get(waiting)
        if task is None:
            task = self._underway[waiting] = asyncio.create_task(self._find(key, part), name=f"filter-{key[0]}")
            task.add_done_callback(lambda ended: self._end(waiting, ended))
        return task

    def _end(self, waiting: tuple[_Key, int], task: asyncio.Task[Resolved]) -> None:
        del self._underway[waiting]
        if not task.cancelled():
            task.exception()  # whoever waits has it; when all have gone, nobody needs it

    async def _find(self, key: _Key, part: Filter) -> Resolved:
        found = await self._database.read(lambda connection: _resolve(connection, key[0], part))
        self._remember(key, found)
        return found

    def _remember(self, key: _Key, found: Resolved) -> None:
        before = self._known.get(key)
        if before is not None and before.sequence > found.sequence:
            return
        self._forget(key)
        self._known[key] = found
        self._bytes += _size(found)
        while self._bytes > self._bytes_max:
            self._forget(next(iter(self._known)))

    def _forget(self, key: _Key) -> None:
        gone = self._known.pop(key, None)
        self._bytes -= _size(gone) if gone else 0


def find_documents(connection: sqlite3.Connection, collection_id: int, part: Filter) -> list[int]:
    """Row ids of the documents that match, in order."""
    statement = documents_statement(collection_id, part, counter(connection))
    return sorted({row[0] for row in connection.execute(statement.sql, statement.values)})


def find_chunks(connection: sqlite3.Connection, collection_id: int, part: Filter) -> ChunkIds:
    """Ids of the chunks of the documents that match: sorted, each once, read-only."""
    statement = chunks_statement(collection_id, part, counter(connection))
    firsts, counts = connection.execute(statement.sql, statement.values).fetchone()
    ids = _each_once(_expanded(_numbers(firsts), _numbers(counts)))
    ids.flags.writeable = False
    return ids


def _numbers(listed: str | None) -> ChunkIds:
    return np.fromstring(listed, dtype=np.int64, sep=",") if listed else np.empty(0, np.int64)


def _expanded(firsts: ChunkIds, counts: ChunkIds) -> ChunkIds:
    """3, 7 and 2, 3 are 3, 4, 7, 8, 9."""
    before = np.cumsum(counts) - counts
    return np.repeat(firsts - before, counts) + np.arange(counts.sum(), dtype=np.int64)


def _each_once(ids: ChunkIds) -> ChunkIds:
    """Sorted. Mostly they are already, as documents are. Of 10,000, numpy's own `unique` takes 1 ms, four times a sort."""
    if (ids[1:] > ids[:-1]).all():
        return ids
    ids = np.sort(ids)
    return ids[np.concatenate(([True], ids[1:] != ids[:-1]))]


def _resolve(connection: sqlite3.Connection, collection_id: int, part: Filter) -> Resolved:
    return Resolved(find_chunks(connection, collection_id, part), last_sequence(connection, collection_id))


def counter(connection: sqlite3.Connection) -> Count:
    """How a statement of `filter_sql` learns the sizes of its parts."""

    def count(statement: Statement) -> int:
        rows: int = connection.execute(statement.sql, statement.values).fetchone()[0]
        return rows

    return count


def _size(found: Resolved) -> int:
    # An entry costs something even when it is empty.
    return found.chunk_ids.nbytes + 512
