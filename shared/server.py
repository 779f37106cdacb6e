"""HTTP: one way in and one way out for every route of both services.

    observe (id, trace, log, metrics, limits, errors) -> endpoint (key, scope, decode) -> handler -> encode

A handler only ever sees a decoded, authorised call and answers a message or raises. Whatever it raises becomes problem
details here and nowhere else.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import structlog
from aiohttp import web
from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry

from shared.errors import (
    Forbidden,
    Internal,
    Malformed,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServiceError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    invalid,
)
from shared.forms import FormReader
from shared.hosts import foreign_header
from shared.keys import Authenticator, KeyFile, Principal, bearer_token
from shared.messages import Health, NoQuery, Problem
from shared.metrics import CONTENT_TYPE, HttpMetrics
from shared.oauth.discovery import WELL_KNOWN
from shared.oauth.resource_server import ResourceServer, resource_server
from shared.openapi import describe_api
from shared.record_streams import incoming_records, send_records
from shared.routes import Call, PathId, Records, Reply, Route, Stream
from shared.settings import ServiceSettings, is_loopback
from shared.streaming import LAST_EVENT_ID_HEADER, send_events
from shared.tracing import server_span
from shared.users import kept_to_user
from shared.wire import convert, decode, encode, media_type, negotiate

REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID_LENGTH_MAX: Final = 128

log = structlog.get_logger()

Readiness = Callable[[], Awaitable[list[str]]]


async def _starting() -> list[str]:
    return ["the service is starting"]


@dataclass(slots=True, kw_only=True)
class Server:
    """What the HTTP layer of one service holds."""

    settings: ServiceSettings
    version: str
    authenticator: Authenticator
    metrics: HttpMetrics
    # What still stands between the service and being ready; empty when it is.
    readiness: Readiness = field(default=_starting)
    # Needed by services with routes whose bodies are forms.
    forms: FormReader | None = None
    # Where another issues access tokens for this service.
    oauth: ResourceServer | None = None
    # Records spans, for whoever exports them.
    tracer: Tracer | None = None
    draining: bool = False
    in_flight: int = 0
    streams_in_flight: int = 0
    # Set by a signal, or by a part without which the service is of no use; then `fatal` says why.
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    fatal: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Ends the process: it drains, closes, and leaves with this error."""
        self.fatal = error
        self.stop.set()


SERVER: Final = web.AppKey("server", Server)
SERVICE: Final = web.AppKey("service", object)
REQUEST_ID: Final = web.RequestKey("request_id", str)
_PRINCIPAL: Final = web.RequestKey("principal", Principal)


def make_server(settings: ServiceSettings, version: str) -> Server:
    """Raises SettingsError where the server would be open to others than this machine."""
    service_key = settings.service_key.get_secret_value() if settings.service_key else None
    oauth = resource_server(settings)
    server = Server(
        settings=settings,
        version=version,
        authenticator=Authenticator(
            KeyFile(settings.keys_file),
            service_key=service_key,
            loopback=is_loopback(settings.host),
            tokens=oauth.tokens.principal if oauth else None,
        ),
        oauth=oauth,
        metrics=HttpMetrics(CollectorRegistry()),
    )
    server.metrics.in_flight.set_function(lambda: server.in_flight)
    return server


def build_app(
    server: Server,
    routes: Sequence[Route],
    lifetimes: Sequence[Callable[[web.Application], AsyncIterator[None]]] = (),
) -> web.Application:
    """The service object is put under SERVICE by one of the `lifetimes`, which start in order and end in reverse."""
    app = web.Application(middlewares=[_observe], client_max_size=server.settings.body_bytes_max)
    app[SERVER] = server
    for route in routes:
        # aiohttp's own pattern of a part refuses braces, which an id may well have.
        app.router.add_route(route.method, route.path.replace("}", ":[^/]+}"), _endpoint(route))
    openapi = describe_api(title=f"Diptych {server.settings.service}", version=server.version, routes=routes)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/readyz", _readyz)
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/openapi.json", _serve_json(openapi))
    protect(app, "")
    app.cleanup_ctx.extend(lifetimes)
    app.on_shutdown.append(_end_streams)
    app.on_cleanup.append(_close_keys)
    return app


def protect(app: web.Application, path: str) -> None:
    """Tells clients where to get access tokens for what is at this path, if there is an issuer of them."""
    oauth = app[SERVER].oauth
    if oauth is not None:
        app.router.add_get(WELL_KNOWN + path, _serve_json(oauth.protect(path)))


async def _end_streams(app: web.Application) -> None:
    app[SERVER].stop.set()


