"""What an open collection needs now and then: upkeep of its lists, snapshots, and pruning of history that none needs.

All of it is done by one thread of low priority for the whole service, so that searches hardly notice, and never two builds
fill the memory at once. What fails here is tried again after the next change; the truth and the answers do not depend on it.
"""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from retrieval.indexes import dense_files
from retrieval.indexes.indexes import CollectionIndexes, DenseLeg, dense_folder
from retrieval.indexes.lists import UpkeepStopped
from retrieval.truth.listings import Listings
from shared.tasks import ended
from shared.threads import run_in

log = structlog.get_logger()

# Of the scheduler: searches get nine tenths of a core that both want.
_NICENESS: Final = 10
# A snapshot writes everything, so it waits until replaying what came since would cost about as much.
_CHANGES_SHARE: Final = 0.1
_CHANGES_MIN: Final = 20_000
# At closing time fewer changes are worth it, since the next opening pays for each of them.
_CHANGES_MIN_CLOSING: Final = 2000
# History shorter than this is not worth a transaction.
_PRUNED_MIN: Final = 10_000


def lower_priority() -> None:
    """Initialises the thread of a pool. On Linux the niceness of a thread is its own, and that of threads it starts."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class Tender:
    def __init__(
        self, listings: Listings, directory: Path, *, threads: ThreadPoolExecutor, exact_chunks_max: int
    ) -> None:
        self._listings = listings
        self._directory = directory
        self._threads = threads
        self._exact_chunks_max = exact_chunks_max
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._pruned: dict[int, int] = {}
        self._is_closed = False

    def tend(self, indexes: CollectionIndexes) -> None:
        """Starts whatever is due, in the background. Returns at once."""
        key = indexes.row.id
        if key in self._tasks or indexes.is_dropped or not self._is_due(indexes):
            return
        indexes.users += 1  # never closed in the middle
        task = asyncio.create_task(self._tend(indexes), name=f"tend-{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._ended(indexes))

    async def until_tended(self, indexes: CollectionIndexes) -> None:
        """What is due now is done, or has failed, when this returns."""
        for _ in range(2):  # what is under way may have begun before something became due
            self.tend(indexes)
            if task := self._tasks.get(indexes.row.id):
                await asyncio.wait({task})

    async def settle(self, indexes: CollectionIndexes) -> None:
        """What is worth doing before the collection is closed. Raises OSError where a snapshot cannot be written."""
        for leg in indexes.legs.values():
            if self._is_snapshot_due(indexes, leg, _CHANGES_MIN_CLOSING):
                await self._snapshot(indexes, leg)

    def forget(self, collection_id: int) -> None:
        self._pruned.pop(collection_id, None)

    async def close(self) -> None:
        """Soon: at the latest after one round of k-means, some seconds with a million chunks."""
        self._is_closed = True
        await ended(*self._tasks.values())

    def _is_stopping(self, indexes: CollectionIndexes) -> bool:
        return self._is_closed or indexes.is_dropped

    def _ended(self, indexes: CollectionIndexes) -> None:
        self._tasks.pop(indexes.row.id, None)
        indexes.users -= 1

    def _is_due(self, indexes: CollectionIndexes) -> bool:
        return self._is_pruning_due(indexes) or any(
            leg.index.next_upkeep() is not None or self._is_snapshot_due(indexes, leg, _CHANGES_MIN)
            for leg in indexes.legs.values()
        )

    def _is_snapshot_due(self, indexes: CollectionIndexes, leg: DenseLeg, changes_min: int) -> bool:
        """Small collections start from the chunks sooner than a snapshot of them is checked."""
        if len(leg.index) <= self._exact_chunks_max or indexes.is_dropped:
            return False
        if leg.snapshot_sequence is None:
            return True
        changes = leg.index.sequence - leg.snapshot_sequence
        return changes > max(changes_min, _CHANGES_SHARE * len(leg.index))

    def _is_pruning_due(self, indexes: CollectionIndexes) -> bool:
        return indexes.durable_sequence - self._pruned.get(indexes.row.id, 0) > _PRUNED_MIN

    async def _tend(self, indexes: CollectionIndexes) -> None:
        try:
            for leg in indexes.legs.values():
                while step := await run_in(self._threads, leg.index.upkeep, lambda: self._is_stopping(indexes)):
                    log.info("dense_upkeep", collection_id=indexes.row.id, step=step, chunks=len(leg.index))
                if self._is_snapshot_due(indexes, leg, _CHANGES_MIN):
                    await self._snapshot(indexes, leg)
            if self._is_pruning_due(indexes):
                await self._prune(indexes)
        except UpkeepStopped:
            log.info("dense_upkeep_stopped", collection_id=indexes.row.id)
        except Exception:  # a worker's loop: nothing depends on it, and the next change tries again
            log.exception("tending_failed", collection_id=indexes.row.id)

    async def _snapshot(self, indexes: CollectionIndexes, leg: DenseLeg) -> None:
        folder = dense_folder(self._directory, indexes.row.id, leg.model)
        manifest = await run_in(self._threads, dense_files.save, folder, leg.index, leg.model)
        if (
            indexes.is_dropped or indexes.legs.get(leg.model) is not leg
        ):  # files were removed while this one was written
            await run_in(self._threads, dense_files.remove, folder)
        else:
            leg.snapshot_sequence = manifest.sequence
            log.info("dense_snapshot", collection_id=indexes.row.id, sequence=manifest.sequence, bytes=manifest.bytes)

    async def _prune(self, indexes: CollectionIndexes) -> None:
        """`ops` numbers the changes of all collections together, so how far it got says nothing of how much it was."""
        while not indexes.is_dropped:
            through = indexes.durable_sequence
            if not await self._listings.prune(indexes.row.id, through=through):
                self._pruned[indexes.row.id] = through
                return
