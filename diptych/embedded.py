"""Both services for as long as one client needs them: `diptych up` as a child that ends when we do.

A client may kill us without a word, so the child does not wait to be told: it stops, and drains, when its standard input closes.
In a session of its own, because clients that kill kill the whole process group.
"""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from diptych.console import Options
from diptych.ports import free_ports
from shared.errors import DiptychError

# Longer than a child takes that drains and then kills.
_END_TIMEOUT_S: Final = 30.0


class NotStarted(DiptychError):
    """The services could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Where the services are, or will be. `ready` is done when both are; it fails with NotStarted."""

    urls: dict[str, str]
    ready: asyncio.Task[None]
    process: Process


@asynccontextmanager
async def embedded_pair(options: Options) -> AsyncIterator[Pair]:
    """Started, and not ready yet: loading the model takes longer than some clients wait for a first word. What the services
    say goes to standard error."""
    retrieval_port, memory_port = free_ports(2)
    command = [sys.executable, "-m", "diptych", "--data-dir", str(options.data_dir)]
    if options.keys_path:
        command += ["--keys-path", str(options.keys_path)]
    command += ["--json", "up", "--until-stdin-closes", "--host", "127.0.0.1"]
    command += ["--retrieval-port", str(retrieval_port), "--memory-port", str(memory_port)]
    # A client shows every line of it to somebody, or keeps it for ever.
    environment = {"DIPTYCH_LOG_LEVEL": "warning", **os.environ}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, env=environment, start_new_session=True
    )
    ready = asyncio.create_task(_ready(process))
    urls = {"retrieval": f"http://127.0.0.1:{retrieval_port}", "memory": f"http://127.0.0.1:{memory_port}"}
    try:
        yield Pair(urls=urls, ready=ready, process=process)
    finally:
        await _end(process)
        await asyncio.gather(ready, return_exceptions=True)


async def _ready(process: Process) -> None:
    """`up` says a line when both services are ready, and nothing else."""
    if process.stdout is None:
        raise RuntimeError("started without a pipe")
    if not await process.stdout.readline():
        raise NotStarted("the services could not be started; standard error says why")


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_END_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
