"""The composition root: everything of the retrieval service is built here, started in order and stopped in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from retrieval import VERSION
from retrieval.backends import ModelChoice, load_embedder
from retrieval.batcher import Batcher
from retrieval.embedder import Embedder
from retrieval.handlers import ROUTES
from retrieval.history import History
from retrieval.ingest import Ingest
from retrieval.jobs import Jobs
from retrieval.projections import Projections
from retrieval.records import CollectionRow
from retrieval.schema import migrations
from retrieval.search import Searcher
from retrieval.service import RetrievalService
from retrieval.settings import RetrievalSettings
from retrieval.store import Store
from shared.database import Database
from shared.errors import SettingsError
from shared.server import SERVER, SERVICE, build_app, make_server
from shared.threads import open_pool

log = structlog.get_logger()

# Preparing documents is Python and holds the interpreter; more threads than this only take turns.
_INGEST_THREADS: Final = 2

LoadEmbedder = Callable[[], Embedder]


def build_retrieval(settings: RetrievalSettings, load: LoadEmbedder | None = None) -> web.Application:
    """Raises SettingsError where it cannot start. `load` is called in the model's thread."""
    load = load or partial(load_embedder, _model_choice(settings))

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, settings, load, stack)
            yield

    return build_app(make_server(settings, VERSION), ROUTES, [lifetime])


def _model_choice(settings: RetrievalSettings) -> ModelChoice:
    return ModelChoice(
        name=settings.model,
        backend=settings.embedding_backend,
        precision=settings.embedding_precision,
        models_dir=settings.directory / "models",
        threads=settings.model_threads,
    )


async def _start(app: web.Application, settings: RetrievalSettings, load: LoadEmbedder, stack: AsyncExitStack) -> None:
    server, registry = app[SERVER], app[SERVER].metrics.registry
    database = await asyncio.to_thread(
        Database.open, settings.directory / "retrieval.db", migrations, readers=settings.read_connections
    )
    stack.push_async_callback(asyncio.to_thread, database.close)
    store, history = Store(database), History(database)
    rows = await store.every_collection()
    _refuse_other_model(rows, settings)
    search_threads = open_pool(stack, settings.search_threads, name="search")
    ingest_threads = open_pool(stack, _INGEST_THREADS, name="ingest")
    batcher = Batcher(
        load,
        registry=registry,
        batch_tokens_max=settings.embed_batch_tokens_max,
        queue_texts_max=settings.embed_queue_texts_max,
        cache_entries=settings.query_cache_entries,
    )
    batcher.start()
    stack.push_async_callback(batcher.close)
    projections = Projections(store, history, batcher, settings.directory / "lexical", threads=search_threads)
    stack.push_async_callback(projections.close)
    jobs = Jobs(database, queue_documents_max=settings.ingest_queue_documents_max, keep_days=settings.jobs_keep_days)
    ingest = Ingest(
        store,
        jobs,
        projections,
        batcher,
        threads=ingest_threads,
        registry=registry,
        jobs_in_flight_max=settings.ingest_jobs_in_flight_max,
        documents_in_flight_max=settings.ingest_documents_in_flight_max,
    )
    stack.push_async_callback(ingest.close)
    searcher = Searcher(store, projections, batcher, threads=search_threads, registry=registry)
    service = RetrievalService(
        settings,
        store=store,
        history=history,
        jobs=jobs,
        projections=projections,
        batcher=batcher,
        searcher=searcher,
        ingest=ingest,
    )
    app[SERVICE] = service
    warming = asyncio.create_task(_warm(service, ingest, rows), name="warm-up")
    stack.push_async_callback(_cancel, warming)

    async def waiting_for() -> list[str]:
        return [] if warming.done() else [service.waiting_for()]

    def end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            server.fail(error)

    warming.add_done_callback(end)
    server.readiness = waiting_for


async def _warm(service: RetrievalService, ingest: Ingest, rows: list[CollectionRow]) -> None:
    """Loads the model, catches every projection up with the truth, and takes up unfinished jobs."""
    await service.batcher.embedder()
    await service.projections.remove_orphans(rows)
    for row in rows:
        await service.projections.of(row)
    await ingest.start(rows)
    log.info("ready", collections=len(rows))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _refuse_other_model(rows: list[CollectionRow], settings: RetrievalSettings) -> None:
    """Vectors of two models cannot be compared, and nothing would look wrong but the results."""
    models = sorted({row.model for row in rows} - {settings.model})
    if models:
        raise SettingsError(
            f"the collections in {settings.directory} were built with the model {', '.join(models)}, not with "
            f"{settings.model}.\n  Start with --model {models[0]}, or with another --data-dir for the new model."
        )
