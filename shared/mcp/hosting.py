"""An MCP server inside an aiohttp application: the SDK speaks ASGI, and this is the way between.

A request comes through the same door as every other (id, log, metrics, key), and only then to the SDK. It is stateless: no
session outlives a request, so any replica answers any call. There is no stream from the server outside of a call, so only POST
is served. A client that goes away has its handler cancelled by aiohttp, and with it the work that it asked for.

Rejected: `aiohttp-asgi` (spins when the SDK watches for a disconnect), a second port with uvicorn (one more thing to guard),
the SDK's private single exchange (faster by a millisecond, and only the newest revision).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

from aiohttp import web
from mcp.server.lowlevel import Server as AgentsServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from shared.errors import Forbidden
from shared.hosts import foreign_header
from shared.keys import Principal, bearer_token
from shared.mcp.catalogue import Caller, Catalogue, Progress
from shared.mcp.protocol import USER_HEADER
from shared.mcp.server import CALLER_OF, AgentServer, Calls
from shared.server import REQUEST_ID, SERVER, SERVICE, Server, admit, protect

MCP_PATH: Final = "/mcp"

Message = MutableMapping[str, Any]


def mount(app: web.Application, catalogue: Catalogue, *, path: str = MCP_PATH, calls: Calls | None = None) -> Calls:
    """Before the application starts. Answers what counts the calls, for another catalogue of the same process."""
    server = app[SERVER]
    calls = calls or Calls(server.metrics.registry)
    scopes = [tool.scope for tool in catalogue.tools]

    def check(principal: Principal) -> None:
        # A client with a token can get one with more scopes, if it is told so; an empty list tells it nothing.
        if server.oauth is not None and scopes and not any(principal.may(scope) for scope in scopes):
            principal.require(scopes[0])

    agents = AgentServer(
        catalogue,
        version=server.version,
        service=lambda: app[SERVICE],
        calls=calls,
        timeout_s=server.settings.request_timeout_s,
        is_read_only=server.settings.mcp_read_only,
    )
    mount_server(app, agents.server, path=path, check=check)
    return calls


def mount_server(
    app: web.Application,
    agents: AgentsServer[Any],
    *,
    path: str = MCP_PATH,
    check: Callable[[Principal], None] = lambda _principal: None,
) -> None:
    """Any server of the SDK. `check` raises Forbidden for who may not come in at all."""
    server = app[SERVER]
    manager = StreamableHTTPSessionManager(agents, stateless=True, max_request_body_size=server.settings.body_bytes_max)

    async def handle(request: web.Request) -> web.StreamResponse:
        # Before the key: a page that was made to point here learns nothing, not even that a key is needed.
        _refuse_foreign(server, request)
        principal = await admit(request)
        check(principal)
        return await _serve(request, principal, manager.asgi_app)

    app.router.add_post(path, handle)
    protect(app, path)
    app.cleanup_ctx.append(_running(manager))


def _refuse_foreign(server: Server, request: web.Request) -> None:
    """Raises Forbidden."""
    settings = server.settings
    headers = request.headers
    header = foreign_header(
        headers.get("Host"),
        headers.get("Origin"),
        hosts=(settings.host, *settings.mcp_hosts),
        origins=settings.mcp_origins,
    )
    if header is not None:
        setting = "mcp_hosts" if header == "Host" else "mcp_origins"
        raise Forbidden(f"{header} {headers.get(header)!r} is not served here; allow it with the setting {setting}")


def _running(manager: StreamableHTTPSessionManager) -> Callable[[web.Application], AsyncIterator[None]]:
    """In one task of its own, because a cancel scope must be left by the task that entered it."""

    async def lifetime(_app: web.Application) -> AsyncIterator[None]:
        started, stop = asyncio.Event(), asyncio.Event()

        async def run() -> None:
            async with manager.run():
                started.set()
                await stop.wait()

        task = asyncio.create_task(run(), name="mcp")
        await started.wait()
        yield
        stop.set()
        await task

    return lifetime


async def _serve(
    request: web.Request,
    principal: Principal,
    application: Callable[
        [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
    ],
) -> web.StreamResponse:
    def caller(progress: Progress) -> Caller:
        return Caller(
            principal=principal,
            bearer=bearer_token(request.headers.get("Authorization")),
            named_user=request.headers.get(USER_HEADER),
            progress=progress,
        )

    exchange = _Exchange(request, await request.read())
    try:
        await application(_scope(request, caller), exchange.receive, exchange.send)
        return await exchange.response()
    except ConnectionResetError:
        # The caller went while it was being answered, and nobody is left to hear of it.
        return exchange.unheard()


def _scope(request: web.Request, caller: Callable[[Progress], Caller]) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": f"{request.version.major}.{request.version.minor}",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": request.rel_url.raw_path.encode(),
        "query_string": request.rel_url.raw_query_string.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": None,
        "server": None,
        CALLER_OF: caller,
    }


class _Exchange:
    """One request and its answer, between aiohttp and ASGI. An answer that comes whole is sent whole; one that goes on is a
    stream."""

    def __init__(self, request: web.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._status = 0
        self._headers: list[tuple[str, str]] = []
        self._whole: bytes | None = None
        self._stream: web.StreamResponse | None = None

    async def receive(self) -> Message:
        """The body, and then nothing: a caller that goes away ends this by cancellation."""
        if self._body is None:
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        elif self._stream is not None:
            await self._write(message)
        elif message.get("more_body"):
            self._stream = web.StreamResponse(status=self._status)
            self._add_headers(self._stream)
            self._stream.headers["X-Request-Id"] = self._request[REQUEST_ID]
            await self._stream.prepare(self._request)
            await self._write(message)
        else:
            self._whole = message.get("body", b"")

    async def _write(self, message: Message) -> None:
        if self._stream is not None and (part := message.get("body", b"")):
            await self._stream.write(part)

    async def response(self) -> web.StreamResponse:
        if self._stream is not None:
            await self._stream.write_eof()
            return self._stream
        answer = web.Response(status=self._status, body=self._whole)
        self._add_headers(answer)
        return answer

    def unheard(self) -> web.StreamResponse:
        return self._stream or web.Response(status=self._status)

    def _add_headers(self, response: web.StreamResponse) -> None:
        for name, value in self._headers:
            # aiohttp frames the answer itself.
            if name not in {"content-length", "connection", "transfer-encoding"}:
                response.headers[name] = value
