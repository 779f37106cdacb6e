"""A service of nothing but the HTTP layer: its routes do what a test of that layer needs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from aiohttp import web
from msgspec import Meta

from shared.client import ServiceClient
from shared.keys import Scope
from shared.messages import Answer, PageQuery, Request, Text
from shared.routes import Call, Reply, Route
from shared.server import SERVICE, Server, build_app, make_server
from shared.settings import ServiceSettings
from shared.users import of_the_tenant
from shared.vectors import Vector
from shared.wire import JSON, MSGPACK, decode
from tests.harness import WAIT_S, raw_session, serving


class ProbeSettings(ServiceSettings):
    service: ClassVar[str] = "probe"


class EchoRequest(Request, frozen=True, kw_only=True):
    text: Text
    number: Annotated[int, Meta(ge=0, le=9)] = 0
    vector: Vector | None = None


class EchoAnswer(Answer, frozen=True, kw_only=True):
    text: str
    tenant: str
    path: dict[str, str]
    limit: int | None = None
    user_id: str | None = None


@dataclass(slots=True)
class Probe:
    """What a test sees and sets of its service."""

    server: Server
    url: str = ""
    # What the route /v1/raise raises.
    error: Exception = field(default_factory=RuntimeError)
    # Where the route /v1/pass-on asks.
    upstream: ServiceClient | None = None
    waiting_for: list[str] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


async def echo(_probe: Probe, call: Call[EchoRequest, None]) -> EchoAnswer:
    return EchoAnswer(text=call.body.text, tenant=call.principal.tenant, path=dict(call.path))


async def echo_or_nothing(_probe: Probe, call: Call[EchoRequest, None]) -> Reply:
    return Reply(202, EchoAnswer(text=call.body.text, tenant=call.principal.tenant, path=dict(call.path)))


async def look(_probe: Probe, call: Call[None, PageQuery]) -> EchoAnswer:
    return EchoAnswer(text="", tenant=call.principal.tenant, path=dict(call.path), limit=call.query.limit)


async def whoami(_probe: Probe, call: Call[None, None]) -> EchoAnswer:
    who = call.principal
    return EchoAnswer(text=" ".join(sorted(who.scopes)), tenant=who.tenant, path={}, user_id=who.user_id)


async def hold(probe: Probe, call: Call[None, None]) -> EchoAnswer:
    probe.entered.set()
    try:
        await probe.released.wait()
    except asyncio.CancelledError:
        probe.cancelled.set()
        raise
    return EchoAnswer(text="released", tenant=call.principal.tenant, path={})


async def fail(probe: Probe, _call: Call[None, None]) -> EchoAnswer:
    raise probe.error


async def pass_on(probe: Probe, call: Call[None, None]) -> EchoAnswer:
    assert probe.upstream is not None
    await probe.upstream.info()
    return EchoAnswer(text="asked", tenant=call.principal.tenant, path={})


class OptionalRequest(Request, frozen=True, kw_only=True):
    text: Text = "left out"


def _route(method: str, path: str, handler: Any, *, scope: Scope | None = None, **more: Any) -> Route:
    return Route(
        method=method, path=path, summary=path, handler=handler, scope=scope, answers={200: EchoAnswer}, **more
    )


ROUTES = (
    _route("POST", "/v1/echo", echo, body=EchoRequest),
    _route("PUT", "/v1/echo", echo_or_nothing, body=OptionalRequest, body_optional=True),
    _route("GET", "/v1/things/{thing}", look, query=PageQuery),
    _route("GET", "/v1/whoami", whoami, for_user=of_the_tenant),
    _route("GET", "/v1/hold", hold),
    _route("GET", "/v1/raise", fail),
    _route("GET", "/v1/pass-on", pass_on),
    _route("POST", "/v1/take-long", hold, body=OptionalRequest, takes_long=True),
    _route("GET", "/v1/read", hold, scope="memory:read"),
    _route("GET", "/v1/write", hold, scope="memory:write"),
)


@asynccontextmanager
async def running_probe(
    data_dir: Path, mount: Callable[[web.Application], object] = lambda _app: None, **settings: Any
) -> AsyncIterator[Probe]:
    """`mount` puts more into the application before it starts."""
    server = await asyncio.to_thread(make_server, ProbeSettings(data_dir=data_dir, **settings), "9.9")
    probe = Probe(server)

    async def waiting_for() -> list[str]:
        return probe.waiting_for

    server.readiness = waiting_for
    app = build_app(server, ROUTES)
    app[SERVICE] = probe
    mount(app)
    async with serving(app) as probe.url:
        yield probe


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came, and what its body means."""

    status: int
    headers: Any
    content_type: str
    body: bytes

    @property
    def value(self) -> dict[str, Any]:
        return decode(self.body, MSGPACK if "msgpack" in self.content_type else JSON, dict[str, Any])


async def ask(url: str, method: str, path: str, data: bytes | None = None, *, media: str = JSON, **headers: str) -> Raw:
    """One request that our own client would never send. `X_Y=...` is the header X-Y."""
    sent = {"Content-Type": media} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with raw_session(url) as session, session.request(method, path, data=data, headers=sent) as response:
        return Raw(response.status, response.headers, response.content_type, await response.read())


async def ask_bytes(url: str, request: bytes, *, until: bytes | None = None) -> bytes:
    """What comes back for these very bytes, until the server closes or has sent `until`."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(WAIT_S):
            writer.write(request)
            await writer.drain()
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()
