"""The memory service as a process of its own, without retrieval: what is measured of it must not share the machine with a
model. Nothing is embedded; what is appended waits for vectors, as it does while retrieval is away."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.pair import limited
from diptych import MemoryClient
from diptych.ports import free_ports
from shared.errors import Unavailable

_READY_TIMEOUT_S: Final = 600.0
_STOP_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Alone:
    """`ready_s` is the time from before the process was spawned until it was ready."""

    url: str
    pid: int
    ready_s: float


@asynccontextmanager
async def memory_alone(data_dir: Path, **variables: str) -> AsyncIterator[Alone]:
    """Leaving stops it. `variables` go to its environment; without another, nothing listens where retrieval would be."""
    port, nobody = free_ports(2)
    environment = {
        **os.environ,
        "DIPTYCH_DATA_DIR": str(data_dir),
        "DIPTYCH_KEYS_PATH": str(data_dir / "keys.db"),
        "DIPTYCH_LOG_LEVEL": "warning",
        "DIPTYCH_MEMORY_PORT": str(port),
        "DIPTYCH_RETRIEVAL_URL": f"http://127.0.0.1:{nobody}",
        **variables,
    }
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "memory",
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with limited(_READY_TIMEOUT_S, "memory to be ready"), MemoryClient(url) as client:
            while not await _is_ready(client):
                await asyncio.sleep(_POLL_S)
                if process.returncode is not None:
                    raise Unavailable(f"memory ended with {process.returncode} before it was ready")
        yield Alone(url, process.pid, round(time.perf_counter() - started, 2))
    finally:
        if process.returncode is None:
            process.terminate()
            async with limited(_STOP_TIMEOUT_S, "memory to stop"):
                await process.wait()


async def _is_ready(client: MemoryClient) -> bool:
    try:
        await client.ready()
    except Unavailable:
        return False
    return True
