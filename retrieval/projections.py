"""What is derived from the truth, kept caught up with it: one dense and one lexical index a collection.

A projection only ever moves forward along `ops`, by applying the next changes; opening, catching up after a crash,
following new writes and rebuilding are all that same step. One task a collection takes it, so changes are applied in
order; whoever needs a change to be searchable waits until its sequence number has been reached.
"""

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from retrieval.batcher import Batcher
from retrieval.dense import DenseIndex
from retrieval.history import History
from retrieval.lexical import DamagedIndex, LexicalIndex
from retrieval.records import CollectionRow
from retrieval.store import Store
from shared.errors import NotFound
from shared.messages import Finding
from shared.threads import run_in

log = structlog.get_logger()

# A few megabytes of vectors and text a step.
_CHANGES_PER_STEP: Final = 2000
# A projection that could not take a change tries again; the truth is safe meanwhile.
_RETRY_S: Final = 1.0


class CollectionIndexes:
    """Both legs of one collection, and the way to wait for them."""

    def __init__(self, row: CollectionRow, dense: DenseIndex, lexical: LexicalIndex) -> None:
        self.row = row
        self.dense = dense
        self.lexical = lexical
        self.advanced = asyncio.Condition()
        self.applying = asyncio.Lock()

    @property
    def sequence(self) -> int:
        """What both legs have taken in."""
        return min(self.dense.sequence, self.lexical.sequence)


