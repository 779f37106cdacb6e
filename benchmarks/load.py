"""Many clients that cost little: requests made beforehand, sent over bare sockets.

On two cores the clients work beside the server that they measure, and a client that encodes, decodes and checks takes as
much of them as the server does. These send bytes, and read of an answer only its status and its length.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from shared.errors import Unavailable
from shared.wire import JSON, MSGPACK, encode


def request_bytes(url: str, path: str, message: msgspec.Struct, media: str = MSGPACK) -> bytes:
    return _post(url, path, encode(message, media), media)


def json_request_bytes(url: str, path: str, body: Any) -> bytes:
    """Of another's server."""
    return _post(url, path, msgspec.json.encode(body), JSON)


def _post(url: str, path: str, body: bytes, media: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: {media}\r\nAccept: {media}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection:
    """One that is kept, as clients keep theirs: asking for another each time would be measured too."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> float:
        """Milliseconds to the last byte of the answer. Raises Unavailable for one that is not 200."""
        started = time.perf_counter()
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        await self._reader.readexactly(_length(head))
        return (time.perf_counter() - started) * 1000.0


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


async def run_clients(url: str, requests: Sequence[bytes], *, clients: int) -> tuple[list[float], float]:
    """Each client sends the next request as soon as it has its answer. Milliseconds of each, and seconds of all.

    Raises Unavailable for an answer that is not 200.
    """
    waiting, spent_ms = iter(requests), list[float]()
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connected(url)) for _ in range(clients)]
        started = time.perf_counter()
        await asyncio.gather(*(_ask_all(connection, waiting, spent_ms) for connection in connections))
        return spent_ms, time.perf_counter() - started


async def _ask_all(connection: Connection, waiting: Iterator[bytes], spent_ms: list[float]) -> None:
    spent_ms += [await connection.ask(request) for request in waiting]


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise Unavailable(f"the service answered {lines[0].decode()}")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
