"""The composition root: everything of the retrieval service is built here, started in order and stopped in reverse."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Final

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from retrieval import VERSION
from retrieval.agents.catalogue import CATALOGUE, OPENAI_CATALOGUE, OPENAI_PATH
from retrieval.conversion.converter import Converter
from retrieval.conversion.limits import Limits
from retrieval.conversion.workers import Workers
from retrieval.feedback import Feedbacks
from retrieval.handlers import ROUTES
from retrieval.indexes.projections import Projections
from retrieval.indexes.tending import lower_priority
from retrieval.ingest.ingest import Ingest
from retrieval.ingest.runner import JobRunner
from retrieval.ingest.runner import Limits as JobLimits
from retrieval.ingest.vectorizing import Vectorizer
from retrieval.jobs.backpressure import Amount, DrainRate
from retrieval.jobs.feed import JobFeed
from retrieval.jobs.items import JobItems
from retrieval.jobs.jobs import Jobs
from retrieval.models.backends import ModelChoice, load_embedder
from retrieval.models.cross_encoder import SentenceTransformerCrossScorer
from retrieval.models.embedder import Embedder
from retrieval.models.models import Models
from retrieval.models.reranker import Reranker
from retrieval.reindexing.reindexes import Reindexes
from retrieval.reindexing.reindexing import Reindexer
from retrieval.searching.search import Searcher
from retrieval.service import RetrievalService
from retrieval.settings import RetrievalSettings
from retrieval.truth.filtering import FilterSets
from retrieval.truth.history import History
from retrieval.truth.records import CollectionRow
from retrieval.truth.schema import migrations
from retrieval.truth.store import Store
from shared.database import Database
from shared.errors import SettingsError
from shared.forms import FormReader
from shared.mcp.hosting import mount
from shared.server import SERVER, SERVICE, build_app, make_server
from shared.snapshots import Snapshots
from shared.tasks import ended
from shared.threads import open_pool

log = structlog.get_logger()

# Preparing documents is Python and holds the interpreter; more threads than this only take turns.
_INGEST_THREADS: Final = 2

LoadEmbedder = Callable[[str], Embedder]


def build_retrieval(settings: RetrievalSettings, load: LoadEmbedder | None = None) -> web.Application:
    """Raises SettingsError where it cannot start. `load` is called in a thread, with the name of a model."""
    load = load or (lambda name: load_embedder(_model_choice(settings, name)))

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, settings, load, stack)
            yield

    server = make_server(settings, VERSION)
    server.forms = FormReader(
        file_bytes_max=settings.content_bytes_max,
        bytes_max=settings.upload_bytes_max,
        in_flight_max=settings.uploads_in_flight_max,
    )
    app = build_app(server, ROUTES, [lifetime])
    calls = mount(app, CATALOGUE)
    mount(app, OPENAI_CATALOGUE, path=OPENAI_PATH, calls=calls)
    return app


def _model_choice(settings: RetrievalSettings, name: str) -> ModelChoice:
    return ModelChoice(
        name=name,
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
    models = _start_models(settings, load, registry)
    stack.push_async_callback(models.close)
    tending_threads = open_pool(stack, 1, name="tending", initializer=lower_priority)
    projections = Projections(store, history, models, settings, threads=search_threads, tending_threads=tending_threads)
    stack.push_async_callback(projections.close)
    workers = await stack.enter_async_context(
        Workers(processes=settings.convert_processes, idle_s=settings.convert_idle_s)
    )
    converter = _converter(workers, ingest_threads, settings)
    jobs, runner, feed, reindexer = _start_jobs(
        settings, database, store, projections, models, converter, threads=ingest_threads, registry=registry
    )
    stack.push_async_callback(reindexer.close)
    stack.push_async_callback(runner.close)
    filters = FilterSets(database, bytes_max=settings.filter_cache_bytes_max)
    reranker = Reranker(
        settings.rerank_models,
        SentenceTransformerCrossScorer,
        threads=open_pool(stack, 1, name="rerank"),
        queue_max=settings.rerank_queue_max,
        registry=registry,
    )
    searcher = Searcher(
        store, projections, models, filters=filters, reranker=reranker, threads=search_threads, registry=registry
    )
    service = RetrievalService(
        settings,
        store=store,
        snapshots=Snapshots(database, settings.data_dir, service=settings.service, version=VERSION),
        history=history,
        jobs=jobs,
        projections=projections,
        models=models,
        reindexer=reindexer,
        searcher=searcher,
        runner=runner,
        feed=feed,
        feedback=Feedbacks(store, per_tenant_max=settings.feedback_max),
    )
    app[SERVICE] = service
    warming = asyncio.create_task(_warm(service, runner, reindexer, reranker, rows), name="warm-up")
    stack.push_async_callback(ended, warming)

    async def waiting_for() -> list[str]:
        return [] if warming.done() else [service.waiting_for()]

    def fail(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            server.fail(error)

    warming.add_done_callback(fail)
    server.readiness = waiting_for


def _start_models(settings: RetrievalSettings, load: LoadEmbedder, registry: CollectorRegistry) -> Models:
    models = Models(
        load,
        default=settings.model,
        more=settings.more_models,
        registry=registry,
        batch_tokens_max=settings.embed_batch_tokens_max,
        queue_texts_max=settings.embed_queue_texts_max,
        cache_entries=settings.query_cache_entries,
    )
    models.of(settings.model)
    return models


def _start_jobs(
    settings: RetrievalSettings,
    database: Database,
    store: Store,
    projections: Projections,
    models: Models,
    converter: Converter,
    *,
    threads: ThreadPoolExecutor,
    registry: CollectorRegistry,
) -> tuple[Jobs, JobRunner, JobFeed, Reindexer]:
    owner, drain = uuid.uuid4().hex, DrainRate()
    queue_max = Amount(settings.ingest_queue_documents_max, settings.ingest_queue_bytes_max)
    jobs = Jobs(database, owner=owner, queue_max=queue_max, keep_days=settings.jobs_keep_days, drain=drain)
    items = JobItems(database, owner=owner, attempts_max=settings.ingest_attempts_max, drain=drain)
    vectorizer = Vectorizer(store, items, models, batch_tokens_max=settings.embed_batch_tokens_max)
    ingest = Ingest(
        store,
        items,
        projections,
        models,
        vectorizer,
        converter,
        threads=threads,
        registry=registry,
        retry_s=settings.ingest_retry_s,
    )
    reindexer = Reindexer(
        store,
        Reindexes(database, owner=owner),
        projections,
        models,
        threads=threads,
        attempts_max=settings.ingest_attempts_max,
        retry_s=settings.ingest_retry_s,
    )
    limits = JobLimits(
        jobs_in_flight_max=settings.ingest_jobs_in_flight_max,
        documents_in_flight_max=settings.ingest_documents_in_flight_max,
        lease_s=settings.ingest_lease_s,
        retry_s=settings.ingest_retry_s,
        dead_bytes_max=settings.ingest_dead_bytes_max,
    )
    feed = JobFeed(jobs)
    runner = JobRunner(store, jobs, items, ingest, feed, projections, reindexer, limits=limits, registry=registry)
    return jobs, runner, feed, reindexer


def _converter(workers: Workers, threads: ThreadPoolExecutor, settings: RetrievalSettings) -> Converter:
    limits = Limits(
        characters_max=settings.document_characters_max,
        pages_max=settings.convert_pages_max,
        unzipped_bytes_max=settings.convert_unzipped_bytes_max,
        unzipped_ratio_max=settings.convert_unzipped_ratio_max,
    )
    return Converter(
        workers,
        threads,
        limits,
        timeout_s=settings.convert_timeout_s,
        memory_bytes_max=settings.convert_memory_bytes_max,
    )


async def _warm(
    service: RetrievalService,
    runner: JobRunner,
    reindexer: Reindexer,
    reranker: Reranker,
    rows: list[CollectionRow],
) -> None:
    """Loads the models in use and takes up unfinished jobs. Projections are opened by whoever needs them."""
    for model in dict.fromkeys((service.settings.model, *(model for row in rows for model in row.written_models))):
        await service.models.embedder(model)
    await reranker.start()
    await service.projections.remove_orphans(rows)
    reindexer.start()
    await runner.start(rows)
    log.info("ready", collections=len(rows))


def _refuse_other_model(rows: list[CollectionRow], settings: RetrievalSettings) -> None:
    """Vectors of two models cannot be compared, and nothing would look wrong but the results."""
    allowed = {settings.model, *settings.more_models}
    models = sorted({model for row in rows for model in row.written_models} - allowed)
    if models:
        more = ",".join([*settings.more_models, *models])
        raise SettingsError(
            f"the collections in {settings.directory} were built with the model {', '.join(models)}, not with "
            f"{settings.model}.\n"
            f"  Start with --model {settings.model} --more-models {more} to serve both. Then "
            f"`diptych reindex COLLECTION --model {settings.model}` changes a collection without downtime, and "
            "`diptych reindex COLLECTION --discard` lets go of the model that it had.\n"
            f"  Or start with --model {models[0]} as before, or with another --data-dir for the new model."
        )