async def _close_keys(app: web.Application) -> None:
    app[SERVER].authenticator.close()
    if oauth := app[SERVER].oauth:
        await oauth.tokens.close()


async def admit(request: web.Request) -> Principal:
    """Who is asking. Raises Overloaded, Unauthenticated, and Forbidden for a web page at an open server."""
    server = request.app[SERVER]
    # Checked here and not for every path, so that probes and scrapes get through a stampede.
    if server.in_flight > server.settings.requests_in_flight_max:
        raise Overloaded("too many requests at once; try again shortly", retry_after_s=1.0)
    principal = await server.authenticator.authenticate(request.headers.get("Authorization"))
    if principal.key_id is None:
        _refuse_web_pages(request)
    request[_PRINCIPAL] = principal
    return principal


def _endpoint(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        server = request.app[SERVER]
        principal = await admit(request)
        if route.scope:
            principal.require(route.scope)
        async with asyncio.timeout(server.settings.request_timeout_s) as deadline:
            call = Call(
                principal=principal,
                path=_path_values(request),
                query=convert(_query_values(request), route.query or NoQuery, root="query"),
                body=await _body(request, route),
                bearer=bearer_token(request.headers.get("Authorization")),
                last_event_id=request.headers.get(LAST_EVENT_ID_HEADER),
            )
            call = await kept_to_user(route, request.app[SERVICE], call)
            if route.takes_long:  # the work may take its time; a caller that sends its body slowly may not
                deadline.reschedule(None)
            reply = await route.handler(request.app[SERVICE], call)
        if isinstance(reply, Stream):
            return await _stream(request, reply)
        if isinstance(reply, Records):
            return await send_records(request, reply, headers={REQUEST_ID_HEADER: request[REQUEST_ID]})
        status, message = (reply.status, reply.message) if isinstance(reply, Reply) else (200, reply)
        return _respond(request, status, message)

    return handle


async def _stream(request: web.Request, stream: Stream) -> web.StreamResponse:
    """It may last for hours, so it has a limit of its own, and a drain does not wait for it but ends it."""
    server = request.app[SERVER]
    limit = server.settings.streams_in_flight_max
    if server.streams_in_flight >= limit:
        raise Overloaded(f"{limit} streams are open (streams_in_flight_max); try again later", retry_after_s=5.0)
    server.streams_in_flight += 1
    server.in_flight -= 1
    try:
        headers = {REQUEST_ID_HEADER: request[REQUEST_ID]}
        return await send_events(request, stream.events, stop=server.stop, headers=headers)
    finally:
        server.in_flight += 1
        server.streams_in_flight -= 1


def _refuse_web_pages(request: web.Request) -> None:
    """An open server answers programs on this machine, not pages that a browser on it happens to show: neither from
    another origin, nor under a foreign name that was made to point here (DNS rebinding). Raises Forbidden."""
    header = foreign_header(request.headers.get("Host"), request.headers.get("Origin"), hosts=(), origins=())
    if header is not None:
        value = request.headers.get(header)
        raise Forbidden(f"a server without API keys answers only its own machine, not {header} {value!r}")


def _path_values(request: web.Request) -> dict[str, str]:
    if not request.match_info:
        return {}
    try:
        if "%" in request.rel_url.raw_path:
            unquote_to_bytes(request.rel_url.raw_path).decode()
    except UnicodeDecodeError as error:
        raise Malformed("the path is not valid UTF-8") from error
    return {name: convert(value, PathId, root=f"path.{name}") for name, value in request.match_info.items()}


def _query_values(request: web.Request) -> dict[str, str]:
    values: dict[str, str] = {}
    if not request.rel_url.raw_query_string:
        return values
    for name, value in request.query.items():
        if name in values:
            raise invalid(f"query.{name}", "given more than once")
        values[name] = value
    return values


async def _body(request: web.Request, route: Route) -> Any:
    if route.takes_records:
        return incoming_records(request)
    if route.body is None:
        return None
    if route.is_form:
        forms = request.app[SERVER].forms
        if forms is None:
            raise AssertionError(f"{route.path} takes forms, and the service was built without a reader of them")
        return await forms.read(request, route.body)
    try:
        data = await request.read()
    except web.RequestPayloadError as error:
        raise Malformed("the body is not what its Content-Encoding says") from error
    if not data and route.body_optional:
        return route.body()
    if not data:
        raise Malformed("the body is empty; send a JSON or MessagePack object")
    return decode(data, media_type(request.headers.get("Content-Type")), route.body)


def _respond(request: web.Request, status: int, message: object, *, problem: bool = False) -> web.Response:
    media = negotiate(request.headers.get("Accept"), request.headers.get("Content-Type"))
    body = encode(message, media)
    return web.Response(status=status, body=body, content_type=media.replace("/", "/problem+") if problem else media)


@web.middleware
async def _observe(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    server = request.app[SERVER]
    route = request.match_info.route.resource
    name = route.canonical if route else "unmatched"
    request[REQUEST_ID] = request_id = _request_id(request)
    started = time.perf_counter()
    # Until the next request of this connection, which has its own.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    with server_span(server.tracer, f"{request.method} {name}", request.headers):
        response = await _answer(request, handler, server)
        response.headers[REQUEST_ID_HEADER] = request_id
        elapsed = time.perf_counter() - started
        server.metrics.count(request.method, name, response.status, elapsed)
        _log_request(request, response, name, elapsed)
    return response


async def _answer(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], server: Server
) -> web.StreamResponse:
    """The handler's answer, or the problem it met. Cancellation passes: the caller is gone."""
    settings = server.settings
    server.in_flight += 1
    try:
        return await handler(request)
    except ServiceError as error:
        return _problem(request, error)
    except web.HTTPException as error:
        response = _problem(request, _translate(request, error))
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except TimeoutError:
        return _problem(request, Unavailable(f"not done within {settings.request_timeout_s:g} s", retry_after_s=1.0))
    except Exception:
        log.exception("request_failed")
        detail = f"an internal error; the server's log has it under request id {request[REQUEST_ID]}"
        return _problem(request, Internal(detail))
    finally:
        server.in_flight -= 1


def _translate(request: web.Request, error: web.HTTPException) -> ServiceError:
    """aiohttp's own refusals in our words."""
    match error:
        case web.HTTPRequestEntityTooLarge():
            limit = request.app[SERVER].settings.body_bytes_max
            return TooLarge(f"the body is larger than {limit} bytes (body_bytes_max); send smaller batches")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return MethodNotAllowed(f"{request.method} is not allowed on {request.path}; allowed: {allowed}")
        case web.HTTPNotFound():
            return NotFound(f"there is no route {request.method} {request.path}; /openapi.json lists them")
        case _:
            return Malformed(error.reason)


def _problem(request: web.Request, error: ServiceError) -> web.Response:
    problem = Problem(
        type=f"urn:diptych:problem:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        request_id=request[REQUEST_ID],
        errors=list(error.errors) or None,
        retry_after_s=error.retry_after_s,
    )
    response = _respond(request, error.status, problem, problem=True)
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    if isinstance(error, Unauthenticated | Forbidden):
        _challenge(request, response, error)
    return response


def _challenge(request: web.Request, response: web.Response, error: Unauthenticated | Forbidden) -> None:
    """A 403 has one only where a token with another scope would do."""
    oauth = request.app[SERVER].oauth
    if oauth is not None and (isinstance(error, Unauthenticated) or error.scope is not None):
        had_token = "Authorization" in request.headers
        response.headers["WWW-Authenticate"] = oauth.discovery.challenge(request.path, error, had_token=had_token)
    elif isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = "Bearer"


def _request_id(request: web.Request) -> str:
    """The caller's own id when it is harmless in a log, else a new one."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    if 0 < len(given) <= _REQUEST_ID_LENGTH_MAX and given.isascii() and given.isprintable():
        return given
    # An id, not a secret: uuid4 asks the system, and lets another thread have the interpreter meanwhile.
    return f"{random.getrandbits(128):032x}"


def _log_request(request: web.Request, response: web.StreamResponse, route: str, elapsed_s: float) -> None:
    principal = request.get(_PRINCIPAL)
    # Probes and scrapes come every few seconds and say nothing.
    method = log.debug if route in {"/healthz", "/readyz", "/metrics"} else log.info
    method(
        "request",
        method=request.method,
        route=route,
        status=response.status,
        ms=round(elapsed_s * 1000, 2),
        tenant=principal.tenant if principal else None,
        key_id=principal.key_id if principal else None,
    )


async def _healthz(request: web.Request) -> web.Response:
    return _respond(request, 200, Health(status="alive"))


async def _readyz(request: web.Request) -> web.Response:
    server = request.app[SERVER]
    waiting_for = ["the server is shutting down"] if server.draining else await server.readiness()
    if waiting_for:
        raise Unavailable("not ready: " + "; ".join(waiting_for), retry_after_s=1.0)
    return _respond(request, 200, Health(status="ready"))


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(body=request.app[SERVER].metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def _serve_json(document: dict[str, Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = encode(document, "application/json")

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return serve
