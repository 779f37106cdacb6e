"""Every answer of the HTTP layer has its shape: the request id, the encoding, and problem details for what went wrong."""

import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack
import msgspec
import pytest

from shared.errors import SERVICE_ERRORS, FieldError, InvalidFields, NotFound, Overloaded, ServiceError, Unavailable
from shared.messages import Problem
from shared.wire import JSON, MSGPACK, decode
from tests.harness import RunningMemory, RunningRetrieval
from tests.shared.probe import Probe, Raw, ask, ask_bytes, running_probe

ENCODINGS = pytest.mark.parametrize("media", [JSON, MSGPACK])
HELLO = b'{"text":"hello"}'


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    async with running_probe(tmp_path) as running:
        yield running


def problem(raw: Raw, status: int, code: str) -> Problem:
    """The problem details of an answer, in whichever encoding; checks what all of them share."""
    found = decode(raw.body, MSGPACK if raw.content_type.endswith("+msgpack") else JSON, Problem)
    assert raw.content_type in {"application/problem+json", "application/problem+msgpack"}
    assert (raw.status, found.status, found.code) == (status, status, code)
    assert found.type == f"urn:diptych:problem:{code}"
    assert found.request_id == raw.headers["X-Request-Id"]
    return found


@ENCODINGS
async def test_a_request_is_answered_in_its_own_encoding(probe: Probe, media: str) -> None:
    body = HELLO if media == JSON else msgpack.packb({"text": "hello"})

    raw = await ask(probe.url, "POST", "/v1/echo", body, media=media)

    assert (raw.status, raw.content_type) == (200, media)
    assert raw.value == {"text": "hello", "tenant": "default", "path": {}}


async def test_accept_decides_over_the_request_s_encoding(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", HELLO, Accept="application/x-msgpack")

    assert raw.content_type == MSGPACK
    assert msgpack.unpackb(raw.body)["text"] == "hello"


async def test_a_handler_may_choose_its_status(probe: Probe) -> None:
    assert (await ask(probe.url, "PUT", "/v1/echo", HELLO)).status == 202


async def test_a_body_that_is_optional_may_be_left_out(probe: Probe) -> None:
    assert (await ask(probe.url, "PUT", "/v1/echo")).value["text"] == "left out"


@pytest.mark.parametrize("given", ["a", "my request 1!", "x" * 128, "~"])
async def test_a_harmless_request_id_is_echoed(probe: Probe, given: str) -> None:
    assert (await ask(probe.url, "GET", "/healthz", X_Request_Id=given)).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["x" * 129, "é", "a\tb", ""])
async def test_any_other_request_id_is_replaced(probe: Probe, given: str) -> None:
    first = await ask(probe.url, "GET", "/healthz", X_Request_Id=given)
    second = await ask(probe.url, "GET", "/healthz", X_Request_Id=given)

    assert len(first.headers["X-Request-Id"]) == 32
    assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/nowhere", 404),
        ("PATCH", "/v1/echo", 405),
        ("POST", "/v1/echo", 400),
        ("GET", "/v1/raise", 500),
    ],
)
async def test_every_answer_has_a_request_id(probe: Probe, method: str, path: str, status: int) -> None:
    raw = await ask(probe.url, method, path, X_Request_Id="mine")

    assert (raw.status, raw.headers["X-Request-Id"]) == (status, "mine")


@ENCODINGS
async def test_an_unknown_route_is_not_found(probe: Probe, media: str) -> None:
    raw = await ask(probe.url, "GET", "/v1/nowhere", media=media)

    found = problem(raw, 404, "not_found")
    assert raw.content_type == media.replace("/", "/problem+")
    assert found.detail == "there is no route GET /v1/nowhere; /openapi.json lists them"


@ENCODINGS
async def test_another_method_is_refused_with_the_ones_that_are_allowed(probe: Probe, media: str) -> None:
    raw = await ask(probe.url, "DELETE", "/v1/echo", media=media)

    found = problem(raw, 405, "method_not_allowed")
    assert found.detail == "DELETE is not allowed on /v1/echo; allowed: POST, PUT"
    assert raw.headers["Allow"] == "POST,PUT"


@ENCODINGS
@pytest.mark.parametrize("body", [None, b""])
async def test_an_empty_body_is_malformed(probe: Probe, media: str, body: bytes | None) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", body, media=media)

    assert problem(raw, 400, "malformed").detail == "the body is empty; send a JSON or MessagePack object"


