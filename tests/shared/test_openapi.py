"""The description of each service is valid, complete, and true of what the service really answers."""

import asyncio
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its types come in a package of their own
import msgspec
import openapi_spec_validator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memory.handlers
import retrieval.handlers
from shared.errors import SERVICE_ERRORS
from shared.openapi import describe_api, error_codes
from shared.routes import Route
from shared.wire import JSON, MSGPACK, encode
from tests.harness import RunningMemory, RunningRetrieval, raw_session
from tests.shared.probe import ROUTES as PROBE_ROUTES
from tests.shared.strategies import any_of, message_kinds

SERVICES = {"retrieval": retrieval.handlers.ROUTES, "memory": memory.handlers.ROUTES}
BOTH = pytest.mark.parametrize(("title", "routes"), SERVICES.items(), ids=SERVICES)
DESCRIBED = {title: describe_api(title=title, version="1", routes=routes) for title, routes in SERVICES.items()}

Routes = tuple[Route, ...]


@pytest.fixture(params=["retrieval", "memory"])
async def served(request: pytest.FixtureRequest, retrieval: RunningRetrieval, memory: RunningMemory) -> dict[str, Any]:
    url = retrieval.url if request.param == "retrieval" else memory.url
    async with raw_session(url) as session, session.get("/openapi.json") as response:
        assert response.content_type == JSON
        document: dict[str, Any] = await response.json()
        return document


async def test_what_is_served_is_a_valid_description(served: dict[str, Any]) -> None:
    await asyncio.to_thread(openapi_spec_validator.validate, served)

    assert served["openapi"] == "3.1.0"
    assert served["info"]["title"] in {"Diptych retrieval", "Diptych memory"}


@BOTH
def test_every_route_is_described_and_nothing_else(title: str, routes: Routes) -> None:
    paths = DESCRIBED[title]["paths"]

    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == {(route.method, route.path) for route in routes}


@BOTH
def test_operations_have_names_of_their_own(title: str, routes: Routes) -> None:
    assert len({route.operation_id for route in routes}) == len(routes)
    assert DESCRIBED[title]["paths"]["/v1/info"]["get"]["operationId"] == "info"


@BOTH
def test_every_operation_tells_its_scope_parameters_body_and_answers(title: str, routes: Routes) -> None:
    for route in routes:
        operation = DESCRIBED[title]["paths"][route.path][route.method.lower()]
        parameters = {(part["name"], part["in"]) for part in operation["parameters"]}

        assert operation["summary"] == route.summary
        answers = {*map(str, route.answers), *(["200"] if route.gives_records else [])}
        assert operation["responses"].keys() == {*answers, "default"}
        assert operation["security"] == [{"key": []}]
        assert (operation.get("description") == f"Needs the scope `{route.scope}`.") == (route.scope is not None)
        assert {(name, "path") for name in route.path_names} <= parameters
        assert ("requestBody" in operation) == (route.body is not None or bool(route.takes_records))
        if route.query:
            assert {(name, "query") for name in route.query.__struct_fields__} <= parameters


def test_a_body_says_whether_it_may_be_left_out() -> None:
    echo = describe_api(title="probe", version="1", routes=PROBE_ROUTES)["paths"]["/v1/echo"]

    assert (echo["post"]["requestBody"]["required"], echo["put"]["requestBody"]["required"]) == (True, False)


def test_both_encodings_are_offered_for_bodies_answers_and_problems() -> None:
    search = DESCRIBED["retrieval"]["paths"]["/v1/search"]["post"]
    problem = DESCRIBED["retrieval"]["components"]["responses"]["problem"]

    assert search["requestBody"]["content"].keys() == {JSON, MSGPACK}
    assert search["responses"]["200"]["content"].keys() == {JSON, MSGPACK}
    assert problem["content"].keys() == {"application/problem+json", "application/problem+msgpack"}


def validator(document: dict[str, Any], name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**document, "$ref": f"#/components/schemas/{name}"})


def described_kinds() -> list[tuple[str, type[msgspec.Struct]]]:
    return [
        (title, kind)
        for title, document in DESCRIBED.items()
        for kind in message_kinds()
        if kind.__name__ in document["components"]["schemas"]
    ]


