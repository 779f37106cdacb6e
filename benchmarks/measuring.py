"""Taking times over HTTP: the product's own clients, with the bytes of each body counted on the way."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self, TypeVar

import aiohttp
from rich.progress import Progress

from benchmarks.pair import Pair
from diptych import MemoryClient, RetrievalClient
from shared.client import ServiceClient

SideT = TypeVar("SideT")


@dataclass(slots=True)
class BodyBytes:
    """Bytes of the bodies of one or more calls, as they went over the wire; headers are not counted."""

    sent: int = 0
    received: int = 0

    def take(self) -> tuple[int, int]:
        """What was counted since the last take."""
        taken, self.sent, self.received = (self.sent, self.received), 0, 0
        return taken

    def tracing(self) -> aiohttp.TraceConfig:
        async def on_sent(
            _session: aiohttp.ClientSession, _context: SimpleNamespace, part: aiohttp.TraceRequestChunkSentParams
        ) -> None:
            self.sent += len(part.chunk)

        async def on_received(
            _session: aiohttp.ClientSession, _context: SimpleNamespace, part: aiohttp.TraceResponseChunkReceivedParams
        ) -> None:
            self.received += len(part.chunk)

        config = aiohttp.TraceConfig()
        config.on_request_chunk_sent.append(on_sent)
        config.on_response_chunk_received.append(on_received)
        config.freeze()
        return config


class _Counting(ServiceClient):
    """Without retries: a time with a wait inside would be no latency."""

    def __init__(self, url: str, *, encoding: str, body_bytes: BodyBytes, timeout_s: float) -> None:
        super().__init__(url, encoding=encoding, timeout_s=timeout_s, retries=False)
        self._tracing = body_bytes.tracing()

    def _open_session(self) -> aiohttp.ClientSession:
        session = super()._open_session()
        if self._tracing not in session.trace_configs:
            session.trace_configs.append(self._tracing)
        return session


class CountingRetrieval(_Counting, RetrievalClient):
    """The retrieval client, its bodies counted."""


class CountingMemory(_Counting, MemoryClient):
    """The memory client, its bodies counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """One client with both services, in one encoding, each over one kept-alive connection. Use as a context manager."""

    name: str
    retrieval: CountingRetrieval
    memory: CountingMemory
    body_bytes: BodyBytes

    @classmethod
    def of(cls, pair: Pair, name: str, encoding: str, *, timeout_s: float) -> Self:
        counted = BodyBytes()
        options: dict[str, Any] = {"encoding": encoding, "body_bytes": counted, "timeout_s": timeout_s}
        return cls(
            name, CountingRetrieval(pair.retrieval_url, **options), CountingMemory(pair.memory_url, **options), counted
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.retrieval.close()
        await self.memory.close()


@dataclass(slots=True)
class Samples:
    """Of one operation in one encoding. A time is that of the whole call: encode, send, wait, receive, decode."""

    ms: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)


# What one round does on one side. The round's number decides the texts, so that both sides are given the same.
Operation = Callable[[Side, int], Awaitable[None]]


async def interleaved(
    operation: Operation,
    sides: Sequence[Side],
    *,
    rounds: int,
    warm_up: int,
    progress: Progress,
    description: str,
) -> dict[str, Samples]:
    """Each round does the operation once on each side, one after the other, so that a drift of the machine hits all.
    Samples by side; the first `warm_up` rounds leave none."""
    samples = {side.name: Samples() for side in sides}
    for number in progress.track(range(warm_up + rounds), description=description):
        for side in sides:
            side.body_bytes.take()
            started = time.perf_counter()
            await operation(side, number)
            spent_ms = (time.perf_counter() - started) * 1000.0
            if number >= warm_up:
                sent, received = side.body_bytes.take()
                found = samples[side.name]
                found.ms.append(spent_ms)
                found.sent.append(sent)
                found.received.append(received)
    return samples


def in_turns(sides: Sequence[SideT], number: int) -> Sequence[SideT]:
    """For block `number`: all, each first in its turn, so that whoever was first with one block is last with the next."""
    by = number % len(sides) if sides else 0
    return [*sides[by:], *sides[:by]]
