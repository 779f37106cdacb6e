"""Both legs of one collection while it is open, and how they catch up with the truth."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.lexical import DamagedIndex, LexicalIndex
from retrieval.truth.history import History
from retrieval.truth.listings import Listings
from retrieval.truth.records import CollectionRow, TextChanges, VectorChanges
from shared.threads import run_in

log = structlog.get_logger()

# A few megabytes of vectors and text a step.
_CHANGES_PER_STEP: Final = 2000

AfterStep = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class DenseLeg:
    """The vectors of one model. `snapshot_sequence` is where its snapshot stands, None without one."""

    model: str
    index: DenseIndex
    snapshot_sequence: int | None = None

    @property
    def durable_sequence(self) -> int:
        """Without a snapshot it starts from the chunks, and needs no history."""
        return self.index.sequence if self.snapshot_sequence is None else self.snapshot_sequence


class CollectionIndexes:
    """Both legs of one collection, and the way to wait for them.

    There is a dense leg for each model that every chunk has a vector of: the one that serves, and one that stands beside
    it and could serve at once. `users` counts those that must not have the collection closed under them; `pins` those who
    need all of its history.
    """

    def __init__(self, row: CollectionRow, legs: Iterable[DenseLeg], lexical: LexicalIndex) -> None:
        self.row = row
        # Replaced, never changed: searches look into it from their threads.
        self.legs = {leg.model: leg for leg in legs}
        self.lexical = lexical
        self.advanced = asyncio.Condition()
        self.applying = asyncio.Lock()
        self.behind = asyncio.Event()
        # Set while somebody waits for what is behind.
        self.awaited = asyncio.Event()
        self.waiters = 0
        self.users = 0
        self.pins = 0
        self.used_at = 0.0
        self.is_rebuilding = False
        self.is_dropped = False

    @property
    def dense(self) -> DenseIndex:
        """Of the model that served when this was last looked up."""
        return self.legs[self.row.model].index

    @property
    def sequence(self) -> int:
        """What all legs have taken in."""
        return min(self.lexical.sequence, *(leg.index.sequence for leg in self.legs.values()))

    @property
    def durable_sequence(self) -> int:
        """What would still be there after a crash, or can be read from the truth without any history."""
        if self.pins:
            return 0
        return min(self.lexical.sequence, *(leg.durable_sequence for leg in self.legs.values()))

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Changes are taken in at once, not some together."""
        self.waiters += 1
        self.awaited.set()
        try:
            yield
        finally:
            self.waiters -= 1
            if not self.waiters:
                self.awaited.clear()

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
        dense = (self.dense_leg(indexes.row, leg, until, after_step=indexes.announce) for leg in indexes.legs.values())
        await asyncio.gather(self._lexical(indexes, until), *dense)

    async def _lexical(self, indexes: CollectionIndexes, until: int | None) -> None:
        try:
            await self.lexical_leg(indexes.row, indexes.lexical, until, after_step=indexes.announce)
        except DamagedIndex:
            log.exception("lexical_index_damaged", collection_id=indexes.row.id)
            await run_in(self._threads, indexes.lexical.clear)
            await self.lexical_leg(indexes.row, indexes.lexical, until, after_step=indexes.announce)

    async def dense_leg(self, row: CollectionRow, leg: DenseLeg, until: int | None, *, after_step: AfterStep) -> None:
        if leg.index.sequence == 0:
            await self._list_vectors(row, leg)
            await after_step()
        while changes := await self._history.vector_changes(
            row.id, leg.model, after=leg.index.sequence, until=until, limit=_CHANGES_PER_STEP
        ):
            await run_in(self._threads, leg.index.apply, changes)
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

    async def _list_vectors(self, row: CollectionRow, leg: DenseLeg) -> None:
        """Pages are read while writes go on: what came or went after the first is in the history that follows it."""
        after, sequence = 0, (await self._listings.standing(row.id)).sequence
        while True:
            page = await self._listings.vectors(row.id, leg.model, after=after, limit=_CHANGES_PER_STEP)
            is_last = len(page.added_ids) < _CHANGES_PER_STEP
            reached = sequence if is_last else 0
            await run_in(self._threads, leg.index.apply, VectorChanges(reached, page.added_ids, page.added_vectors, []))
            if is_last:
                return
            after = page.added_ids[-1]

    async def _list_texts(self, row: CollectionRow, lexical: LexicalIndex) -> None:
        after, sequence = 0, (await self._listings.standing(row.id)).sequence
        while True:
            page = await self._listings.texts(row.id, after=after, limit=_CHANGES_PER_STEP)
            is_last = len(page.added) < _CHANGES_PER_STEP
            if page.added or sequence:
                # Nothing is committed before the last page, which makes fewer and larger segments.
                await run_in(self._threads, lexical.apply, TextChanges(sequence if is_last else 0, page.added, []))
            if is_last:
                return
            after = page.added[-1].chunk_id


def dense_folder(directory: Path, collection_id: int, model: str) -> Path:
    """A model's name may be a path, and as long as one."""
    return dense_folders(directory, collection_id) / hashlib.sha256(model.encode()).hexdigest()[:16]


def dense_folders(directory: Path, collection_id: int) -> Path:
    """Of all models."""
    return directory / "dense" / str(collection_id)


def lexical_folder(directory: Path, collection_id: int) -> Path:
    return directory / "lexical" / str(collection_id)
