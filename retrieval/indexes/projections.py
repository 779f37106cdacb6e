"""What is derived from the truth, kept caught up with it: one dense and one lexical index a collection.

A projection only ever moves forward, by applying the next changes; opening, catching up after a crash and following new
writes are all that same step. One task an open collection takes it, so changes are applied in order; whoever needs a change
to be searchable waits until its sequence number has been reached.

A collection is opened by its first use and closed again when nobody has used it for a while, or when too many are open; a
closed one costs no memory, no thread, no task and no file handle. Whoever uses one holds it (`users`), and what is held is
never closed. A change to a closed collection needs nothing: opening it catches up.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from retrieval.indexes import dense_files, freed_memory
from retrieval.indexes.checking import differences
from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.indexes import (
    CatchingUp,
    CollectionIndexes,
    DenseLeg,
    dense_folder,
    dense_folders,
    lexical_folder,
)
from retrieval.indexes.lexical import LexicalIndex
from retrieval.indexes.tending import Tender
from retrieval.models.models import Models
from retrieval.settings import RetrievalSettings
from retrieval.truth.history import History
from retrieval.truth.listings import Listings
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import NotFound
from shared.messages import Finding
from shared.retrieval_messages import Language
from shared.tasks import ended
from shared.threads import run_in

log = structlog.get_logger()

# A projection that could not take a change tries again; the truth is safe meanwhile.
_RETRY_S: Final = 1.0
# Documents of a running job that nobody waits for are taken in together, as a commit of the lexical index costs 15 ms of processor
# time however little is in it. A job has ended, and a request that waits is answered, when what they wrote can be found.
_GATHER_S: Final = 1.0
# Opening reads files and the database; more at once only wait for each other.
_OPENING_MAX: Final = 8
# How many collections one search holds open at a time.
COLLECTIONS_PER_SLICE: Final = 16
# How often idle collections are looked for, as a part of the time that makes them idle.
_SWEEPS_PER_IDLE: Final = 4

_Opening = asyncio.Task[CollectionIndexes]


class Projections:
    def __init__(
        self,
        store: Store,
        history: History,
        models: Models,
        settings: RetrievalSettings,
        *,
        threads: ThreadPoolExecutor,
        tending_threads: ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._history = history
        self._listings = Listings(store.database)
        self._models = models
        self._settings = settings
        self._directory = settings.directory
        self._threads = threads
        self._catching_up = CatchingUp(history, self._listings, threads)
        self._tender = Tender(
            self._listings,
            settings.directory,
            threads=tending_threads,
            exact_chunks_max=settings.dense_exact_chunks_max,
        )
        self._open: dict[int, _Opening] = {}
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._opening = asyncio.Semaphore(_OPENING_MAX)
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def open_count(self) -> int:
        return len(self._open)

    async def of(self, row: CollectionRow) -> CollectionIndexes:
        """The collection's indexes, opened and caught up on first use. Whoever comes after a failure tries again.

        They may be closed at any time after; `using` holds them. A search on closed ones still answers from what they held.
        """
        task = self._open.get(row.id)
        if task is None or _has_failed(task):
            task = self._open[row.id] = asyncio.create_task(self._open_indexes(row), name=f"open-{row.id}")
        indexes = task.result() if task.done() else await asyncio.shield(task)
        indexes.used_at = time.monotonic()
        return indexes

    @asynccontextmanager
    async def using(self, row: CollectionRow) -> AsyncIterator[CollectionIndexes]:
        """As `of`, and never closed within."""
        while not self._holds(indexes := await self.of(row)):
            pass  # closed between being opened and getting here
        indexes.users += 1
        try:
            yield indexes
        finally:
            indexes.users -= 1
            indexes.used_at = time.monotonic()

    async def in_slices(
        self, rows: Sequence[CollectionRow], *, skip_deleted: bool
    ) -> AsyncGenerator[list[tuple[CollectionRow, CollectionIndexes]]]:
        """Some of the collections at a time, held until the next are asked for, so that thousands are never open at once.

        Close the iterator (`contextlib.aclosing`), or the last ones stay held for a while. Raises NotFound for a collection
        that was deleted meanwhile, unless those are to be skipped.
        """
        for start in range(0, len(rows), COLLECTIONS_PER_SLICE):
            async with AsyncExitStack() as stack:
                some = rows[start : start + COLLECTIONS_PER_SLICE]
                # Opened side by side; what could not be is tried again below, and raises there.
                closed = [row for row in some if row.id not in self._open]
                await asyncio.gather(*(self.of(row) for row in closed), return_exceptions=True)
                held = []
                for row in some:
                    try:
                        held.append((row, await stack.enter_async_context(self.using(row))))
                    except NotFound:
                        if not skip_deleted:
                            raise
                yield held

    async def advance(self, row: CollectionRow) -> None:
        """Tells that the collection has new changes. Returns at once, or when it is open."""
        (await self.of(row)).behind.set()

    async def reach(self, row: CollectionRow) -> None:
        """Returns once everything stored so far can be found. Raises NotFound where the collection goes away."""
        async with self.using(row) as indexes:
            sequence = await self._history.sequence(row.id)
            indexes.behind.set()
            with indexes.waited_for():
                async with indexes.advanced:
                    await indexes.advanced.wait_for(lambda: indexes.sequence >= sequence or indexes.is_dropped)
            if indexes.is_dropped:
                raise NotFound(f"collection {row.name!r} was deleted meanwhile")

    async def repair(self, row: CollectionRow, lexical_version: int) -> None:
        """Makes a damaged lexical index anew, in the background, unless that was done since it was found damaged."""
        async with self.using(row) as indexes:
            async with indexes.applying:
                if indexes.lexical.version == lexical_version:
                    await run_in(self._threads, indexes.lexical.clear)
            indexes.behind.set()

    async def rebuild(self, row: CollectionRow) -> CollectionIndexes:
        """Makes both legs anew from the truth. Searches go on in the old ones until the new ones take their place."""
        async with self.using(row) as indexes:
            if indexes.is_rebuilding:
                return indexes
            indexes.is_rebuilding = True
            indexes.pins += 1  # keeps the history that the new ones still have to follow
            try:
                await self._rebuild(indexes)
            finally:
                indexes.is_rebuilding = False
                indexes.pins -= 1
            self._tender.tend(indexes)
            return indexes

    async def open_beside(self, row: CollectionRow, model: str) -> CollectionIndexes:
        """Makes the index of a model that every chunk has a vector of, and returns when it is as good as the serving one.
        Searches and writes go on."""
        async with self.using(row) as indexes:
            if model not in indexes.legs:
                indexes.pins += 1
                try:
                    await self._add_leg(indexes, model)
                finally:
                    indexes.pins -= 1
            await self._tender.until_tended(indexes)
            return indexes

    async def close_beside(self, row: CollectionRow, model: str) -> None:
        """Lets go of the index of a model that no longer serves, with its files. Idempotent."""
        task = self._open.get(row.id)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
            if not _has_failed(task):
                indexes = task.result()
                async with indexes.applying:
                    indexes.legs = {name: leg for name, leg in indexes.legs.items() if name != model}
                await indexes.announce()
        await asyncio.to_thread(dense_files.remove, dense_folder(self._directory, row.id, model))

    def follow_row(self, row: CollectionRow) -> None:
        """Another model serves now."""
        task = self._open.get(row.id)
        if task is not None and task.done() and not _has_failed(task):
            task.result().row = row

    async def drop(self, row: CollectionRow) -> None:
        """Closes the collection's indexes and removes their files. Idempotent."""
        task = self._open.pop(row.id, None)
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)
            if not _has_failed(task):
                await self._drop_opened(task.result())
        self._tender.forget(row.id)
        for folder in (lexical_folder(self._directory, row.id), dense_folders(self._directory, row.id)):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def renew(self, row: CollectionRow) -> None:
        """Closes indexes that were opened for another language than the collection now has; the next use opens them again."""
        task = self._open.get(row.id)
        if task is not None and not _has_failed(task) and (await task).row.language != row.language:
            await self.drop(row)

    async def close(self) -> None:
        """Writes the snapshots that are due and lets everything go."""
        await ended(self._sweeper)
        await self._tender.close()
        await ended(*self._followers.values(), *(task for task in self._open.values() if not task.done()))
        for opened in self._open.values():
            if not _has_failed(opened):
                await self._settle(opened.result())
        self._followers.clear()
        self._open.clear()

    async def check(self, row: CollectionRow) -> tuple[int, list[Finding]]:
        """How many chunks were compared with the truth, and every difference found. Writes wait meanwhile."""
        problems: list[str] = []
        async with self.using(row) as indexes, indexes.applying:
            for leg in indexes.legs.values():
                sequence, truth = await self._history.truth(row.id, leg.model)
                await self._catching_up.both(indexes, until=sequence)
                found = await run_in(self._threads, differences, leg.index, indexes.lexical, truth)
                folder = dense_folder(self._directory, row.id, leg.model)
                found += await run_in(self._threads, dense_files.problems, folder)
                problems += found if leg.model == indexes.row.model else [f"{leg.model}: {each}" for each in found]
        where = f"{row.tenant}/{row.name}"
        return len(truth), [Finding(where=where, problem=problem) for problem in dict.fromkeys(problems)]

    async def remove_orphans(self, rows: list[CollectionRow]) -> None:
        """Files of collections and models that are gone: a crash may come between deleting a collection and its files."""
        known = {lexical_folder(self._directory, row.id) for row in rows}
        known |= {dense_folder(self._directory, row.id, model) for row in rows for model in row.whole_models}
        parents = {folder.parent for folder in known}

        def unit() -> None:
            for folder in [*self._directory.glob("lexical/*"), *self._directory.glob("dense/*/*")]:
                if folder not in known:
                    shutil.rmtree(folder, ignore_errors=True)
            for folder in self._directory.glob("dense/*"):
                if folder not in parents:
                    shutil.rmtree(folder, ignore_errors=True)

        await asyncio.to_thread(unit)

    async def close_unused(self, *, now: float) -> int:
        """Closes what nobody has used for `collection_idle_s`, and the longest unused beyond `open_collections_max`. How many."""
        opened = [task.result() for task in self._open.values() if task.done() and not _has_failed(task)]
        opened.sort(key=lambda indexes: indexes.used_at)
        surplus = len(opened) - self._settings.open_collections_max
        closed = 0
        for place, indexes in enumerate(opened):
            is_idle = now - indexes.used_at > self._settings.collection_idle_s
            if indexes.users == 0 and (is_idle or place < surplus):
                closed += await self._close_one(indexes)
        return closed

    async def _close_one(self, indexes: CollectionIndexes) -> bool:
        await self._settle(indexes)
        async with indexes.applying:
            # Somebody may have come since. Between this look and taking it away nobody can.
            if indexes.users or indexes.behind.is_set() or not self._holds(indexes):
                return False
            del self._open[indexes.row.id]
            await self._stop_following(indexes.row.id)
            return True

    async def _drop_opened(self, indexes: CollectionIndexes) -> None:
        async with indexes.applying:
            indexes.is_dropped = True
            await self._stop_following(indexes.row.id)
        await indexes.announce()

    def _holds(self, indexes: CollectionIndexes) -> bool:
        task = self._open.get(indexes.row.id)
        return task is not None and task.done() and not _has_failed(task) and task.result() is indexes

    async def _settle(self, indexes: CollectionIndexes) -> None:
        try:
            await self._tender.settle(indexes)
        except OSError:
            log.exception("dense_snapshot_failed", collection_id=indexes.row.id)

    async def _stop_following(self, collection_id: int) -> None:
        """To be called with `applying` held, so that no thread is in the middle of a change."""
        await ended(self._followers.pop(collection_id, None))

    async def _open_indexes(self, row: CollectionRow) -> CollectionIndexes:
        async with self._opening:
            if len(self._open) > self._settings.open_collections_max:
                await self.close_unused(now=time.monotonic())
            row = await self._as_it_is(row)
            indexes = await self._opened(row)
            await self._catching_up.both(indexes, until=None)
        indexes.used_at = time.monotonic()
        self._followers[row.id] = asyncio.create_task(self._follow(indexes), name=f"follow-{row.id}")
        self._tender.tend(indexes)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="close-idle")
        return indexes

    async def _as_it_is(self, row: CollectionRow) -> CollectionRow:
        """A deleted collection's late user must not bring its files back, nor open another one of the same name."""
        found = await self._store.collection(row.tenant, row.name)
        if found.id != row.id:
            raise NotFound(f"collection {row.name!r} was deleted meanwhile")
        return found

    async def _opened(self, row: CollectionRow) -> CollectionIndexes:
        """From their files, as far as these can be trusted."""
        standing = await self._listings.standing(row.id)
        lexical = await run_in(self._threads, LexicalIndex, lexical_folder(self._directory, row.id), row.language)
        if lexical.sequence > standing.sequence or 0 < lexical.sequence < standing.pruned:
            log.warning("lexical_index_ahead", collection_id=row.id, index=lexical.sequence, truth=standing.sequence)
            await run_in(self._threads, lexical.clear)
        legs = []
        for model in row.whole_models:
            leg = await self._empty_leg(model)
            await asyncio.to_thread(self._load_dense, row, leg)
            if leg.index.sequence > standing.sequence or 0 < leg.index.sequence < standing.pruned:
                log.warning(
                    "dense_index_ahead", collection_id=row.id, index=leg.index.sequence, truth=standing.sequence
                )
                leg = await self._empty_leg(model)
            legs.append(leg)
        return CollectionIndexes(row, legs, lexical)

    def _load_dense(self, row: CollectionRow, leg: DenseLeg) -> None:
        try:
            manifest = dense_files.load(dense_folder(self._directory, row.id, leg.model), leg.index, leg.model)
        except dense_files.BadSnapshot as error:
            log.warning("dense_snapshot_damaged", collection_id=row.id, error=str(error))
            return
        leg.snapshot_sequence = manifest.sequence if manifest else None

    async def _empty_leg(self, model: str) -> DenseLeg:
        index = DenseIndex(
            (await self._models.embedder(model)).dimensions,
            storage=self._settings.vector_storage,
            exact_chunks_max=self._settings.dense_exact_chunks_max,
        )
        return DenseLeg(model, index)

    async def _add_leg(self, indexes: CollectionIndexes, model: str) -> None:
        leg = await self._empty_leg(model)
        await self._catching_up.dense_leg(indexes.row, leg, None, after_step=_nothing)
        async with indexes.applying:  # what came since the last look, while nothing new is applied
            await self._catching_up.dense_leg(indexes.row, leg, None, after_step=_nothing)
            if indexes.is_dropped:
                raise NotFound(f"collection {indexes.row.name!r} was deleted meanwhile")
            indexes.legs = {**indexes.legs, model: leg}

    async def _rebuild(self, indexes: CollectionIndexes) -> None:
        row = indexes.row
        folder = lexical_folder(self._directory, row.id)
        beside = folder.with_name(f"{row.id}.rebuilding")
        await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
        legs = [await self._empty_leg(model) for model in indexes.legs]
        lexical = await run_in(self._threads, LexicalIndex, beside, row.language)
        catch_up = self._catching_up
        for leg in legs:
            await catch_up.dense_leg(row, leg, None, after_step=_nothing)
        await catch_up.lexical_leg(row, lexical, None, after_step=_nothing)
        async with indexes.applying:  # what came since the last look, while nothing new is applied
            for leg in legs:
                await catch_up.dense_leg(row, leg, None, after_step=_nothing)
            await catch_up.lexical_leg(row, lexical, None, after_step=_nothing)
            if indexes.is_dropped:
                await asyncio.to_thread(shutil.rmtree, beside, ignore_errors=True)
                raise NotFound(f"collection {row.name!r} was deleted meanwhile")
            # Searches that have the old files open go on reading them.
            indexes.lexical = await run_in(self._threads, partial(_put_in_place, beside, folder, row.language))
            # One that came meanwhile is new anyway; one that went stays away.
            indexes.legs = {**indexes.legs, **{leg.model: leg for leg in legs if leg.model in indexes.legs}}
            for leg in legs:
                await asyncio.to_thread(dense_files.remove, dense_folder(self._directory, row.id, leg.model))
        await indexes.announce()

    async def _follow(self, indexes: CollectionIndexes) -> None:
        while True:
            await indexes.behind.wait()
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_S):
                    await indexes.awaited.wait()
            indexes.behind.clear()
            try:
                async with indexes.applying:
                    # What comes meanwhile has set `behind` again, and gathers.
                    await self._catching_up.both(indexes, until=await self._history.sequence(indexes.row.id))
                self._tender.tend(indexes)
            except Exception:  # a worker's loop: the truth is safe, and the next try may work
                log.exception("projection_failed", collection_id=indexes.row.id)
                await asyncio.sleep(_RETRY_S)
                indexes.behind.set()

    async def _sweep(self) -> None:
        """One task for all collections, from the first that is opened."""
        while True:
            await asyncio.sleep(self._settings.collection_idle_s / _SWEEPS_PER_IDLE)
            try:
                if await self.close_unused(now=time.monotonic()):
                    await asyncio.to_thread(freed_memory.give_back)
            except Exception:  # a worker's loop: what could not be closed is tried again
                log.exception("closing_failed")


async def _nothing() -> None:
    return None


def _put_in_place(beside: Path, folder: Path, language: Language) -> LexicalIndex:
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    return LexicalIndex(folder, language)


def _has_failed(task: _Opening) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
