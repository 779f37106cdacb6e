"""Both legs of one collection while it is open, and how they catch up with the truth."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from retrieval.dense import DenseIndex
from retrieval.history import History
from retrieval.lexical import DamagedIndex, LexicalIndex
from retrieval.listings import Listings
from retrieval.records import CollectionRow, TextChanges, VectorChanges
from shared.threads import run_in

log = structlog.get_logger()

# A few megabytes of vectors and text a step.
_CHANGES_PER_STEP: Final = 2000

AfterStep = Callable[[], Awaitable[None]]


class CollectionIndexes:
    """Both legs of one collection, and the way to wait for them.

    `users` counts those that must not have it closed under them. `snapshot_sequence` is where the dense leg's snapshot
    stands, None without one.
    """

    def __init__(
        self, row: CollectionRow, dense: DenseIndex, lexical: LexicalIndex, *, snapshot_sequence: int | None = None
    ) -> None:
        self.row = row
        self.dense = dense
        self.lexical = lexical
        self.snapshot_sequence = snapshot_sequence
        self.advanced = asyncio.Condition()
        self.applying = asyncio.Lock()
        self.behind = asyncio.Event()
        self.users = 0
        self.used_at = 0.0
        self.is_rebuilding = False
        self.is_dropped = False

    @property
    def sequence(self) -> int:
        """What both legs have taken in."""
        return min(self.dense.sequence, self.lexical.sequence)

    @property
    def durable_sequence(self) -> int:
        """What would still be there after a crash, or can be read from the truth without any history: a dense leg
        without a snapshot starts from the chunks."""
        if self.is_rebuilding:
            return 0
        dense = self.dense.sequence if self.snapshot_sequence is None else self.snapshot_sequence
        return min(dense, self.lexical.sequence)

    async def announce(self) -> None:
        async with self.advanced:
            self.advanced.notify_all()


class CatchingUp:
    """A leg at sequence 0 lists what is there; one that has begun follows the history. Both end at the same place."""

    def __init__(self, history: History, listings: Listings, threads: ThreadPoolExecutor) -> None:
        self._history = history
        self._listings = listings
        self._threads = threads

    async def both(self, indexes: CollectionIndexes, *, until: int | None) -> None:
        """Applies what is missing to each leg, side by side."""
        await asyncio.gather(self._dense(indexes, until), self._lexical(indexes, until))

    async def _dense(self, indexes: CollectionIndexes, until: int | None) -> None:
        await self.dense_leg(indexes.row, indexes.dense, until, after_step=indexes.announce)

    async def _lexical(self, indexes: CollectionIndexes, until: int | None) -> None:
        try:
            await self.lexical_leg(indexes.row, indexes.lexical, until, after_step=indexes.announce)
        except DamagedIndex:
            log.exception("lexical_index_damaged", collection_id=indexes.row.id)
            await run_in(self._threads, indexes.lexical.clear)
            await self.lexical_leg(indexes.row, indexes.lexical, until, after_step=indexes.announce)

    async def dense_leg(
        self, row: CollectionRow, dense: DenseIndex, until: int | None, *, after_step: AfterStep
    ) -> None:
        if dense.sequence == 0:
            await self._list_vectors(row, dense)
            await after_step()
        while changes := await self._history.vector_changes(
            row.id, row.model, after=dense.sequence, until=until, limit=_CHANGES_PER_STEP
        ):
            await run_in(self._threads, dense.apply, changes)
            await after_step()

    async def lexical_leg(
        self, row: CollectionRow, lexical: LexicalIndex, until: int | None, *, after_step: AfterStep
    ) -> None:
        """Raises DamagedIndex."""
        if lexical.sequence == 0:
            await self._list_texts(row, lexical)
            await after_step()
        while changes := await self._history.text_changes(
            row.id, after=lexical.sequence, until=until, limit=_CHANGES_PER_STEP
        ):
            await run_in(self._threads, lexical.apply, changes)
            await after_step()

    async def _list_vectors(self, row: CollectionRow, dense: DenseIndex) -> None:
        """Pages are read while writes go on: what came or went after the first is in the history that follows it."""
        after, sequence = 0, (await self._listings.standing(row.id)).sequence
        while True:
            page = await self._listings.vectors(row.id, row.model, after=after, limit=_CHANGES_PER_STEP)
            is_last = len(page.added_ids) < _CHANGES_PER_STEP
            reached = sequence if is_last else 0
            await run_in(self._threads, dense.apply, VectorChanges(reached, page.added_ids, page.added_vectors, []))
            if is_last:
                return
            after = page.added_ids[-1]

    async def _list_texts(self, row: CollectionRow, lexical: LexicalIndex) -> None:
        after, sequence = 0, (await self._listings.standing(row.id)).sequence
        while True:
            page = await self._listings.texts(row.id, after=after, limit=_CHANGES_PER_STEP)
            is_last = len(page.added) < _CHANGES_PER_STEP
            if page.added or sequence:
                await run_in(self._threads, lexical.apply, TextChanges(sequence if is_last else 0, page.added, []))
            if is_last:
                return
            after = page.added[-1].chunk_id


def dense_folder(directory: Path, collection_id: int) -> Path:
    return directory / "dense" / str(collection_id)


def lexical_folder(directory: Path, collection_id: int) -> Path:
    return directory / "lexical" / str(collection_id)
