"""What nobody should send: a 4xx that names the field, in both encodings, and nothing changes."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from tests.harness import RunningMemory, RunningRetrieval, make_key, raw_session, running_memory, running_retrieval

INGEST = "/v1/collections/c/documents"
APPEND = "/v1/sessions/s/turns"
ENCODINGS = ("application/json", "application/msgpack")


def packed(value: Any, encoding: str) -> bytes:
    if encoding == ENCODINGS[0]:
        return json.dumps(value).encode()
    found: bytes = msgpack.packb(value)
    return found


async def send(
    url: str, path: str, body: bytes, encoding: str, *, method: str = "POST", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """The status and the problem, read by whatever encoding was asked for."""
    async with (
        raw_session(url) as session,
        session.request(
            method, path, data=BytesIO(body), headers={"Content-Type": encoding, **(headers or {})}
        ) as response,
    ):
        payload = await response.read()
        answer = msgpack.unpackb(payload) if "msgpack" in response.content_type else json.loads(payload)
        return response.status, answer


async def assert_untouched(retrieval: RunningRetrieval, memory: RunningMemory) -> None:
    assert (await retrieval.client.collections()).items == []
    assert (await retrieval.client.jobs()).items == []
    checked = (await memory.client.check()).checked
    assert (checked["sessions"], checked["turns"]) == (0, 0)


def document(**fields: Any) -> dict[str, Any]:
    return {"documents": [{"id": "fine", "text": "fine"}, fields]}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.documents"),
        ({"documents": []}, "$.documents"),
        ({"documents": "x"}, "$.documents"),
        ({"documents": [{"id": "a", "text": "x"}], "wiat": True}, "$.wiat"),
        ({"documents": [{"id": "a", "text": "x"}], "wait": "yes"}, "$.wait"),
        (document(), "$.documents[1].text"),
        (document(text="x", content_type="application/pdf"), "$.documents[1].content_type"),
        (document(text=7), "$.documents[1].text"),
        (document(text="a\x00b"), "$.documents[1].text"),
        (document(text="x" * 4_000_001), "$.documents[1].text"),
        (document(text="x" * 10_000_000), "$.documents[1].text"),
        (document(text="x", id=""), "$.documents[1].id"),
        (document(text="x", id="i" * 257), "$.documents[1].id"),
        (document(text="x", id="a\nb"), "$.documents[1].id"),
        (document(text="x", id="line\n"), "$.documents[1].id"),
        (document(text="x", id=5), "$.documents[1].id"),
        (document(text="x", title="t" * 1025), "$.documents[1].title"),
        (document(text="x", metadata=[1]), "$.documents[1].metadata"),
        (document(text="x", metadata={"k": "a\x00b"}), "$.documents[1].metadata.k"),
        (document(text="x", metadata={"k": [1, {"n": 2**63}]}), "$.documents[1].metadata.k[1].n"),
        (document(text="x", metadata={"k": "y" * 16_400}), "$.documents[1].metadata"),
        (document(text="x", unknown=1), "$.documents[1].unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_ingest_names_the_field_and_stores_nothing(
    retrieval: RunningRetrieval, memory: RunningMemory, body: dict[str, Any], path: str, encoding: str
) -> None:
    status, problem = await send(retrieval.url, INGEST, packed(body, encoding), encoding)

    assert (status, problem["code"]) == (422, "invalid_fields")
    assert path in [error["path"] for error in problem["errors"]]
    await assert_untouched(retrieval, memory)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"rerank": True}, "$.rerank"),
        ({"rerank": {"depth": 0}}, "$.rerank.depth"),
        ({"rerank": {"depth": 201}}, "$.rerank.depth"),
        ({"rerank": {"depth": "all"}}, "$.rerank.depth"),
        ({"rerank": {"model": ""}}, "$.rerank.model"),
        ({"rerank": {"model": 7}}, "$.rerank.model"),
        ({"rerank": {"model": "none"}}, "$.rerank.model"),
        ({"rerank": {}}, "$.rerank.model"),
        ({"rerank": {"deep": 9}}, "$.rerank.deep"),
        ({"suppress_duplicates": 1}, "$.suppress_duplicates"),
        ({"suppress_duplicates": None}, "$.suppress_duplicates"),
        ({"mmr": True}, "$.mmr"),
        ({"mmr": {"diversity": 1.01}}, "$.mmr.diversity"),
        ({"mmr": {"diversity": -0.01}}, "$.mmr.diversity"),
        ({"mmr": {"diversity": "much"}}, "$.mmr.diversity"),
        ({"mmr": {"lambda": 0.5}}, "$.mmr.lambda"),
        ({"group_by_document": "yes"}, "$.group_by_document"),
        ({"cursor": 5}, "$.cursor"),
        ({"cursor": "5"}, "$.cursor"),
        ({"cursor": "x" * 513}, "$.cursor"),
        ({"cursor": "0-0000000000000000"}, "$.cursor"),
        ({"cursor": "0-0000000000000000", "max_tokens": 5}, "$.cursor"),
        ({"max_tokens": 0}, "$.max_tokens"),
        ({"max_tokens": 1_000_001}, "$.max_tokens"),
        ({"max_tokens": 1.5}, "$.max_tokens"),
        ({"fusion": {"method": "adaptiv"}}, "$.fusion.method"),
        ({"fusion": {"alpha": 2}}, "$.fusion.alpha"),
        ({"explain": "yes"}, "$.explain"),
        ({"groupby": True}, "$.groupby"),
    ],
    ids=str,
)
async def test_a_bad_search_names_the_field(
    retrieval: RunningRetrieval, fields: dict[str, Any], path: str, encoding: str
) -> None:
    status, problem = await send(retrieval.url, "/v1/search", packed({"query": "x", **fields}, encoding), encoding)

    assert (status, problem["code"]) == (422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [path]


@pytest.mark.parametrize("language", ["", "english", "EN", 5])
async def test_a_language_that_is_not_known_is_refused(retrieval: RunningRetrieval, language: Any) -> None:
    body = packed({"language": language}, ENCODINGS[0])
    status, problem = await send(retrieval.url, "/v1/collections/c", body, ENCODINGS[0], method="PUT")

    assert (status, [error["path"] for error in problem["errors"]]) == (422, ["$.language"])


async def test_every_bad_document_of_a_batch_is_named(retrieval: RunningRetrieval) -> None:
    documents = [{"text": "a", "content_type": "image/png"}, {"text": "ok"}, {"id": "x"}]

    _, problem = await send(retrieval.url, INGEST, packed({"documents": documents}, ENCODINGS[0]), ENCODINGS[0])

    assert [error["path"] for error in problem["errors"]] == ["$.documents[0].content_type", "$.documents[2].text"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (ENCODINGS[0], b""),
        (ENCODINGS[0], b"{"),
        (ENCODINGS[0], b'{"documents": [{"text": "\xff"}]}'),
        (ENCODINGS[0], b'{"documents": [{"text": "\\ud800"}]}'),
        (ENCODINGS[0], b'{"documents": [{"text": "x", "metadata": {"n": NaN}}]}'),
        (ENCODINGS[0], b'{"documents": [{"text": "x", "metadata": {"n": ' + b"[" * 5000 + b"]" * 5000 + b"}}]}"),
        (ENCODINGS[1], b""),
        (ENCODINGS[1], b"\xc1"),
        (ENCODINGS[1], b"\x81\xa9documents"),
        (ENCODINGS[1], b"\xdf\xff\xff\xff\xff"),
        (ENCODINGS[1], b"\x91" * 5000),
        (ENCODINGS[1], msgpack.packb({"documents": []}) + b"\x00"),
        (ENCODINGS[1], msgpack.packb({1: 2})),
        (ENCODINGS[1], msgpack.packb({"documents": msgpack.ExtType(5, b"x")})),
        (ENCODINGS[1], b"\x81\xa9documents\x91\x81\xa4text\xa1\xff"),
    ],
)
async def test_bytes_that_are_no_message_are_malformed(
    retrieval: RunningRetrieval, memory: RunningMemory, encoding: str, body: bytes
) -> None:
    status, problem = await send(retrieval.url, INGEST, body, encoding)
    assert (status, problem["code"]) == (400, "malformed")
    if b"documents" not in body:  # in JSON, memory would stop at that unknown field
        status, problem = await send(memory.url, APPEND, body, encoding)
        assert (status, problem["code"]) == (400, "malformed")
    await assert_untouched(retrieval, memory)


async def test_a_body_over_the_limit_is_refused_and_one_under_it_is_taken(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, body_bytes_max=2000) as running:
        over = packed({"documents": [{"id": "a", "text": "x" * 2000}]}, ENCODINGS[0])
        status, problem = await send(running.url, INGEST, over, ENCODINGS[0])
        assert (status, problem["code"]) == (413, "too_large")
        assert (await running.client.collections()).items == []

        room = 2000 - len(packed({"documents": [{"id": "a", "text": ""}]}, ENCODINGS[0]))
        under = packed({"documents": [{"id": "a", "text": "x" * room}]}, ENCODINGS[0])
        assert len(under) == 2000
        status, _ = await send(running.url, INGEST, under, ENCODINGS[0])
        assert status == 202


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data"])
async def test_a_body_of_another_kind_is_unsupported(retrieval: RunningRetrieval, kind: str) -> None:
    status, problem = await send(retrieval.url, INGEST, b'{"documents": [{"text": "x"}]}', kind)

    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert (await retrieval.client.collections()).items == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/collections/" + "n" * 257, 422),
        ("/v1/collections/a%00b", 422),
        ("/v1/collections/a%0Ab", 422),
        ("/v1/collections?limit=0", 422),
        ("/v1/collections?limit=many", 422),
        ("/v1/collections?limt=3", 422),
        ("/v1/collections?limit=1&limit=2", 422),
        ("/v1/jobs?status=sleeping", 422),
        ("/v1/jobs?cursor=abc", 422),
        ("/v1/jobs?cursor=99999999999999999999999", 422),
        ("/v1/jobs/none?verbose=1", 422),
        ("/v1/collections/bad%FF", 400),
        ("/v1/collections/none", 404),
        ("/v1/collections/none/documents/x", 404),
        ("/v1/jobs/none", 404),
        ("/v1/nothing", 404),
    ],
)
async def test_a_bad_path_or_query_is_told_apart_from_what_does_not_exist(
    retrieval: RunningRetrieval, path: str, status: int
) -> None:
    async with raw_session(retrieval.url) as session, session.get(path) as response:
        problem = await response.json(content_type=None)

    assert response.status == status
    assert problem["status"] == status
    if status == 422:
        assert problem["errors"][0]["path"].split(".")[0] in {"path", "query"}


async def test_a_refused_batch_leaves_what_was_there_as_it_was(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("c", [{"id": "fine", "text": "original"}])

    await send(retrieval.url, INGEST, packed(document(text="x" * 4_000_001), ENCODINGS[1]), ENCODINGS[1])

    assert (await retrieval.client.document("c", "fine")).text == "original"
    assert (await retrieval.client.collection("c")).documents == 1


async def test_keys_are_needed_bound_to_their_tenant_and_tell_nothing_of_others(tmp_path: Path) -> None:
    """One tenant's names, jobs, documents and sessions are to another as if they were not there."""
    red, blue = await make_key(tmp_path, "red"), await make_key(tmp_path, "blue")
    async with (
        running_retrieval(tmp_path, key=red) as retrieval,
        running_memory(tmp_path, key=red, retrieval_url=retrieval.url) as memory,
    ):
        job = (await retrieval.client.ingest("c", [{"id": "d", "text": "red secret"}])).job
        await memory.client.append("s", [{"role": "user", "content": "red secret"}], user_id="u")

        requests = [
            (retrieval.url, "GET", "/v1/collections/{}", "c"),
            (retrieval.url, "GET", "/v1/collections/{}/documents", "c"),
            (retrieval.url, "GET", "/v1/collections/{}/documents/d", "c"),
            (retrieval.url, "DELETE", "/v1/collections/{}/documents/d", "c"),
            (retrieval.url, "DELETE", "/v1/collections/{}", "c"),
            (retrieval.url, "GET", "/v1/jobs/{}", job.id),
            (retrieval.url, "POST", "/v1/jobs/{}/cancel", job.id),
            (memory.url, "GET", "/v1/sessions/{}", "s"),
            (memory.url, "GET", "/v1/sessions/{}/turns", "s"),
            (memory.url, "DELETE", "/v1/sessions/{}", "s"),
        ]
        for url, method, path, name in requests:
            own = await _ask(url, method, path.format("missing"), blue)
            foreign = await _ask(url, method, path.format(name), blue)
            assert (own[0], foreign[0]) == (404, 404), path
            assert own[1].replace("missing", name) == foreign[1], path
            assert (await _ask(url, method, path.format(name), None))[0] == 401

        body = {"query": "red secret", "user_id": "u", "session_id": "s"}
        assert (await _ask(memory.url, "POST", "/v1/recall", blue, body))[0] == 404
        status, answer = await _ask(memory.url, "POST", "/v1/recall", blue, {"query": "red secret", "user_id": "u"})
        assert (status, json.loads(answer)["items"]) == (200, [])
        status, answer = await _ask(retrieval.url, "POST", "/v1/search", blue, {"query": "red secret"})
        assert (status, json.loads(answer)["hits"]) == (200, [])
        assert (await _ask(retrieval.url, "POST", "/v1/search", blue, {"query": "x", "collection": "c"}))[0] == 404
        # What is red is still there, and blue may use the same names.
        assert (await retrieval.client.document("c", "d")).text == "red secret"
        assert (await _ask(memory.url, "PUT", "/v1/sessions/s", blue, {"user_id": "u"}))[0] == 200
        assert (await memory.client.session("s")).turns == 1