class Projections:
    def __init__(
        self, store: Store, history: History, batcher: Batcher, directory: Path, *, threads: ThreadPoolExecutor
    ) -> None:
        self._store = store
        self._history = history
        self._batcher = batcher
        self._directory = directory
        self._threads = threads
        self._open: dict[int, asyncio.Task[CollectionIndexes]] = {}
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._behind: dict[int, asyncio.Event] = {}

    async def of(self, row: CollectionRow) -> CollectionIndexes:
        """The collection's indexes, opened and caught up on first use. Whoever comes after a failure tries again."""
        task = self._open.get(row.id)
        if task is None or _has_failed(task):
            task = self._open[row.id] = asyncio.create_task(self._open_indexes(row), name=f"open-{row.id}")
        return await asyncio.shield(task)

    async def advance(self, row: CollectionRow) -> None:
        """Tells that the collection has new changes. Returns at once."""
        await self.of(row)
        self._behind[row.id].set()

    async def reach(self, row: CollectionRow) -> None:
        """Returns once everything stored so far can be found. Raises NotFound where the collection goes away."""
        indexes = await self.of(row)
        sequence = await self._history.sequence(row.id)
        self._behind[row.id].set()
        async with indexes.advanced:
            await indexes.advanced.wait_for(lambda: indexes.sequence >= sequence or row.id not in self._open)
        if row.id not in self._open:
            raise NotFound(f"collection {row.name!r} was deleted meanwhile")

    async def repair(self, row: CollectionRow) -> None:
        """Makes a damaged lexical index anew, in the background."""
        indexes = await self.of(row)
        async with indexes.applying:
            await run_in(self._threads, indexes.lexical.clear)
        self._behind[row.id].set()

    async def drop(self, row: CollectionRow) -> None:
        """Closes the collection's indexes and removes their files. Idempotent."""
        task = self._open.pop(row.id, None)
        follower = self._followers.pop(row.id, None)
        if follower is not None:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        if task is not None and not _has_failed(task):
            indexes = await task
            async with indexes.applying, indexes.advanced:
                indexes.advanced.notify_all()
        await asyncio.to_thread(shutil.rmtree, self._path(row.id), ignore_errors=True)

    async def renew(self, row: CollectionRow) -> None:
        """Closes indexes that were opened for another language than the collection now has; the next use opens them again."""
        task = self._open.get(row.id)
        if task is not None and not _has_failed(task) and (await task).row.language != row.language:
            await self.drop(row)

    async def close(self) -> None:
        tasks = [*self._followers.values(), *self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followers.clear()
        self._open.clear()

    async def check(self, row: CollectionRow) -> tuple[int, list[Finding]]:
        """How many chunks were compared with the truth, and every difference found. Writes wait meanwhile."""
        indexes = await self.of(row)
        async with indexes.applying:
            sequence, truth = await self._history.truth(row.id, row.model)
            await self._catch_up(indexes, until=sequence)
            problems = await run_in(self._threads, _differences, indexes, truth)
        where = f"{row.tenant}/{row.name}"
        return len(truth), [Finding(where=where, problem=problem) for problem in problems]

    async def remove_orphans(self, rows: list[CollectionRow]) -> None:
        """Files of collections that are gone: a crash may come between deleting a collection and its files."""
        known = {self._path(row.id).name for row in rows}

        def unit() -> None:
            for folder in self._directory.glob("*"):
                if folder.name not in known:
                    shutil.rmtree(folder, ignore_errors=True)

        await asyncio.to_thread(unit)

    def _path(self, collection_id: int) -> Path:
        return self._directory / str(collection_id)

    async def _open_indexes(self, row: CollectionRow) -> CollectionIndexes:
        # A deleted collection's late writer must not bring its files back.
        row = await self._store.collection(row.tenant, row.name)
        lexical = await run_in(self._threads, LexicalIndex, self._path(row.id), row.language)
        sequence = await self._history.sequence(row.id)
        if lexical.sequence > sequence:
            log.warning("lexical_index_ahead", collection_id=row.id, index=lexical.sequence, truth=sequence)
            await run_in(self._threads, lexical.clear)
        indexes = CollectionIndexes(row, DenseIndex((await self._batcher.embedder()).dimensions), lexical)
        await self._catch_up(indexes, until=None)
        self._behind[row.id] = asyncio.Event()
        self._followers[row.id] = asyncio.create_task(self._follow(indexes), name=f"follow-{row.id}")
        return indexes

    async def _follow(self, indexes: CollectionIndexes) -> None:
        behind = self._behind[indexes.row.id]
        while True:
            await behind.wait()
            behind.clear()
            try:
                async with indexes.applying:
                    await self._catch_up(indexes, until=None)
            except Exception:  # a worker's loop: the truth is safe, and the next try may work
                log.exception("projection_failed", collection_id=indexes.row.id)
                await asyncio.sleep(_RETRY_S)
                behind.set()

    async def _catch_up(self, indexes: CollectionIndexes, *, until: int | None) -> None:
        """Applies what is missing to each leg, side by side."""
        await asyncio.gather(self._catch_up_dense(indexes, until), self._catch_up_lexical(indexes, until))

    async def _catch_up_dense(self, indexes: CollectionIndexes, until: int | None) -> None:
        row, dense = indexes.row, indexes.dense
        while changes := await self._history.vector_changes(
            row.id, row.model, after=dense.sequence, until=until, limit=_CHANGES_PER_STEP
        ):
            await run_in(self._threads, dense.apply, changes)
            await _announce(indexes)

    async def _catch_up_lexical(self, indexes: CollectionIndexes, until: int | None) -> None:
        row, lexical = indexes.row, indexes.lexical
        while changes := await self._history.text_changes(
            row.id, after=lexical.sequence, until=until, limit=_CHANGES_PER_STEP
        ):
            try:
                await run_in(self._threads, lexical.apply, changes)
            except DamagedIndex:
                log.exception("lexical_index_damaged", collection_id=row.id)
                await run_in(self._threads, lexical.clear)
            await _announce(indexes)


def _has_failed(task: asyncio.Task[CollectionIndexes]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


async def _announce(indexes: CollectionIndexes) -> None:
    async with indexes.advanced:
        indexes.advanced.notify_all()


def _differences(indexes: CollectionIndexes, truth: dict[int, bytes]) -> list[str]:
    problems = [f"chunk {chunk_id} has no vector" for chunk_id, vector in truth.items() if not vector]
    for leg, ids in (("dense", indexes.dense.ids()), ("lexical", indexes.lexical.ids())):
        if missing := truth.keys() - ids:
            problems.append(f"the {leg} index misses {len(missing)} chunks, such as {min(missing)}")
        if surplus := ids - truth.keys():
            problems.append(f"the {leg} index has {len(surplus)} chunks that are gone, such as {min(surplus)}")
    shared_ids = sorted(truth.keys() & indexes.dense.ids())
    if shared_ids:
        stored = indexes.dense.vectors(shared_ids)
        different = [
            chunk_id
            for chunk_id, vector in zip(shared_ids, stored, strict=True)
            if vector.astype("<f4").tobytes() != truth[chunk_id]
        ]
        if different:
            problems.append(f"the dense index has other vectors for {len(different)} chunks, such as {different[0]}")
    return problems