async def test_another_content_type_is_unsupported(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", b"text=hello", media="application/x-www-form-urlencoded")

    assert "x-www-form-urlencoded" in problem(raw, 415, "unsupported_media_type").detail


@ENCODINGS
async def test_bytes_that_cannot_be_read_are_malformed(probe: Probe, media: str) -> None:
    problem(await ask(probe.url, "POST", "/v1/echo", b"\xc1", media=media), 400, "malformed")


@ENCODINGS
async def test_a_field_that_does_not_fit_is_named(probe: Probe, media: str) -> None:
    body = {"text": "x", "numbr": 1}
    data = msgspec.json.encode(body) if media == JSON else msgpack.packb(body)

    found = problem(await ask(probe.url, "POST", "/v1/echo", data, media=media), 422, "invalid_fields")

    assert found.errors == [FieldError("$.numbr", "unknown field")]
    assert found.detail == "$.numbr: unknown field"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v1/things/a?limit=5&limit=6", FieldError("query.limit", "given more than once")),
        ("/v1/things/a?limit=ten", FieldError("query.limit", "Expected `int`, got `str`")),
        ("/v1/things/a?limit=1001", FieldError("query.limit", "Expected `int` <= 1000")),
        ("/v1/things/a?limt=5", FieldError("query.limt", "unknown field")),
        ("/v1/things/" + "x" * 257, FieldError("path.thing", "Expected `str` of length <= 256")),
        ("/v1/things/a%00", FieldError("path.thing", "must not contain NUL or, in ids, control characters")),
        ("/v1/things/a%0A", FieldError("path.thing", "must not contain NUL or, in ids, control characters")),
    ],
)
async def test_a_path_or_query_that_does_not_fit_is_named(probe: Probe, path: str, error: FieldError) -> None:
    assert problem(await ask(probe.url, "GET", path), 422, "invalid_fields").errors == [error]


@pytest.mark.parametrize("path", ["/v1/things/%ff", "/v1/things/%ed%a0%80"])
async def test_a_path_that_is_not_utf_8_is_malformed(probe: Probe, path: str) -> None:
    raw = await ask_bytes(probe.url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert raw.startswith(b"HTTP/1.1 400 ")
    assert b"the path is not valid UTF-8" in raw


async def test_a_route_without_parameters_refuses_them(probe: Probe) -> None:
    found = problem(await ask(probe.url, "POST", "/v1/echo?limit=5", HELLO), 422, "invalid_fields")

    assert found.errors == [FieldError("query.limit", "unknown field")]


async def test_a_path_and_query_that_fit_reach_the_handler(probe: Probe) -> None:
    raw = await ask(probe.url, "GET", "/v1/things/a%2Fb%20c?limit=1000")

    assert raw.value == {"text": "", "tenant": "default", "path": {"thing": "a/b c"}, "limit": 1000}


async def test_a_compressed_body_is_read(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", zlib.compress(HELLO), Content_Encoding="deflate")

    assert raw.value["text"] == "hello"


async def test_a_body_that_is_not_compressed_as_it_says_is_malformed(probe: Probe) -> None:
    raw = await ask(probe.url, "POST", "/v1/echo", HELLO, Content_Encoding="gzip")

    assert problem(raw, 400, "malformed").detail == "the body is not what its Content-Encoding says"


@ENCODINGS
@pytest.mark.parametrize("kind", SERVICE_ERRORS)
async def test_every_error_has_its_status_and_code(probe: Probe, media: str, kind: type[ServiceError]) -> None:
    probe.error = kind("because")

    found = problem(await ask(probe.url, "GET", "/v1/raise", media=media), kind.status, kind.code)

    assert (found.title, found.detail, found.errors, found.retry_after_s) == (kind.title, "because", None, None)


async def test_all_wrong_fields_are_told(probe: Probe) -> None:
    errors = [FieldError("$.a", "one"), FieldError("$.b", "two")]
    probe.error = InvalidFields("two fields", errors=errors)

    assert problem(await ask(probe.url, "GET", "/v1/raise"), 422, "invalid_fields").errors == errors


@pytest.mark.parametrize(("retry_after_s", "header"), [(0.2, "1"), (1.0, "1"), (2.6, "3"), (30.0, "30")])
@pytest.mark.parametrize("kind", [Overloaded, Unavailable])
async def test_when_to_come_back_is_told_in_header_and_body(
    probe: Probe, kind: type[ServiceError], retry_after_s: float, header: str
) -> None:
    probe.error = kind("later", retry_after_s=retry_after_s)

    raw = await ask(probe.url, "GET", "/v1/raise")

    assert problem(raw, kind.status, kind.code).retry_after_s == retry_after_s
    assert raw.headers["Retry-After"] == header


async def test_a_defect_is_an_internal_error_that_tells_only_its_request_id(probe: Probe) -> None:
    probe.error = RuntimeError("the secret of the handler")

    raw = await ask(probe.url, "GET", "/v1/raise", X_Request_Id="mine")

    assert b"secret" not in raw.body
    assert problem(raw, 500, "internal").detail == "an internal error; the server's log has it under request id mine"
    assert (await ask(probe.url, "GET", "/healthz")).status == 200


async def test_a_head_request_is_answered_without_a_body(probe: Probe) -> None:
    raw = await ask(probe.url, "HEAD", "/healthz")

    assert (raw.status, raw.body) == (200, b"")


async def test_a_request_over_http_1_0_without_a_host_is_answered(probe: Probe) -> None:
    answer = await ask_bytes(probe.url, b"GET /v1/things/a HTTP/1.0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.0 200 OK\r\n")


@ENCODINGS
async def test_both_services_answer_problems_of_this_shape(
    retrieval: RunningRetrieval, memory: RunningMemory, media: str
) -> None:
    for url, path in ((retrieval.url, "/v1/collections/none"), (memory.url, "/v1/sessions/none")):
        raw = await ask(url, "GET", path, media=media)
        assert "none" in problem(raw, 404, "not_found").detail


async def test_the_client_raises_what_the_server_raised(retrieval: RunningRetrieval) -> None:
    with pytest.raises(NotFound) as caught:
        await retrieval.client.collection("none")

    assert caught.value.request_id
