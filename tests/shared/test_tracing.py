"""A trace that a caller began goes on through a service and into the next one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDict
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from shared.client import ServiceClient
from shared.messages import Info
from shared.tracing import inject_trace, server_span
from shared.wire import MSGPACK, encode
from tests.harness import serving
from tests.shared.probe import Probe, ask, running_probe

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Upstream:
    """Another service: remembers the headers that it was asked with."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append({name.lower(): value for name, value in request.headers.items()})
        info = Info(service="upstream", version="1", protocol="v1", details={})
        return web.Response(body=encode(info, MSGPACK), content_type=MSGPACK)


@pytest.fixture
async def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
async def probe(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Probe]:
    app = web.Application()
    app.router.add_get("/v1/info", upstream.answer)
    async with serving(app) as url, running_probe(tmp_path) as running, ServiceClient(url) as client:
        running.upstream = client
        yield running


def traceparent(headers: dict[str, str]) -> tuple[str, str]:
    """The trace id and the span id."""
    version, trace, span, _flags = headers["traceparent"].split("-")
    assert version == "00"
    return trace, span


async def test_a_trace_is_continued_into_the_next_service(probe: Probe, upstream: Upstream) -> None:
    await ask(probe.url, "GET", "/v1/pass-on", traceparent=TRACEPARENT, tracestate="vendor=value")

    (headers,) = upstream.asked
    trace, span = traceparent(headers)
    assert trace == TRACE
    assert span != PARENT
    assert headers["tracestate"] == "vendor=value"


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"])
async def test_without_a_caller_s_trace_each_request_begins_its_own(
    probe: Probe, upstream: Upstream, given: str
) -> None:
    for _ in range(2):
        await ask(probe.url, "GET", "/v1/pass-on", traceparent=given)

    (first, _), (second, _) = (traceparent(asked) for asked in upstream.asked)
    assert len({first, second, TRACE, "0" * 32}) == 4


async def test_requests_side_by_side_keep_their_traces_apart(probe: Probe, upstream: Upstream) -> None:
    traces = [f"{number:032x}" for number in range(1, 6)]
    await asyncio.gather(
        *(ask(probe.url, "GET", "/v1/pass-on", traceparent=f"00-{trace}-{PARENT}-01") for trace in traces)
    )

    assert sorted(traceparent(asked)[0] for asked in upstream.asked) == traces


async def test_outside_of_a_request_no_trace_is_sent(upstream: Upstream, probe: Probe) -> None:
    assert probe.upstream is not None
    await probe.upstream.info()

    assert "traceparent" not in upstream.asked[0]


@pytest.mark.parametrize("tracer", [None, TracerProvider().get_tracer("probe")], ids=["none", "recording"])
def test_a_span_is_the_child_of_the_header_s_whatever_its_case(tracer: Tracer | None) -> None:
    headers: dict[str, str] = {}
    with server_span(tracer, "GET /", CIMultiDict({"TraceParent": TRACEPARENT})) as span:
        inject_trace(headers)
        assert span.is_recording() == (tracer is not None)

    assert traceparent(headers) == (TRACE, f"{span.get_span_context().span_id:016x}")


@pytest.mark.parametrize(("given", "flags"), [(TRACEPARENT, "01"), (f"00-{TRACE}-{PARENT}-00", "00"), ("", "01")])
def test_what_a_caller_does_not_sample_is_passed_on_so(given: str, flags: str) -> None:
    headers: dict[str, str] = {}
    with server_span(None, "GET /", {"traceparent": given}):
        inject_trace(headers)

    assert headers["traceparent"].endswith(f"-{flags}")
