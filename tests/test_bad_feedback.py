"""Feedback that nobody should send: a 4xx that names the field, in both encodings, and nothing is kept."""

from typing import Any

import pytest

from tests.harness import RunningMemory, RunningRetrieval
from tests.test_bad_input import ENCODINGS, packed, send

PATH = "/v1/feedback"
RIGHT: list[dict[str, Any]] = [{"document_id": "a", "relevance": "right"}]
TURN: list[dict[str, Any]] = [{"id": "t", "session_id": "s", "relevance": 1}]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"collection": ""}, "$.collection"),
        ({"query": ""}, "$.query"),
        ({"query": "x" * 8193}, "$.query"),
        ({"query": "a\0b"}, "$.query"),
        ({"judgments": []}, "$.judgments"),
        ({"judgments": RIGHT * 1001}, "$.judgments"),
        ({"judgments": [{"document_id": "a"}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": -1}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": 4}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": 0.5}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": True}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": "good"}]}, "$.judgments[0].relevance"),
        ({"judgments": [{"document_id": "a", "relevance": 1, "chunk_id": 0}]}, "$.judgments[0].chunk_id"),
        ({"judgments": [{"document_id": "a", "relevance": 1, "chunk_id": 2**63}]}, "$.judgments[0].chunk_id"),
        ({"judgments": [{"document_id": "a", "relevance": 1, "chunk": 1}]}, "$.judgments[0].chunk"),
        ({"judgments": [*RIGHT, *RIGHT]}, "$.judgments[1]"),
        ({"judgments": [{"document_id": "b", "relevance": 1}]}, "$.judgments[0].document_id"),
        ({"filter": {"x": {"$near": 1}}}, "$.filter.x.$near"),
        ({"filter": {"x": 10**30}}, "$.filter.x"),
        ({"comment": "x" * 2001}, "$.comment"),
        ({"judged_at": "2026-01-01T00:00:00"}, "$.judged_at"),
        ({"user_id": "u"}, "$.user_id"),
    ],
    ids=str,
)
async def test_a_bad_judgment_of_a_search_names_the_field(
    retrieval: RunningRetrieval, fields: dict[str, Any], path: str, encoding: str
) -> None:
    if encoding == ENCODINGS[1] and fields.get("filter") == {"x": 10**30}:
        fields = {"filter": {"x": 2**64 - 1}}  # MessagePack has no larger one
    await retrieval.client.ingest("c", [{"id": "a", "text": "x"}])
    body = {"collection": "c", "query": "q", "judgments": RIGHT, **fields}
    status, problem = await send(retrieval.url, PATH, packed(body, encoding), encoding)

    assert (status, problem["code"]) == (422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [path]
    assert (await retrieval.client.feedback()).items == []


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"user_id": None}, "$.user_id"),
        ({"user_id": "v"}, "$.judgments[0].id"),
        ({"judgments": [{**TURN[0], "kind": "span"}]}, "$.judgments[0].kind"),
        ({"judgments": [{"id": "t", "relevance": 1}]}, "$.judgments[0].session_id"),
        ({"judgments": [{**TURN[0], "document_id": "a"}]}, "$.judgments[0].document_id"),
        ({"judgments": [*TURN, {**TURN[0], "relevance": "wrong"}]}, "$.judgments[1]"),
        ({"as_of": "0001-01-01T00:00:00+14:00"}, "$.judgments[0].id"),
        ({"as_of": "soon"}, "$.as_of"),
        ({"filter": {}}, "$.filter"),
    ],
    ids=str,
)
async def test_a_bad_judgment_of_a_recall_names_the_field(
    memory: RunningMemory, fields: dict[str, Any], path: str, encoding: str
) -> None:
    await memory.client.append("s", [{"id": "t", "role": "user", "content": "x"}], user_id="u")
    body = {"user_id": "u", "query": "q", "judgments": TURN, **fields}
    status, problem = await send(memory.url, PATH, packed(body, encoding), encoding)

    assert (status, problem["code"]) == (422, "invalid_fields")
    assert [error["path"] for error in problem["errors"]] == [path]
    assert (await memory.client.feedback(user_id="u")).items == []


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_any_moment_of_the_calendar_can_be_sent(
    retrieval: RunningRetrieval, memory: RunningMemory, moment: str
) -> None:
    await retrieval.client.ingest("c", [{"id": "a", "text": "x"}])
    await memory.client.append("s", [{"id": "t", "role": "user", "content": "x"}], user_id="u")
    for url, body in (
        (retrieval.url, {"collection": "c", "query": "q", "judgments": RIGHT, "judged_at": moment}),
        (memory.url, {"user_id": "u", "query": "q", "judgments": TURN, "judged_at": moment}),
    ):
        status, answer = await send(url, PATH, packed(body, ENCODINGS[0]), ENCODINGS[0])
        assert (status, answer["judged"]) == (200, 1)
    (kept,) = (await memory.client.feedback(user_id="u")).items
    assert kept.judged_at <= kept.created_at
