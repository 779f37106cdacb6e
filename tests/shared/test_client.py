"""The client retries what is safe to retry, within one deadline, and raises what the server raised."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych import MemoryClient, RetrievalClient
from diptych.ports import free_ports
from shared.client import ServiceClient, build
from shared.errors import (
    SERVICE_ERRORS,
    Conflict,
    FieldError,
    Internal,
    InvalidFields,
    Malformed,
    NotFound,
    Overloaded,
    ServiceError,
    SettingsError,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from shared.retrieval_messages import SearchRequest
from shared.wire import JSON, MSGPACK, encode
from tests.harness import WAIT_S, RunningMemory, RunningRetrieval, until
from tests.shared.scripted import GOOD, INFO, Answer, Broken, Scripted, Silence, problem, scripted

BUSY = problem(Overloaded("busy"))
AWAY = problem(Unavailable("away"))


@asynccontextmanager
async def client_of(server: Scripted, **options: Any) -> AsyncIterator[ServiceClient]:
    async with ServiceClient(server.url, **{"timeout_s": WAIT_S, **options}) as client:
        yield client


@pytest.mark.parametrize("refusal", [BUSY, AWAY])
async def test_a_refusal_for_load_is_tried_again_until_it_is_answered(refusal: Answer) -> None:
    async with scripted(refusal, refusal, GOOD) as server, client_of(server) as client:
        assert await client.info() == INFO

        assert len(server.asked) == 3
        assert len({(asked.method, asked.path, asked.body) for asked in server.asked}) == 1


@pytest.mark.parametrize(
    "kind", [kind for kind in SERVICE_ERRORS if kind not in {Overloaded, Unavailable}], ids=lambda kind: kind.code
)
async def test_any_other_error_is_raised_at_once(kind: type[ServiceError]) -> None:
    async with scripted(problem(kind("because")), GOOD) as server, client_of(server) as client:
        with pytest.raises(kind) as caught:
            await client.info()

        assert (type(caught.value), caught.value.detail, caught.value.request_id) == (kind, "because", "r1")
        assert len(server.asked) == 1


@pytest.mark.parametrize("media", [JSON, MSGPACK])
@pytest.mark.parametrize("kind", SERVICE_ERRORS, ids=lambda kind: kind.code)
async def test_errors_come_back_whole(kind: type[ServiceError], media: str) -> None:
    errors = (FieldError("$.a", "one"), FieldError("$.b", "two"))
    sent = kind("because", errors=errors, retry_after_s=0.5)

    async with scripted(problem(sent, media=media)) as server, client_of(server, retries=False) as client:
        with pytest.raises(kind) as caught:
            await client.info()

    found = caught.value
    assert (type(found), found.errors, found.retry_after_s, found.request_id) == (kind, errors, 0.5, "r1")
    assert str(found) == "because\n  $.a: one\n  $.b: two"


async def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    refusal = problem(Unavailable("away for an hour", retry_after_s=3600.0))
    async with scripted(refusal) as server, client_of(server) as client:
        with pytest.raises(Unavailable, match="away for an hour") as caught:
            await client.info()

        assert caught.value.retry_after_s == 3600.0
        assert len(server.asked) == 1


async def test_retries_end_with_the_deadline_and_tell_the_last_refusal() -> None:
    async with scripted(BUSY) as server, client_of(server, timeout_s=0.5) as client:
        with pytest.raises(Overloaded, match="busy"):
            await client.info()

        assert len(server.asked) >= 2


async def test_without_retries_there_is_one_try() -> None:
    async with scripted(BUSY, GOOD) as server, client_of(server, retries=False) as client:
        with pytest.raises(Overloaded):
            await client.info()

        assert len(server.asked) == 1


@pytest.mark.parametrize("retries", [True, False])
async def test_a_server_that_never_answers_is_unavailable_at_the_deadline(retries: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async with scripted(Silence) as server, client_of(server, timeout_s=0.1, retries=retries) as client:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            await client.info()
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            await client.ready()


async def test_a_call_may_have_a_deadline_of_its_own() -> None:
    async with scripted(Silence) as server, RetrievalClient(server.url, timeout_s=WAIT_S) as client:
        with pytest.raises(Unavailable, match=r"within 0\.05 s"):
            await client.embed(["a"], kind="query", timeout_s=0.05)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with ServiceClient(url, retries=False) as client:
        with pytest.raises(Unavailable, match=f"{url} cannot be reached"):
            await client.info()
        with pytest.raises(Unavailable, match=f"{url} cannot be reached"):
            await client.ready()


async def test_people_are_told_at_once_that_nothing_listens() -> None:
    (port,) = free_ports(1)
    async with ServiceClient(f"http://127.0.0.1:{port}", timeout_s=3600.0, reconnects=False) as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await asyncio.wait_for(client.info(), WAIT_S)


async def test_people_still_wait_for_a_server_that_is_busy() -> None:
    async with scripted(BUSY, AWAY, Broken, GOOD) as server, client_of(server, reconnects=False) as client:
        assert await client.info() == INFO
        assert len(server.asked) == 4


async def test_a_server_that_comes_back_in_time_is_reached() -> None:
    async with scripted(Broken, Broken, GOOD) as server, client_of(server) as client:
        assert await client.info() == INFO
        assert len(server.asked) == 3


async def test_readiness_is_asked_for_once() -> None:
    async with scripted(problem(Unavailable("not ready: the model is loading"))) as server, client_of(server) as client:
        with pytest.raises(Unavailable, match="the model is loading"):
            await client.ready()

        assert [asked.path for asked in server.asked] == ["/readyz"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Malformed),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (415, UnsupportedMedia),
        (418, Malformed),
        (429, Overloaded),
        (500, Internal),
        (502, Internal),
        (503, Unavailable),
        (504, Internal),
    ],
)
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<h1>nginx</h1>", "text/html"),
        (b"<h1>nginx</h1>", "application/json"),
        (b'{"message":"<h1>nginx</h1>"}', "application/json"),
        (b"\xff<h1>nginx</h1>", "application/octet-stream"),
    ],
)
async def test_an_error_of_something_in_between_is_raised_by_its_status(
    status: int, kind: type[ServiceError], body: bytes, content_type: str
) -> None:
    async with scripted(Answer(status, body, content_type)) as server, client_of(server, retries=False) as client:
        with pytest.raises(kind) as caught:
            await client.info()

    assert type(caught.value) is kind
    assert caught.value.detail.startswith(f"status {status}: ")
    assert "<h1>nginx</h1>" in caught.value.detail


async def test_a_long_error_page_is_cut() -> None:
    async with scripted(Answer(500, b"x" * 5000, "text/html")) as server, client_of(server) as client:
        with pytest.raises(Internal) as caught:
            await client.info()

    assert caught.value.detail == "status 500: " + "x" * 200


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None)])
async def test_a_proxy_s_wait_is_kept_where_it_is_in_seconds(header: str, seconds: float | None) -> None:
    refusal = Answer(503, b"upstream is away", "text/plain", {"Retry-After": header})
    async with scripted(refusal) as server, client_of(server, retries=False) as client:
        with pytest.raises(Unavailable) as caught:
            await client.info()

    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(200, b"<h1>It works!</h1>", "text/html"), "Content-Type 'text/html' is not supported"),
        (Answer(200, b"{", JSON), "not valid JSON"),
        (Answer(200, b'{"status":"UP"}', JSON), "service: required field is missing"),
        (Answer(204, b"", JSON), "not valid JSON"),
    ],
)
async def test_an_answer_of_some_other_server_is_not_the_caller_s_mistake(answer: Answer, words: str) -> None:
    async with scripted(answer) as server, client_of(server) as client:
        with pytest.raises(Internal, match="did not answer with a Info") as caught:
            await client.info()

    assert words in caught.value.detail
    assert server.url in caught.value.detail


async def test_a_code_that_a_later_version_may_add_is_internal() -> None:
    body = {"type": "t", "title": "t", "status": 460, "detail": "new", "code": "new_code", "request_id": "r"}
    answer = Answer(460, msgpack.packb(body), "application/problem+msgpack")
    async with scripted(answer) as server, client_of(server) as client:
        with pytest.raises(Internal, match="new"):
            await client.info()


@pytest.mark.parametrize("media", [JSON, MSGPACK])
async def test_fields_that_a_later_version_may_add_are_ignored(media: str) -> None:
    body = encode({**msgspec.to_builtins(INFO), "since_next_year": {"a": [1]}}, media)
    async with scripted(Answer(200, body, media)) as server, client_of(server) as client:
        assert await client.info() == INFO


@pytest.mark.parametrize("media", [JSON, MSGPACK])
async def test_the_client_speaks_the_encoding_that_was_chosen(media: str) -> None:
    async with scripted(GOOD) as server, RetrievalClient(server.url, encoding=media, api_key="dpt_a_b") as client:
        with pytest.raises(Internal):
            await client.search("hello")

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/search")
    assert (asked.headers["content-type"], asked.headers["accept"]) == (media, media)
    assert asked.headers["authorization"] == "Bearer dpt_a_b"
    assert asked.body == encode(SearchRequest(query="hello"), media)


async def test_a_key_given_for_one_call_replaces_the_client_s_own() -> None:
    async with scripted(GOOD) as server, RetrievalClient(server.url, api_key="own") as client:
        for bearer in ("other", None):
            with pytest.raises(Internal):
                await client.search("hello", bearer=bearer)

    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer other", "Bearer own"]


async def test_a_client_without_a_key_sends_none() -> None:
    async with scripted(GOOD) as server, client_of(server) as client:
        await client.info()

    assert "authorization" not in server.asked[0].headers


async def test_documents_and_turns_without_an_id_get_one_that_a_retry_repeats() -> None:
    async with scripted(BUSY, GOOD) as server, RetrievalClient(server.url) as client:
        with pytest.raises(Internal):
            await client.ingest("notes", [{"text": "a"}, {"text": "b"}, {"id": "mine", "text": "c"}])
    async with scripted(BUSY, GOOD) as other, MemoryClient(other.url) as memory:
        with pytest.raises(Internal):
            await memory.append("s", [{"role": "user", "content": "a"}])

    first, second = server.asked
    ids = [document["id"] for document in msgpack.unpackb(first.body)["documents"]]
    assert (len(set(ids)), ids[2], first.body) == (3, "mine", second.body)
    assert len(msgpack.unpackb(other.asked[0].body)["turns"][0]["id"]) == 32
    assert other.asked[0].body == other.asked[1].body


async def test_a_query_is_sent_as_json_would_write_it() -> None:
    async with scripted(GOOD) as server, MemoryClient(server.url) as client:
        with pytest.raises(Internal):
            await client.sessions(user_id="a&b=c/d é", limit=5)

    assert server.asked[0].path == "/v1/sessions?limit=5&user_id=a%26b%3Dc/d+%C3%A9"


async def test_a_url_may_have_a_path_of_its_own() -> None:
    async with scripted(GOOD) as server, ServiceClient(f"{server.url}/behind/a/proxy/") as client:
        assert await client.info() == INFO

    assert server.asked[0].path == "/behind/a/proxy/v1/info"


@pytest.mark.parametrize(
    "url", ["", "localhost:7801", "127.0.0.1:7801", "/v1", "http://", "ftp://localhost", "http://[::1", "http://a:b"]
)
def test_what_is_no_address_of_a_service_is_refused_before_anything_is_asked(url: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        ServiceClient(url)


def test_a_request_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidFields) as caught:
        build(SearchRequest, query="x", limit=0)

    assert caught.value.errors == (FieldError("$.limit", "Expected `int` >= 1"),)
    assert build(SearchRequest, query="x", collection=None) == SearchRequest(query="x")


async def test_a_document_or_turn_that_does_not_fit_is_refused_before_it_is_sent() -> None:
    async with scripted(GOOD) as server, RetrievalClient(server.url) as retrieval, MemoryClient(server.url) as memory:
        with pytest.raises(InvalidFields) as document:
            await retrieval.ingest("notes", [{"txt": "a"}])
        with pytest.raises(InvalidFields) as turn:
            await memory.append("s", [{"role": "boss", "content": "a"}])

    assert document.value.errors == (FieldError("$.txt", "unknown field"),)
    assert turn.value.errors == (FieldError("$.role", "Invalid enum value 'boss'"),)
    assert server.asked == []


async def test_closing_twice_is_closing_once() -> None:
    client = ServiceClient("http://127.0.0.1:9")
    await client.close()
    await client.close()


async def was_asked(server: Scripted) -> bool:
    return bool(server.asked)


async def test_a_caller_that_is_cancelled_is_not_retried() -> None:
    async with scripted(Silence, GOOD) as server, client_of(server) as client:
        call = asyncio.create_task(client.info())
        await until(lambda: was_asked(server))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        assert len(server.asked) == 1


IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256)
# What means something in a URL, or to the router.
AWKWARD = (".", "..", "a/b", "/", "%2F", "%", "a b", " ", "?", "#", "{x}", "{", "é", "😀", "+", "~", ":", "x" * 256)


async def test_an_awkward_id_finds_its_document_and_session(retrieval: RunningRetrieval, memory: RunningMemory) -> None:
    for name in AWKWARD:
        await retrieval.client.ingest(name, [{"id": name, "text": "hello"}])
        await memory.client.append(name, [{"role": "user", "content": "hello"}], user_id=name)

    for name in AWKWARD:
        document = await retrieval.client.document(name, name)
        assert (document.collection, document.id) == (name, name)
        assert [found.id for found in (await memory.client.sessions(user_id=name)).items] == [name]
        assert (await memory.client.session(name)).turns == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=IDS)
async def test_every_id_is_one_segment_of_a_path(memory: RunningMemory, name: str) -> None:
    await memory.client.put_session(name)

    assert (await memory.client.session(name)).id == name
