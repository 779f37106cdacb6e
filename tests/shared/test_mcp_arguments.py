"""From what a model wrote to a tool's arguments, and what the model is shown of them."""

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, field

from shared.errors import InvalidFields
from shared.mcp.arguments import arguments_of
from shared.mcp.catalogue import Caller, Told, Tool
from shared.mcp.schemas import schema_of
from shared.messages import ID_PATTERN, Answer, Request


class Inner(Request, frozen=True, kw_only=True):
    """Not for models."""

    text: Annotated[str, Meta(min_length=1)]


class Arguments(Request, frozen=True, kw_only=True):
    query: Annotated[
        str, Meta(min_length=1, max_length=20, pattern=ID_PATTERN, title="Noise", description="What to find")
    ]
    ids: Annotated[list[str], Meta(max_length=2)] | None = None
    inner: list[Inner] = field(default_factory=list)
    either: list[str] | str | None = None
    limit: Annotated[int, Meta(ge=1, le=50)] = 8


class Nothing(Request, frozen=True, kw_only=True):
    pass


class Out(Answer, frozen=True, kw_only=True):
    hits: list[str]


async def _run(_service: object, _caller: Caller, _arguments: object) -> Told:
    raise AssertionError("not called")


def tool(arguments: type[msgspec.Struct] = Arguments) -> Tool:
    return Tool(
        name="find",
        title="Find",
        description="Finds",
        arguments=arguments,
        answers=Out,
        run=_run,
        scope="retrieval:read",
        is_read_only=True,
        is_destructive=False,
        is_idempotent=True,
        aliases={"q": "query", "id": "ids"},
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"query": "a"}, Arguments(query="a")),
        ({"q": "a", "limit": 50}, Arguments(query="a", limit=50)),
        ({"query": "a", "ids": None, "limit": None}, Arguments(query="a")),
        ({"query": "a", "ids": ["b", "c"]}, Arguments(query="a", ids=["b", "c"])),
        ({"query": "a", "id": "b"}, Arguments(query="a", ids=["b"])),
        ({"query": "a", "inner": {"text": "b"}}, Arguments(query="a", inner=[Inner(text="b")])),
        ({"query": "a", "either": "b"}, Arguments(query="a", either="b")),
    ],
)
def test_what_is_meant_is_taken(given: dict[str, Any], meant: Arguments) -> None:
    assert arguments_of(tool(), given) == meant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "query"),
        ({"query": "a", "topk": 3}, "topk: there is no such argument. find takes: query, ids, inner, either, limit"),
        ({"query": "a", "q": "a"}, "query: given twice (as 'q' too); give it once"),
        ({"query": ""}, "query: "),
        ({"query": 5}, "query: "),
        ({"query": "a", "limit": "8"}, "limit: "),
        ({"query": "a", "limit": 51}, "limit: "),
        ({"query": "a", "ids": 5}, "ids: "),
        ({"query": "a", "ids": ["a", "b", "c"]}, "ids: "),
        ({"query": "a", "inner": [{"text": "b"}, {"text": ""}]}, "inner[1].text: "),
        ({"query": "a", "inner": [{"text": "b", "more": 1}]}, "more"),
    ],
)
def test_what_cannot_be_meant_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        arguments_of(tool(), given)

    assert message in str(refused.value)
    assert "$" not in str(refused.value)


def test_a_tool_without_arguments_says_so() -> None:
    with pytest.raises(InvalidFields, match="find takes no arguments"):
        arguments_of(tool(Nothing), {"limit": 3})


def test_a_schema_says_what_a_model_needs_and_nothing_else() -> None:
    assert schema_of(Arguments) == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 20, "description": "What to find"},
            "ids": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "inner": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"text": {"type": "string", "minLength": 1}},
                    "required": ["text"],
                    "additionalProperties": False,
                },
                "default": [],
            },
            "either": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50, "default": 8},
        },
        "required": ["query"],
        "additionalProperties": False,
    }
