"""Working on one document of a job: prepared in a thread, embedded as far as its texts are new, and stored in one
transaction. Nothing here holds state that matters: all of it is in the database.

What fails is one of two things. A document that cannot be read fails for good, with the reason: trying again would read
the same bytes. Anything else (the model, the disk, a defect) may pass, so the document is tried again, later and later,
until it has used up its attempts. Either way its payload is kept, and it can be queued again.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import structlog
from prometheus_client import CollectorRegistry, Counter

from retrieval.chunks.preparing import content_hash, prepare
from retrieval.conversion.converter import Converter
from retrieval.conversion.limits import Unreadable
from retrieval.indexes.projections import Projections
from retrieval.ingest.vectorizing import Vectorizer
from retrieval.jobs.backpressure import retry_delay_s
from retrieval.jobs.feed import Progress
from retrieval.jobs.items import Commit, JobItems, RunningJob
from retrieval.models.models import Models
from retrieval.truth.document_writes import ModelsChanged, commit_document, commit_unchanged
from retrieval.truth.records import Item, Outcome, PreparedDocument
from retrieval.truth.store import Store
from shared.errors import Internal, InvalidFields, Overloaded, ServiceError, Unavailable
from shared.threads import run_in

log = structlog.get_logger()


class Ingest:
    def __init__(
        self,
        store: Store,
        items: JobItems,
        projections: Projections,
        models: Models,
        vectorizer: Vectorizer,
        converter: Converter,
        *,
        threads: ThreadPoolExecutor,
        registry: CollectorRegistry,
        retry_s: float,
    ) -> None:
        self._store = store
        self._items = items
        self._projections = projections
        self._models = models
        self._vectorizer = vectorizer
        self._converter = converter
        self._threads = threads
        self._retry_s = retry_s
        self._documents = Counter("diptych_documents", "Documents that ended.", ["status"], registry=registry)
        self._chunks = Counter("diptych_chunks", "Chunks stored.", registry=registry)
        self._put_off = Counter("diptych_ingest_retries", "Documents put off to be tried again.", registry=registry)

    async def run_item(self, job: RunningJob, ordinal: int, progress: Progress) -> None:
        """From a pending item to an ended one, or to one that is tried again later. Raises Unavailable where the database
        cannot be written."""
        item = await self._items.claim(job, ordinal)
        progress.touch()
        if item is None:
            return
        outcome = await self._outcome(item, progress)
        progress.touch()
        if outcome is None:
            return
        self._documents.labels(outcome.status).inc()
        if outcome.status in {"created", "replaced"}:
            self._chunks.inc(outcome.chunks)
            await self._projections.advance(item.collection)

    async def _outcome(self, item: Item, progress: Progress) -> Outcome | None:
        try:
            return await self._stored(item, progress)
        except (Unavailable, Overloaded, Internal) as error:
            reason = str(error)
        except ServiceError as error:
            return await self._items.fail(item, str(error))
        except Exception as error:  # a job's loop: what broke may be whole again, and others go on
            log.exception("document_failed", collection_id=item.collection.id)
            reason = f"{type(error).__name__}: {error}"
        self._put_off.inc()
        # Without the reason: an exception may quote the text.
        log.warning("document_put_off", collection_id=item.collection.id, attempt=item.attempt)
        return await self._items.put_off(item, reason, retry_delay_s(item.attempt, self._retry_s))

    async def _stored(self, item: Item, progress: Progress) -> Outcome | None:
        """Everything that takes time comes first, so that the transaction only writes."""
        row = item.collection
        digest = await run_in(self._threads, content_hash, item.document, row.chunking)
        stored = await self._store.stored_hash(row.id, item.document_id)
        if stored == digest or (stored is not None and item.document.only_if_new):
            return await self._items.end(item, partial(commit_unchanged, item=item))
        prepared = await self._prepared(item, progress)
        progress.touch()
        vectors: dict[str, list[bytes]] = {}
        while True:
            # Asked again each time: the collection's models may change while a document is being embedded.
            wanted = (await self._store.current(row)).written_models
            missing = [model for model in wanted if model not in vectors]
            vectors |= await self._vectorizer.vectors(item, prepared, missing, progress.embedded)
            commit: Commit = partial(commit_document, item=item, prepared=prepared, vectors=vectors, digest=digest)
            try:
                return await self._items.end(item, commit)
            except ModelsChanged:
                log.info("document_embedded_again", collection_id=row.id)

    async def _prepared(self, item: Item, progress: Progress) -> PreparedDocument:
        """Raises InvalidFields for a document that cannot be read, whatever went wrong with it."""
        try:
            parsed = await self._converter.convert(item.document)
            progress.touch()
            # What one of the models could not read whole would be lost to it, also after a flip.
            models = (await self._store.current(item.collection)).written_models
            embedders = [await self._models.embedder(model) for model in models]
            return await run_in(
                self._threads,
                prepare,
                item.document,
                parsed,
                item.collection.chunking,
                token_starts=embedders[0].token_starts,
                model_tokens_max=min(embedder.tokens_max for embedder in embedders),
            )
        except Unreadable as error:
            raise InvalidFields(str(error)) from error
        except (ServiceError, OSError, MemoryError):
            raise
        except Exception as error:  # a document that breaks its parser fails alone, and would break it again
            log.exception("document_failed", collection_id=item.collection.id)
            raise InvalidFields(f"could not be read: {type(error).__name__}") from error