@pytest.mark.parametrize(("title", "kind"), described_kinds(), ids=lambda part: getattr(part, "__name__", part))
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_every_message_fits_its_description(title: str, kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(any_of(kind))

    validator(DESCRIBED[title], kind.__name__).validate(msgspec.json.decode(encode(message, JSON)))


@pytest.mark.parametrize(
    ("title", "kind", "value"),
    [
        ("retrieval", "SearchRequest", {"qury": "x"}),
        ("retrieval", "SearchRequest", {"limit": 0}),
        ("retrieval", "SearchRequest", {"query": "a\x00"}),
        ("retrieval", "SearchRequest", {"collection": "a\n"}),
        ("retrieval", "SearchRequest", {"collection": "x" * 257}),
        ("retrieval", "SearchRequest", {"fusion": {"method": "sum"}}),
        ("retrieval", "IngestRequest", {"documents": []}),
        ("retrieval", "EmbedRequest", {"texts": [""], "kind": "query"}),
        ("memory", "AppendRequest", {"turns": [{"role": "boss", "content": "x"}]}),
        ("memory", "AppendRequest", {"turns": [{"role": "user"}]}),
        ("memory", "RecallRequest", {"neighbours": 21}),
    ],
)
def test_what_the_server_refuses_does_not_fit_the_description(title: str, kind: str, value: dict[str, Any]) -> None:
    assert not validator(DESCRIBED[title], kind).is_valid(value)


Call = tuple[str, str, str, dict[str, Any] | None, int]

TURN = {"id": "t1", "role": "user", "content": "hello", "name": "Ada", "metadata": {"a": 1}}
RETRIEVAL_CALLS: list[Call] = [
    ("GET", "/v1/info", "/v1/info", None, 200),
    ("PUT", "/v1/collections/{collection}", "/v1/collections/notes", {"description": "Notes"}, 200),
    (
        "POST",
        "/v1/collections/{collection}/documents",
        "/v1/collections/notes/documents",
        {"documents": [{"id": "a", "text": "hello"}, {"id": "a", "text": "hello world"}], "wait": True},
        200,
    ),
    (
        "POST",
        "/v1/collections/{collection}/documents",
        "/v1/collections/notes/documents",
        {"documents": [{"id": "b", "content": "IyBIZWxsbw==", "content_type": "text/markdown"}]},
        202,
    ),
    ("GET", "/v1/collections", "/v1/collections?limit=1", None, 200),
    ("GET", "/v1/collections/{collection}/documents/{document}", "/v1/collections/notes/documents/a", None, 200),
    ("GET", "/v1/collections/{collection}/documents", "/v1/collections/notes/documents?limit=1", None, 200),
    ("POST", "/v1/search", "/v1/search", {"query": "hello", "explain": True}, 200),
    ("POST", "/v1/embed", "/v1/embed", {"texts": ["hello"], "kind": "query"}, 200),
    ("GET", "/v1/jobs", "/v1/jobs", None, 200),
    ("POST", "/v1/check", "/v1/check", None, 200),
    ("DELETE", "/v1/collections/{collection}/documents/{document}", "/v1/collections/notes/documents/a", None, 200),
    ("GET", "/v1/collections/{collection}", "/v1/collections/none", None, 404),
    ("POST", "/v1/search", "/v1/search", {"qury": "hello"}, 422),
]
MEMORY_CALLS: list[Call] = [
    ("GET", "/v1/info", "/v1/info", None, 200),
    ("PUT", "/v1/sessions/{session}", "/v1/sessions/s", {"user_id": "ada", "title": "First"}, 200),
    ("POST", "/v1/sessions/{session}/turns", "/v1/sessions/s/turns", {"turns": [TURN, TURN]}, 200),
    ("GET", "/v1/sessions/{session}/turns", "/v1/sessions/s/turns?limit=1", None, 200),
    ("GET", "/v1/sessions", "/v1/sessions?user_id=ada", None, 200),
    ("POST", "/v1/recall", "/v1/recall", {"query": "hello", "user_id": "ada", "neighbours": 1, "explain": True}, 200),
    ("POST", "/v1/context", "/v1/context", {"query": "hello", "session_id": "s", "user_id": "ada"}, 200),
    ("POST", "/v1/check", "/v1/check", None, 200),
    ("DELETE", "/v1/sessions/{session}", "/v1/sessions/s", None, 200),
    ("GET", "/v1/sessions/{session}", "/v1/sessions/s", None, 404),
    ("POST", "/v1/recall", "/v1/recall", {"query": "hello"}, 422),
]


async def check_answers(url: str, document: dict[str, Any], calls: list[Call]) -> None:
    async with raw_session(url) as session:
        for method, template, path, body, status in calls:
            async with session.request(method, path, json=body) as response:
                answer = await response.json(content_type=None)
                assert (response.status, method, path) == (status, method, path), answer
            responses = document["paths"][template][method.lower()]["responses"]
            described = responses.get(str(status)) or document["components"]["responses"]["problem"]
            schema = described["content"][response.content_type]["schema"]
            jsonschema.Draft202012Validator({**document, **schema}).validate(answer)


async def test_what_retrieval_answers_is_what_it_describes(retrieval: RunningRetrieval) -> None:
    await check_answers(retrieval.url, DESCRIBED["retrieval"], RETRIEVAL_CALLS)


async def test_what_memory_answers_is_what_it_describes(memory: RunningMemory) -> None:
    await check_answers(memory.url, DESCRIBED["memory"], MEMORY_CALLS)


def test_every_error_has_a_code_of_its_own() -> None:
    assert len(set(error_codes())) == len(SERVICE_ERRORS) == 12
