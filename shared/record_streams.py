"""Streams of records over HTTP: a body that is read as it comes, and an answer that is sent as it is made.

Neither is ever held whole, and neither has a deadline for the whole; a peer that is silent for too long is gone.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

import aiohttp
import structlog
from aiohttp import web

from shared.errors import Malformed, ServiceError
from shared.memory_stream import negotiate_records, records_media_type
from shared.routes import Incoming, Records

log = structlog.get_logger()

# Whoever neither sends nor reads for so long is gone, whatever the socket says.
_SILENCE_S: Final = 30.0


def incoming_records(request: web.Request) -> Incoming:
    """Raises UnsupportedMedia."""
    return Incoming(records_media_type(request.headers.get("Content-Type")), _parts_of(request))


async def _parts_of(request: web.Request) -> AsyncIterator[bytes]:
    """Raises Malformed where the body breaks off."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                part = await request.content.readany()
        except TimeoutError as error:
            raise Malformed(f"nothing more of the body came for {_SILENCE_S:g} s") from error
        except (web.RequestPayloadError, aiohttp.ClientError, ConnectionError) as error:
            raise Malformed(f"the body broke off: {str(error) or type(error).__name__}") from error
        if not part:
            return
        yield part


async def send_records(request: web.Request, records: Records, *, headers: Mapping[str, str]) -> web.StreamResponse:
    """Raises what is wrong before the first part. Afterwards the answer can only be cut off, and its end is missing."""
    media = negotiate_records(request.headers.get("Accept"))
    async with aclosing(records.parts(media)) as parts:
        first = await anext(parts)
        response = web.StreamResponse(headers={**headers, "Content-Type": media})
        await response.prepare(request)
        is_whole = False
        try:
            await _send(response, first)
            async for part in parts:
                await _send(response, part)
            await response.write_eof()
            is_whole = True
        except (ServiceError, sqlite3.Error, TimeoutError, OSError) as error:
            log.warning("stream_broken", path=request.path, error=str(error) or type(error).__name__)
        finally:
            if not is_whole:
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
    return response


async def _send(response: web.StreamResponse, part: bytes) -> None:
    async with asyncio.timeout(_SILENCE_S):
        await response.write(part)
