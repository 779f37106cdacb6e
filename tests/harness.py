"""Real services for tests: real servers on port 0, real SQLite, FAISS and tantivy; only the model may be a HashEmbedder."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from diptych import MemoryClient, RetrievalClient
from memory.app import build_memory
from memory.service import MemoryService
from memory.settings import MemorySettings
from retrieval.app import build_retrieval
from retrieval.models.hash_embedder import HashEmbedder
from retrieval.service import RetrievalService
from retrieval.settings import RetrievalSettings
from shared.client import ServiceClient
from shared.errors import SettingsError, Unavailable
from shared.keys import KeyFile, Scope
from shared.process import address_of
from shared.server import SERVER, SERVICE, Server

# Every wait in a test is bounded by this, save those for real processes that load the real model.
WAIT_S = 5.0
PROCESS_WAIT_S = 120.0


@asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """The app behind a real socket; yields its address."""
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        yield address_of(runner)
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class RunningRetrieval:
    url: str
    client: RetrievalClient
    service: RetrievalService
    server: Server
    embedder: HashEmbedder
    settings: RetrievalSettings


@dataclass(frozen=True, slots=True)
class RunningMemory:
    url: str
    client: MemoryClient
    service: MemoryService
    settings: MemorySettings


@asynccontextmanager
async def running_retrieval(
    data_dir: Path,
    *,
    key: str | None = None,
    embedder: HashEmbedder | None = None,
    more: Iterable[HashEmbedder] = (),
    at_port: int = 0,
    **settings: Any,
) -> AsyncIterator[RunningRetrieval]:
    """A ready retrieval service with a HashEmbedder, and `more` of them under names of their own. `key` is for its client.
    `at_port` is where one was before."""
    embedder = embedder or HashEmbedder()
    others = {each.name: each for each in more}

    def load(name: str) -> HashEmbedder:
        found = embedder if name == chosen.model else others.get(name)
        if found is None:
            raise SettingsError(f"the model {name!r} could not be loaded")
        return found

    chosen = RetrievalSettings(
        data_dir=data_dir, port=0, **{"model": embedder.name, "more_models": ",".join(others), **settings}
    )
    app = await asyncio.to_thread(build_retrieval, chosen, load)
    async with serving(app, at_port) as url, RetrievalClient(url, api_key=key, timeout_s=WAIT_S) as client:
        await until_ready(client)
        service = app[SERVICE]
        assert isinstance(service, RetrievalService)
        yield RunningRetrieval(url, client, service, app[SERVER], embedder, chosen)


@asynccontextmanager
async def running_memory(
    data_dir: Path, *, retrieval_url: str = "http://127.0.0.1:9", key: str | None = None, **settings: Any
) -> AsyncIterator[RunningMemory]:
    """A ready memory service. Without a `retrieval_url` it has no retrieval: nothing listens on port 9."""
    chosen = MemorySettings(data_dir=data_dir, port=0, retrieval_url=retrieval_url, **settings)
    app = await asyncio.to_thread(build_memory, chosen)
    async with serving(app) as url, MemoryClient(url, api_key=key, timeout_s=WAIT_S) as client:
        await until_ready(client)
        service = app[SERVICE]
        assert isinstance(service, MemoryService)
        yield RunningMemory(url, client, service, chosen)


async def until_ready(client: ServiceClient, timeout_s: float = WAIT_S) -> None:
    async def is_ready() -> bool:
        try:
            await client.ready()
        except Unavailable:
            return False
        return True

    await until(is_ready, timeout_s)


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = WAIT_S) -> None:
    """Asks again and again, for what no event announces. Fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


def is_gone(pid: int) -> bool:
    """The process has ended, though its parent may not have heard of it. Blocking."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def make_key(data_dir: Path, tenant: str, *scopes: Scope) -> str:
    """A key in the file that services under `data_dir` read."""
    file = await asyncio.to_thread(KeyFile, data_dir / "keys.db")
    chosen = scopes or ("retrieval:read", "retrieval:write", "memory:read", "memory:write")
    _, token = await asyncio.to_thread(file.create, tenant=tenant, name="test", scopes=chosen)
    return token


@asynccontextmanager
async def raw_session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """For what our own client would never send."""
    async with aiohttp.ClientSession(base_url=url, timeout=aiohttp.ClientTimeout(total=WAIT_S)) as session:
        yield session


def clean_environment(**variables: str) -> dict[str, str]:
    """For child processes: nothing of the developer's own DIPTYCH_ settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIPTYCH_")}
    return {**kept, "HF_HUB_OFFLINE": "1", **variables}


def diptych_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "diptych", *arguments]