async def _ask(url: str, method: str, path: str, key: str | None, body: Any = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        raw_session(url) as session,
        session.request(method, path, headers=headers, **({"json": body} if body is not None else {})) as response,
    ):
        answer = await response.json(content_type=None)
        return response.status, answer.get("detail") or json.dumps(answer)


async def test_any_client_that_speaks_messagepack_is_understood(retrieval: RunningRetrieval) -> None:
    """Nothing but the plain packages: what a client in another language would send and read."""
    async with aiohttp.ClientSession() as session:
        body = msgpack.packb(
            {"documents": [{"id": "a", "content": b"raw bytes", "metadata": {"n": 1.5}}], "wait": True}
        )
        headers = {"Content-Type": "application/x-msgpack"}
        async with session.post(retrieval.url + INGEST, data=body, headers=headers) as response:
            assert (response.status, response.content_type) == (200, "application/msgpack")
            assert msgpack.unpackb(await response.read())["results"][0] == {"id": "a", "status": "created", "chunks": 1}
        body = msgpack.packb({"texts": ["x", "y"], "kind": "query"})
        async with session.post(retrieval.url + "/v1/embed", data=body, headers=headers) as response:
            vectors = msgpack.unpackb(await response.read())["vectors"]
    assert (vectors["dtype"], vectors["shape"], len(vectors["data"])) == ("float32", [2, 64], 4 * 2 * 64)
