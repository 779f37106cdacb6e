"""Vectors, by way of the retrieval service, so that the model is loaded once.

Queries are embedded while the caller waits, for a bounded time; when retrieval is away, recall goes on without them.
Turns are embedded in the background after their append was answered: what has no vector yet stands in `pending`, in the
database, so an outage or a crash only delays it.
"""

import asyncio
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from memory.truth.history import History
from memory.truth.records import IndexedItem
from shared.errors import Forbidden, ServiceError, Unauthenticated
from shared.retrieval_client import RetrievalClient
from shared.tasks import ended
from shared.vectors import Float32Array

log = structlog.get_logger()

# Background embedding may take long on a busy model, and waits longer between tries the longer an outage lasts.
_FILL_TIMEOUT_S: Final = 60.0
_RETRY_FIRST_S: Final = 0.5
_RETRY_MAX_S: Final = 15.0


# Of what `embed_text` makes. Raise it with any change of that: every vector is then made anew, while the old ones serve.
EMBED_TEXT_VERSION: Final = "1"


def embed_text(item: IndexedItem) -> str:
    """What the model reads of an item."""
    return f"{item.speaker}: {item.text}" if item.speaker else item.text


class Embeddings:
    def __init__(
        self,
        history: History,
        client: RetrievalClient,
        *,
        registry: CollectorRegistry,
        timeout_s: float,
        pause_s: float,
        batch: int,
    ) -> None:
        self._history = history
        self._client = client
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._batch = batch
        self._away_until = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # The model that vectors are of; learned from retrieval's answers and kept in the database.
        self.model = ""
        self._failures = Counter("diptych_embed_failures", "Embed calls that failed.", ["kind"], registry=registry)
        self._pending = Gauge("diptych_vectors_pending", "Turns and spans that have no vector yet.", registry=registry)

    async def start(self) -> None:
        self.model = await self._history.model()
        if await self._history.change_embed_text(EMBED_TEXT_VERSION):
            log.warning("embed_text_changed", version=EMBED_TEXT_VERSION)
        self._task = asyncio.create_task(self._fill(), name="fill-vectors")

    async def close(self) -> None:
        await ended(self._task)

    def wake(self) -> None:
        """Tells that there are new turns."""
        self._wake.set()

    async def adopt(self, model: str) -> None:
        """Takes it for the model of all vectors, where none is known yet: retrieval's next answer says if that is so."""
        if not self.model:
            await self._learn(model)

    async def query_vector(self, text: str) -> Float32Array | None:
        """The query's unit vector, or None when retrieval cannot be asked in time."""
        now = asyncio.get_running_loop().time()
        if now < self._away_until:
            return None
        try:
            answer = await self._client.embed([text], kind="query", timeout_s=self._timeout_s)
        except ServiceError as error:
            self._away_until = asyncio.get_running_loop().time() + self._pause_s
            self._failures.labels("query").inc()
            _log_failure("query_not_embedded", error)
            return None
        await self._learn(answer.model)
        return answer.vectors.array.reshape(-1)

    async def _fill(self) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                filled = await self._fill_batch()
            except ServiceError as error:
                self._failures.labels("turn").inc()
                _log_failure("turns_not_embedded", error)
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _RETRY_MAX_S)
                continue
            except Exception:  # a worker's loop: what is pending stays pending
                log.exception("fill_failed")
                await asyncio.sleep(_RETRY_MAX_S)
                continue
            retry_s = _RETRY_FIRST_S
            if not filled:
                await self._wake.wait()

    async def _fill_batch(self) -> bool:
        """False where nothing was pending."""
        self._wake.clear()
        items = await self._history.pending(self.model, self._batch)
        self._pending.set(await self._history.pending_count())
        if not items:
            return False
        # An empty item has no meaning to embed, but every one must leave `pending`.
        texts = [embed_text(item) for item in items]
        answer = await self._client.embed(texts, kind="document", timeout_s=_FILL_TIMEOUT_S)
        await self._learn(answer.model)
        raw = [vector.astype("<f4").tobytes() for vector in answer.vectors.array]
        await self._history.store_vectors(
            answer.model, [(item.key, vector) for item, vector in zip(items, raw, strict=True)]
        )
        return True

    async def _learn(self, model: str) -> None:
        if model == self.model:
            return
        if self.model:
            log.warning("model_changed", old=self.model, new=model)
        self.model = model
        await self._history.change_model(model)
        self._wake.set()


def _log_failure(event: str, error: ServiceError) -> None:
    # A wrong key does not pass by itself, as an outage does.
    method = log.error if isinstance(error, (Unauthenticated, Forbidden)) else log.warning
    method(event, error=error.detail, code=error.code)
