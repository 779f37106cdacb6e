"""The HTTP layer under load, slow work, clients that leave, and a stop."""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import TooLarge
from shared.server import SERVER, build_app, make_server
from shared.wire import JSON
from tests.harness import WAIT_S, RunningRetrieval, make_key, raw_session, running_retrieval, serving, until
from tests.shared.probe import Probe, ProbeSettings, ask, ask_bytes, running_probe

BODY_BYTES_MAX = 1024


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    async with running_probe(
        tmp_path, body_bytes_max=BODY_BYTES_MAX, requests_in_flight_max=2, request_timeout_s=WAIT_S
    ) as running:
        yield running


def body_of(size: int) -> bytes:
    return b'{"text":"' + b"x" * (size - 11) + b'"}'


async def test_a_body_of_exactly_the_limit_is_accepted(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", body_of(BODY_BYTES_MAX))

    assert (raw.status, len(raw.value["text"])) == (200, BODY_BYTES_MAX - 11)


async def test_a_body_one_byte_above_the_limit_is_too_large(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", body_of(BODY_BYTES_MAX + 1))

    assert (raw.status, raw.value["code"]) == (413, "too_large")
    assert raw.value["detail"] == "the body is larger than 1024 bytes (body_bytes_max); send smaller batches"


async def test_a_body_that_is_sent_without_its_length_is_bounded_too(probe: Probe) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX):
            yield b"  "

    async with (
        raw_session(probe.url) as session,
        session.post("/v1/echo", data=pieces(), headers={"Content-Type": JSON}) as response,
    ):
        assert response.status == 413


@pytest.mark.parametrize("size", [2 * 1024, 256 * 1024, 8 * 1024 * 1024])
async def test_a_client_that_sends_far_too_much_learns_why(tmp_path: Path, size: int) -> None:
    """The server answers before it has read everything; the answer must still arrive, and the next request too."""
    async with running_retrieval(tmp_path, body_bytes_max=BODY_BYTES_MAX) as running:
        with pytest.raises(TooLarge, match="larger than 1024 bytes"):
            await running.client.ingest("notes", [{"id": "a", "text": "x" * size}])

        assert (await running.client.ingest("notes", [{"id": "a", "text": "x"}])).job.status == "succeeded"


async def test_a_small_body_that_unpacks_to_a_large_one_is_too_large(probe: Probe) -> None:
    bomb = zlib.compress(body_of(1_000_000))
    assert len(bomb) < 2 * BODY_BYTES_MAX

    raw = await ask(probe.url, "POST", "/v1/echo", bomb, Content_Encoding="deflate")

    assert raw.status == 413


async def test_the_request_above_the_limit_is_refused_while_probes_get_through(probe: Probe) -> None:
    async with raw_session(probe.url) as session:
        held = [asyncio.create_task(session.get("/v1/hold")) for _ in range(2)]
        await until(lambda: in_flight(probe, 2))

        refused = await ask(probe.url, "GET", "/v1/hold")
        probes = [await ask(probe.url, "GET", path) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json")]
        probe.released.set()
        answers = [await task for task in held]

    assert (refused.status, refused.value["code"], refused.headers["Retry-After"]) == (429, "overloaded", "1")
    assert refused.value["retry_after_s"] == 1.0
    assert [raw.status for raw in probes] == [200, 200, 200, 200]
    assert [answer.status for answer in answers] == [200, 200]
    assert (await ask(probe.url, "GET", "/v1/things/a")).status == 200


async def in_flight(probe: Probe, count: int) -> bool:
    return probe.server.in_flight == count


async def test_a_request_that_takes_too_long_is_unavailable_and_its_work_ends(tmp_path: Path) -> None:
    async with running_probe(tmp_path, request_timeout_s=0.05) as probe:
        raw = await ask(probe.url, "GET", "/v1/hold")

        assert (raw.status, raw.value["code"], raw.headers["Retry-After"]) == (503, "unavailable", "1")
        assert raw.value["detail"] == "not done within 0.05 s"
        assert probe.cancelled.is_set()
        assert probe.server.in_flight == 0


async def test_a_request_that_may_take_long_is_not_cut_off(tmp_path: Path) -> None:
    async with running_probe(tmp_path, request_timeout_s=0.05) as probe:
        request = asyncio.create_task(ask(probe.url, "POST", "/v1/take-long", b"{}"))
        await asyncio.wait_for(probe.entered.wait(), WAIT_S)
        # Another request has run out of its time meanwhile; this one goes on.
        assert (await ask(probe.url, "GET", "/v1/hold")).status == 503
        assert not request.done()
        probe.released.set()

        assert (await request).value["text"] == "released"


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/take-long"])
async def test_a_body_that_never_comes_holds_no_place_for_ever(tmp_path: Path, path: str) -> None:
    async with running_probe(tmp_path, request_timeout_s=0.05) as probe:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 20\r\n\r\n"
        answer = await ask_bytes(probe.url, head.encode() + b'{"text":', until=b"}")

        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"not done within 0.05 s" in answer
        assert probe.server.in_flight == 0
        assert not probe.entered.is_set()


async def test_a_client_that_leaves_cancels_its_request(probe: Probe) -> None:
    async with raw_session(probe.url) as session:
        request = asyncio.create_task(session.get("/v1/hold"))
        await asyncio.wait_for(probe.entered.wait(), WAIT_S)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    await asyncio.wait_for(probe.cancelled.wait(), WAIT_S)
    await until(lambda: in_flight(probe, 0))
    assert (await ask(probe.url, "GET", "/healthz")).status == 200


async def test_a_service_that_waits_for_something_is_alive_and_not_ready(probe: Probe) -> None:
    probe.waiting_for = ["the model is loading", "the indexes are catching up"]

    ready, alive = await ask(probe.url, "GET", "/readyz"), await ask(probe.url, "GET", "/healthz")

    assert (ready.status, ready.value["code"], ready.headers["Retry-After"]) == (503, "unavailable", "1")
    assert ready.value["detail"] == "not ready: the model is loading; the indexes are catching up"
    assert (alive.status, alive.value) == (200, {"status": "alive"})
    probe.waiting_for = []
    assert (await ask(probe.url, "GET", "/readyz")).value == {"status": "ready"}


async def test_a_service_that_nobody_has_made_ready_is_starting(tmp_path: Path) -> None:
    server = await asyncio.to_thread(make_server, ProbeSettings(data_dir=tmp_path), "9.9")

    async with serving(build_app(server, ())) as url:
        raw = await ask(url, "GET", "/readyz")

    assert (raw.status, raw.value["detail"]) == (503, "not ready: the service is starting")


async def test_a_draining_service_is_alive_and_not_ready(probe: Probe) -> None:
    probe.server.draining = True

    raw = await ask(probe.url, "GET", "/readyz")

    assert (raw.status, raw.value["detail"]) == (503, "not ready: the server is shutting down")
    assert (await ask(probe.url, "GET", "/healthz")).status == 200
    assert (await ask(probe.url, "GET", "/v1/things/a")).status == 200


async def test_a_part_without_which_the_service_is_of_no_use_ends_it(probe: Probe) -> None:
    error = RuntimeError("the model is gone")

    probe.server.fail(error)

    assert probe.server.stop.is_set()
    assert probe.server.fatal is error


async def metrics_of(url: str) -> str:
    async with raw_session(url) as session, session.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=1.0.0; charset=utf-8"
        return await response.text()


async def test_requests_are_counted_by_route_and_status(probe: Probe) -> None:
    for path in ("/v1/things/a", "/v1/things/b", "/v1/things/c?limit=0", "/nowhere/1", "/nowhere/2"):
        await ask(probe.url, "GET", path)

    lines = (await metrics_of(probe.url)).splitlines()

    count = 'diptych_http_requests_total{method="GET",route='
    assert count + '"/v1/things/{thing}",status="200"} 2.0' in lines
    assert count + '"/v1/things/{thing}",status="422"} 1.0' in lines
    assert count + '"unmatched",status="404"} 2.0' in lines
    assert 'diptych_http_request_seconds_count{method="GET",route="/v1/things/{thing}"} 3.0' in lines
    assert "diptych_http_requests_in_flight 1.0" in lines  # this very scrape


async def test_metrics_name_no_tenant_user_document_or_key(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path):
        pass
    token = await make_key(tmp_path, "secret-tenant")
    async with running_retrieval(tmp_path, key=token) as running:
        await running.client.ingest("secret-collection", [{"id": "secret-document", "text": "secret-word"}])
        await running.client.search("secret-word")
        text = await metrics_of(running.url)

    assert 'route="/v1/collections/{collection}/documents"' in text
    assert "secret" not in text
    assert token.split("_")[1] not in text
    assert set(re.findall(r"[{,]([a-z_]+)=", text)) <= {"method", "route", "status", "le", "stage", "kind"}


async def test_two_servers_in_one_process_count_apart(retrieval: RunningRetrieval, probe: Probe) -> None:
    await ask(probe.url, "GET", "/v1/things/a")

    assert "/v1/things" not in await metrics_of(retrieval.url)


def test_the_server_is_found_in_its_app(tmp_path: Path) -> None:
    server = make_server(ProbeSettings(data_dir=tmp_path), "9.9")
    try:
        assert build_app(server, ())[SERVER] is server
    finally:
        server.authenticator.close()
