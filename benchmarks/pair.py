"""The pair under measurement: both services as real processes with the real model, on free ports and a scratch folder.

They are started by the supervisor that `diptych up` uses and reached over HTTP on 127.0.0.1, so what is measured is what
users get. Two things differ from a plain start: no API keys exist, and logs below `warning` are off, since a line for each
request would bury the progress bar. Other DIPTYCH_ variables of the caller reach the services, to compare settings.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from diptych import RetrievalClient
from diptych.ports import free_ports
from diptych.supervisor import Supervisor
from shared.errors import Unavailable

_READY_TIMEOUT_S: Final = 180.0
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Pair:
    """`ready_s` is the time from before the first child was spawned until both were ready, as `diptych up` prints it.
    The supervisor asks every 0.1 s, so it is that coarse."""

    retrieval_url: str
    memory_url: str
    pids: dict[str, int]
    ready_s: float


@asynccontextmanager
async def supervised(data_dir: Path, ports: Sequence[int], **variables: str) -> AsyncIterator[Supervisor]:
    """Both services, spawned and perhaps not ready. `variables` go to their environment."""
    retrieval_port, memory_port = ports
    environment = {
        "DIPTYCH_DATA_DIR": str(data_dir),
        "DIPTYCH_KEYS_PATH": str(data_dir / "keys.db"),
        "DIPTYCH_LOG_LEVEL": "warning",
        # As the Makefile has it, so that both ways to start a benchmark measure the same.
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        **variables,
    }
    async with Supervisor(
        host="127.0.0.1", retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
    ) as supervisor:
        yield supervisor


@asynccontextmanager
async def running_pair(data_dir: Path, **variables: str) -> AsyncIterator[Pair]:
    """A ready pair; leaving stops it. `variables` go to its environment. Raises Unavailable or ChildDied."""
    started = time.perf_counter()
    async with supervised(data_dir, free_ports(2), **variables) as supervisor:
        await supervisor.wait_ready(_READY_TIMEOUT_S)
        ready_s = round(time.perf_counter() - started, 2)
        yield Pair(supervisor.retrieval_url, supervisor.memory_url, supervisor.pids, ready_s)


@asynccontextmanager
async def limited(timeout_s: float, what: str) -> AsyncIterator[None]:
    """Raises Unavailable when it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise Unavailable(f"waited {timeout_s:g} s for {what}") from error


async def until_jobs_ended(client: RetrievalClient, timeout_s: float) -> None:
    """Raises Unavailable when it takes too long."""

    async def is_done() -> bool:
        pages = [await client.jobs(status=status, limit=1) for status in ("queued", "running")]
        return not any(page.items for page in pages)

    await _until(is_done, timeout_s, "unfinished jobs to end")


async def until_vectors_filled(memory_url: str, timeout_s: float) -> None:
    """Until every turn has its vector. Raises Unavailable when it takes too long."""
    async with aiohttp.ClientSession(memory_url) as session:

        async def is_done() -> bool:
            return await _gauge(session, "diptych_vectors_pending") == 0.0

        # The gauge is set when the background looks, which may be a moment after the append's answer.
        await asyncio.sleep(2 * _POLL_S)
        await _until(is_done, timeout_s, "vectors to be filled")


async def _gauge(session: aiohttp.ClientSession, name: str) -> float:
    async with session.get("/metrics") as response:
        text = await response.text()
    for family in text_string_to_metric_families(text):
        if family.name == name:
            return family.samples[0].value
    raise Unavailable(f"/metrics has no {name}")


async def _until(condition: Callable[[], Awaitable[bool]], timeout_s: float, what: str) -> None:
    async with limited(timeout_s, what):
        while not await condition():  # noqa: ASYNC110 - asked of another process, which announces nothing
            await asyncio.sleep(_POLL_S)
