"""Many clients that cost little: requests made beforehand, sent over bare sockets.

On two cores the clients work beside the server that they measure, and a client that encodes, decodes and checks takes as
much of them as the server does. These send bytes, and read of an answer only its status and its length.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
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


async def run_clients(url: str, requests: Sequence[bytes], *, clients: int) -> tuple[list[float], float]:
    """Each client sends the next request as soon as it has its answer. Milliseconds of each, and seconds of all.

    Raises Unavailable for an answer that is not 200.
    """
    waiting, spent_ms = iter(requests), list[float]()
    connections = [await _connect(url) for _ in range(clients)]
    started = time.perf_counter()
    try:
        await asyncio.gather(*(_ask(*connection, waiting, spent_ms) for connection in connections))
        seconds = time.perf_counter() - started
    finally:
        for _, writer in connections:
            writer.close()
    return spent_ms, seconds


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, waiting: Iterator[bytes], spent_ms: list[float]
) -> None:
    for request in waiting:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(_length(head))
        spent_ms.append((time.perf_counter() - started) * 1000.0)


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    if b" 200 " not in lines[0]:
        raise Unavailable(f"the service answered {lines[0].decode()}")
    return next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
