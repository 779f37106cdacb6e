"""A running service's `/mcp`, asked through the SDK's client.

Nothing is negotiated: a request of the newest revision carries all that a service must know, so there is no session that a
restart of the service could break, and no round trip before the first call. Whatever goes wrong on the way (nobody listens,
a key is refused, a proxy answers with a page) comes out as one kind of error, in words that an agent can act on.
"""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2
import mcp_types as types
import msgspec
from mcp.client import Client
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types.version import LATEST_MODERN_VERSION

from diptych import __version__
from shared.mcp.protocol import USER_HEADER
from shared.messages import Problem

# A service may be on the other side of the house, but not of the world.
_CONNECT_TIMEOUT_S: Final = 5.0
# The largest answer of a tool is 40,000 characters on each of two channels; a resource has no such limit.
_EVENT_BYTES_MAX: Final = 64 * 1024 * 1024

ResultT = TypeVar("ResultT", bound=types.Result)


class Upstream:
    """Use as an async context manager. `name` is what people call the service."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        api_key: str | None,
        user: str | None,
        timeout_s: float,
        ready: asyncio.Task[None] | None = None,
    ) -> None:
        """What is asked before `ready` is done waits for it."""
        self.name = name
        self._ready = ready
        headers = {"User-Agent": f"diptych-mcp/{__version__}"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        if user is not None:
            headers[USER_HEADER] = user
        self._url = url.rstrip("/") + "/mcp"
        self._http = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S),
            transport=_Door(name, url),
            trust_env=False,
        )
        self._opened = AsyncExitStack()
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._http)
        way = streamable_http_client(self._url, http_client=self._http, max_sse_event_size=_EVENT_BYTES_MAX)
        client = Client(way, mode=LATEST_MODERN_VERSION, cache=None, client_info=_client_info())
        self._client = await self._opened.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.__aexit__(kind, error, trace)

    async def ask(
        self,
        request: types.Request[Any, Any],
        answer: type[ResultT],
        progress: ProgressFnT | None = None,
    ) -> ResultT:
        """As the service answers. Raises MCPError: the service's own, or with code CONNECTION_CLOSED where it cannot be
        asked. Cancelling this cancels the service's work."""
        session = await self._session()
        try:
            return await session.send_request(request, answer, progress_callback=progress)
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED and error.data is None:
                raise gone(self.name) from error
            raise

    async def introduction(self) -> dict[str, Any]:
        """What `server/discover` says. Raises MCPError."""
        session = await self._session()
        return await session.send_discover(LATEST_MODERN_VERSION)

    async def _session(self) -> ClientSession:
        if self._client is None:
            raise RuntimeError("not entered")
        if self._ready is not None and not self._ready.done():
            await asyncio.shield(self._ready)
        return self._client.session


class _Door(httpx2.AsyncHTTPTransport):
    """Turns what is not an answer of the protocol into one, so that a failed request fails alone: to the SDK's client, a
    broken connection is the end of everything that is under way."""

    def __init__(self, name: str, url: str) -> None:
        # A connection is kept for less than services keep theirs (75 s), and made again when one had to close it.
        super().__init__(limits=httpx2.Limits(max_connections=100, keepalive_expiry=60.0), retries=1)
        self._name = name
        self._address = url

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await super().handle_async_request(request)
            if response.headers.get("Content-Type", "").startswith("text/event-stream"):
                return response
            try:
                body = await response.aread()
            finally:
                await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            return _failed(503, _unreachable(self._name, self._address))
        except httpx2.TransportError:
            return _failed(503, gone(self._name))
        media_type = response.headers.get("Content-Type", "")
        if media_type.startswith("application/json") or response.is_success:
            return httpx2.Response(response.status_code, headers={"Content-Type": media_type}, content=body)
        return _failed(response.status_code, _refused(self._name, response.status_code, body))


def gone(name: str) -> MCPError:
    return _lost(
        name, f"{name} went away while it worked on this; whether it was done is not known. Look, then try again."
    )


def _unreachable(name: str, address: str) -> MCPError:
    return _lost(
        name,
        f"{name} cannot be reached at {address}, and nothing was done. Somebody has to start it (`diptych up` starts both "
        "services); then the same call works, without restarting anything else.",
    )


def _refused(name: str, status: int, body: bytes) -> MCPError:
    """A problem document, or whatever stands between us and the service."""
    try:
        detail = msgspec.json.decode(body, type=Problem).detail
    except (msgspec.DecodeError, msgspec.ValidationError):
        return _lost(name, f"{name} did not answer this; something on the way to it said {status}. Check its address.")
    if status == httpx2.codes.UNAUTHORIZED:
        detail = f"{detail.rstrip('.')}. The key is set where this server is configured: DIPTYCH_API_KEY."
    return _lost(name, f"{name} refused this: {detail}")


def _lost(name: str, message: str) -> MCPError:
    return MCPError(types.CONNECTION_CLOSED, message, {"service": name})


def _failed(status: int, error: MCPError) -> httpx2.Response:
    reply = {"jsonrpc": "2.0", "id": None, "error": error.error.model_dump(mode="json")}
    return httpx2.Response(status, json=reply)


def _client_info() -> types.Implementation:
    return types.Implementation(name="diptych-mcp", version=__version__)
