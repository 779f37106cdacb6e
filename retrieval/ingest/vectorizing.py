"""The vectors of a document, new ones from the model in steps that outlive a crash.

Texts go to the model one by one through a gate that is fair between tenants, never a whole document at once: a document
of two thousand pages leaves room for another tenant's single page, and cancelling it stops within a batch.

What the model has finished is saved while it works on (`JobItems.save_vectors`), one write at a time for a document. So
after a kill a document's texts are embedded again only if they were in the model's batch at that moment, or were
finished while the document's last write was still being synced. A document whose texts all came out of one batch is
stored at once and never saved before, so that small documents are written once.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

import structlog

from retrieval.jobs.fairness import FairGate
from retrieval.jobs.items import JobItems
from retrieval.models.models import Models
from retrieval.truth.records import Item, PreparedDocument
from retrieval.truth.store import Store
from shared.errors import ServiceError
from shared.tasks import ended
from shared.tokens import estimate_tokens

log = structlog.get_logger()

# Batches' worth of texts that wait for the model at most: enough to choose batches of equal length from, few enough that
# another tenant's first text waits a moment only.
_BATCHES_WAITING = 16


class Vectorizer:
    def __init__(self, store: Store, items: JobItems, models: Models, *, batch_tokens_max: int) -> None:
        self._store = store
        self._items = items
        self._models = models
        self._gate = FairGate(_BATCHES_WAITING * batch_tokens_max)

    async def vectors(
        self, item: Item, prepared: PreparedDocument, models: Iterable[str], on_progress: Callable[[int, int], None]
    ) -> dict[str, list[bytes]]:
        """By model, a vector for each piece."""
        wanted = tuple(models)
        async with group_of_tasks() as group:
            tasks = [group.create_task(self._of_model(item, prepared, model, on_progress)) for model in wanted]
        return dict(zip(wanted, (task.result() for task in tasks), strict=True))

    async def _of_model(
        self, item: Item, prepared: PreparedDocument, model: str, on_progress: Callable[[int, int], None]
    ) -> list[bytes]:
        """A vector for each piece: those that the collection holds already, those that an earlier attempt saved, and new
        ones. `on_progress` hears of texts to embed and of texts embedded, as differences."""
        row = item.collection
        known = await self._store.known_vectors(row.id, model, [piece.embed_hash for piece in prepared.pieces])
        if not known.keys() >= {piece.embed_hash for piece in prepared.pieces}:
            known |= await self._items.saved_vectors(item, model)
        new = {piece.embed_hash: piece.embed_text for piece in prepared.pieces if piece.embed_hash not in known}
        if new:
            steps = _Steps(self._items, item, model, len(new), on_progress)
            async with steps.saving():
                await self._embed(item, model, new, steps)
            known |= steps.vectors
        return [known[piece.embed_hash] for piece in prepared.pieces]

    async def _embed(self, item: Item, model: str, texts: dict[bytes, str], steps: "_Steps") -> None:
        tenant, batcher = item.collection.tenant, self._models.of(model)

        async def embed_one(digest: bytes, text: str) -> None:
            vectors = await batcher.embed([text], "document", bounded=False)
            steps.finished(digest, vectors[0].astype("<f4").tobytes())

        async with group_of_tasks() as group:
            for digest, text in texts.items():
                tokens = estimate_tokens(text)
                await self._gate.acquire(tenant, tokens)
                task = group.create_task(embed_one(digest, text))
                # Not inside the task: one that is cancelled before its first step runs nothing of itself.
                task.add_done_callback(partial(self._release, tenant, tokens))

    def _release(self, tenant: str, tokens: int, _task: "asyncio.Task[None]") -> None:
        self._gate.release(tenant, tokens)


@asynccontextmanager
async def group_of_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Raises the first of its failures, alone."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


class _Steps:
    """The vectors of one document by one model as they come, saved behind the model's back."""

    def __init__(
        self, items: JobItems, item: Item, model: str, count: int, on_progress: Callable[[int, int], None]
    ) -> None:
        self.vectors: dict[bytes, bytes] = {}
        self._items = items
        self._item = item
        self._model = model
        self._count = count
        self._on_progress = on_progress
        self._unsaved: dict[bytes, bytes] = {}
        self._woken = asyncio.Event()

    def finished(self, digest: bytes, vector: bytes) -> None:
        self.vectors[digest] = self._unsaved[digest] = vector
        self._on_progress(0, 1)
        self._woken.set()

    @asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """While the body runs; what is left over when it fails is saved as well."""
        self._on_progress(self._count, 0)
        saver = asyncio.create_task(self._save(), name="save-vectors")
        try:
            yield
        finally:
            self._on_progress(-self._count, -len(self.vectors))
            # A write that has begun goes on, and is in the queue before the one that will store the document.
            await ended(saver)
            if not self._is_complete and self._unsaved:
                await self._save_step()

    @property
    def _is_complete(self) -> bool:
        return len(self.vectors) == self._count

    async def _save(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._is_complete:  # the document is about to be stored
                return
            await self._save_step()

    async def _save_step(self) -> None:
        step, self._unsaved = self._unsaved, {}
        try:
            await self._items.save_vectors(self._item, self._model, step)
        except ServiceError as error:  # then storing the document will fail too, and say so
            log.warning("vectors_not_saved", texts=len(step), error=str(error))
