"""What is evaluated: services that run, or a pair that is started for the run and ends with it."""

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from diptych.memory_client import MemoryClient
from diptych.ports import free_ports
from diptych.supervisor import Supervisor
from shared.retrieval_client import RetrievalClient

_READY_TIMEOUT_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Services:
    retrieval: RetrievalClient
    memory: MemoryClient


@asynccontextmanager
async def running_services(
    retrieval_url: str, memory_url: str, *, api_key: str | None, timeout_s: float
) -> AsyncIterator[Services]:
    """Clients of services that run; nothing is asked of one that the evaluation does not need."""
    async with (
        RetrievalClient(retrieval_url, api_key=api_key, timeout_s=timeout_s, reconnects=False) as retrieval,
        MemoryClient(memory_url, api_key=api_key, timeout_s=timeout_s, reconnects=False) as memory,
    ):
        yield Services(retrieval, memory)


@asynccontextmanager
async def started_services(
    *, keep: Path | None, timeout_s: float, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Services]:
    """A pair on free ports, without keys, and with the other DIPTYCH_ settings of the caller and those of `settings`. What it
    stores goes with it, or stays in `keep` for another run. Raises ChildDied, PortTaken or Unavailable."""
    retrieval_port, memory_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="diptych-eval-") as scratch:
        data_dir = (keep or Path(scratch)).expanduser().resolve()
        environment = {
            **(settings or {}),
            "DIPTYCH_DATA_DIR": str(data_dir),
            "DIPTYCH_KEYS_PATH": str(Path(scratch) / "keys.db"),
            "DIPTYCH_LOG_LEVEL": "warning",
        }
        async with Supervisor(
            host="127.0.0.1", retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
        ) as pair:
            await pair.wait_ready(_READY_TIMEOUT_S)
            async with running_services(
                pair.retrieval_url, pair.memory_url, api_key=None, timeout_s=timeout_s
            ) as services:
                yield services
