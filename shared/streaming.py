"""Server-sent events, both ends: what the server sends and how a client reads it.

An event's data is one JSON object, whatever the caller accepts: the format is text. Keep-alives, the eviction of a
caller that does not read, and the escaping of lines are aiohttp-sse's.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from shared.routes import Event
from shared.tasks import ended
from shared.wire import JSON, encode

log = structlog.get_logger()

EVENT_STREAM: Final = "text/event-stream"
LAST_EVENT_ID_HEADER: Final = "Last-Event-ID"
# Below the half minute after which many proxies close what is silent.
_PING_S: Final = 15.0
# A caller that reads nothing for so long is gone, whatever its socket says.
_SEND_TIMEOUT_S: Final = 30.0


async def send_events(
    request: web.Request, events: AsyncIterator[Event], *, stop: asyncio.Event, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Until the events end, the caller goes, or `stop` is set. A stream that breaks is closed: the caller comes back."""
    response = EventSourceResponse(headers=headers, ping_interval=_PING_S, send_timeout=_SEND_TIMEOUT_S)
    await response.prepare(request)
    sending = asyncio.create_task(_send_all(response, events))
    stopping = asyncio.create_task(stop.wait())
    async with response:
        try:
            await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await ended(sending, stopping)
    if not sending.cancelled() and (error := sending.exception()) is not None:
        # The head is sent, so this cannot become a problem; without a proper end the caller knows.
        log.warning("stream_broken", path=request.path, error=str(error) or type(error).__name__)
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
    return response


async def _send_all(response: EventSourceResponse, events: AsyncIterator[Event]) -> None:
    try:
        async for event in events:
            await response.send(encode(event.data, JSON).decode(), id=event.id, event=event.name)
    finally:
        if isinstance(events, AsyncGenerator):
            with suppress(RuntimeError):  # it is closed already
                await events.aclose()


@dataclass(frozen=True, slots=True)
class Received:
    """An event as it was read."""

    name: str
    data: str
    id: str


class EventReader:
    """Bytes to events, as the HTML standard's event stream has it. Comments and unknown fields are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._name = ""
        self._data: list[str] = []
        self._id = ""

    def feed(self, part: bytes) -> list[Received]:
        """The events that `part` completes."""
        complete, separator, self._rest = (self._rest + part).rpartition(b"\n")
        if not separator:
            return []
        found = [self._take(line.removesuffix("\r")) for line in complete.decode("utf-8", "replace").split("\n")]
        return [event for event in found if event is not None]

    def _take(self, line: str) -> Received | None:
        if not line:
            name, data = self._name or "message", "\n".join(self._data)
            is_event, self._name, self._data = bool(self._data), "", []
            return Received(name, data, self._id) if is_event else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                self._id = value
        return None
