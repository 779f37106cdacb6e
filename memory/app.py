"""The composition root: everything of the memory service is built here, started in order and stopped in reverse."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from memory import VERSION
from memory.agents.catalogue import CATALOGUE
from memory.compaction.compactor import Compactor
from memory.compaction.llm_summarizer import LlmSummarizer, make_summarizer
from memory.compaction.spans import Spans
from memory.compaction.summaries import Summaries
from memory.embeddings import Embeddings
from memory.facts.extractor import FactExtractor
from memory.facts.items import FactItems
from memory.facts.reading import FactReading
from memory.facts.service import FactService
from memory.facts.store import Facts
from memory.feedback.store import Feedbacks
from memory.forgetting.audit import Audit
from memory.forgetting.erasing import Erasing
from memory.forgetting.forgetting import Forgetting
from memory.forgetting.retention import RetentionJob, Retentions
from memory.handlers import ROUTES
from memory.models.prompts import EXTRACT, load_prompt
from memory.recall.indexes import ScopeIndexes
from memory.recall.parts import RecalledParts
from memory.recall.recall import Recall
from memory.service import MemoryService
from memory.settings import MemorySettings
from memory.transfer.exports import Exports
from memory.transfer.imports import Imports
from memory.transfer.transfers import Transfers
from memory.truth.history import History
from memory.truth.schema import migrations
from memory.truth.store import Store
from memory.truth.turns import Turns
from shared.database import Database
from shared.mcp.hosting import mount
from shared.retrieval_client import RetrievalClient
from shared.server import SERVER, SERVICE, build_app, make_server
from shared.snapshots import Snapshots
from shared.threads import open_pool
from shared.worker import Worker

log = structlog.get_logger()

# Searching and indexing release the interpreter only in part; more threads than this only take turns.
_INDEX_THREADS: Final = 2


def build_memory(settings: MemorySettings) -> web.Application:
    """Raises SettingsError where it cannot start."""

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await _start(app, settings, stack)
            yield

    app = build_app(make_server(settings, VERSION), ROUTES, [lifetime])
    mount(app, CATALOGUE)
    return app


async def _start(app: web.Application, settings: MemorySettings, stack: AsyncExitStack) -> None:
    server, registry = app[SERVER], app[SERVER].metrics.registry
    database = await asyncio.to_thread(
        Database.open, settings.directory / "memory.db", migrations, readers=settings.read_connections
    )
    stack.push_async_callback(asyncio.to_thread, database.close)
    store, history = Store(database), History(database)
    threads = open_pool(stack, _INDEX_THREADS, name="index")
    service_key = settings.service_key.get_secret_value() if settings.service_key else None
    # No retries: recall has its own answer to an outage, and the background its own patience.
    embed_client = RetrievalClient(settings.retrieval_url, api_key=service_key, retries=False)
    documents_client = RetrievalClient(settings.retrieval_url, retries=False)
    for client in (embed_client, documents_client):
        stack.push_async_callback(client.close)
    embeddings = Embeddings(
        history,
        embed_client,
        registry=registry,
        timeout_s=settings.embed_timeout_s,
        pause_s=settings.outage_pause_s,
        batch=settings.vectors_batch_turns,
    )
    await embeddings.start()
    stack.push_async_callback(embeddings.close)
    indexes = ScopeIndexes(history, threads=threads, items_max=settings.index_items_max)
    summarizer = await asyncio.to_thread(make_summarizer, settings, registry)
    if summarizer is not None:
        stack.push_async_callback(summarizer.close)
    spans, turns = Spans(database), Turns(database)
    recall = Recall(store, turns, spans, partial(FactItems, database), indexes, embeddings, registry=registry)
    worker = Worker("compaction")
    stack.push_async_callback(worker.close)
    summaries = Summaries(worker, summarizer)
    compactor = Compactor(spans, summaries, settings, on_spans=embeddings.wake, registry=registry)
    await compactor.start()
    stack.push_async_callback(compactor.close)
    transfers = Transfers(settings.transfers_in_flight_max)
    erasing = await _start_erasing(settings, stack, database, indexes, store, on_spans=embeddings.wake)
    facts = FactService(
        Facts(database),
        FactReading(database),
        embeddings,
        approval=settings.facts_approval,
        approval_of_tenants=settings.approval_of_tenants,
        registry=registry,
    )
    app[SERVICE] = MemoryService(
        settings,
        store=store,
        snapshots=Snapshots(database, settings.data_dir, service=settings.service, version=VERSION),
        history=history,
        indexes=indexes,
        embeddings=embeddings,
        recall=recall,
        recalled=RecalledParts(recall, turns, spans),
        spans=spans,
        compactor=compactor,
        exports=Exports(database, transfers),
        imports=Imports(database, settings, embeddings, transfers),
        erasing=erasing,
        facts=facts,
        feedback=Feedbacks(database, store, per_tenant_max=settings.feedback_max),
        extractor=await asyncio.to_thread(_extractor, settings, summarizer, store, facts),
        documents=documents_client,
        registry=registry,
    )
    server.readiness = _ready
    log.info("ready", model=embeddings.model or None)


async def _start_erasing(
    settings: MemorySettings,
    stack: AsyncExitStack,
    database: Database,
    indexes: ScopeIndexes,
    store: Store,
    *,
    on_spans: Callable[[], None],
) -> Erasing:
    audit, retentions = Audit(database), Retentions(database)
    forgetting = Forgetting(
        database,
        audit,
        indexes,
        threads=open_pool(stack, 1, name="forget"),
        span_share=settings.span_tokens_share,
        on_spans=on_spans,
    )
    job = RetentionJob(retentions, forgetting, interval_s=settings.retention_interval_s)
    await job.start()
    stack.push_async_callback(job.close)
    return Erasing(forgetting, audit, retentions, job, store)


def _extractor(
    settings: MemorySettings, summarizer: LlmSummarizer | None, store: Store, facts: FactService
) -> FactExtractor | None:
    """Reads the prompt's file: not on the event loop."""
    if summarizer is None:
        return None
    return FactExtractor(
        summarizer.chat,
        load_prompt(EXTRACT),
        store,
        facts,
        window_tokens=settings.llm_context_tokens,
        thinking_tokens=settings.llm_thinking_tokens,
    )


async def _ready() -> list[str]:
    """Recall indexes are made on first use and recall answers without retrieval, so nothing is waited for."""
    return []
