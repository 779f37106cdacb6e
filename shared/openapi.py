"""`/openapi.json`, generated from the routes and the message types. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from shared.errors import SERVICE_ERRORS
from shared.forms import FORM, UploadedFile, describe_file
from shared.memory_stream import NDJSON
from shared.messages import Id, Problem
from shared.routes import Route
from shared.streaming import EVENT_STREAM
from shared.vectors import Vector
from shared.wire import JSON, MSGPACK

_REF = "#/components/schemas/{name}"


def describe_api(*, title: str, version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """An OpenAPI 3.1 document."""
    routes = list(routes)
    kinds = [
        kind
        for route in routes
        for kind in (route.body, route.query, *route.answers.values(), *route.takes_records, *route.gives_records)
        if kind
    ]
    _, components = msgspec.json.schema_components([*kinds, Problem], schema_hook=_schema_of, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "problem": {"description": "RFC 9457 problem details", "content": _content("Problem", "problem+")}
            },
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "parameters": _parameters(route, components),
        "responses": {
            **{
                str(status): {"description": kind.__name__, "content": _answer_content(route, kind.__name__)}
                for status, kind in route.answers.items()
            },
            **(
                {"200": {"description": "records", "content": _records(route.gives_records)}}
                if route.gives_records
                else {}
            ),
            "default": {"$ref": "#/components/responses/problem"},
        },
    }
    operation["security"] = [{"key": []}]
    if route.scope:
        operation["description"] = f"Needs the scope `{route.scope}`."
    if route.body:
        content = _content(route.body.__name__)
        if route.is_form:
            content = {FORM: next(iter(content.values()))}
        operation["requestBody"] = {"required": not route.body_optional, "content": content}
    if route.takes_records:
        operation["requestBody"] = {"required": True, "content": _records(route.takes_records)}
    return operation


def _records(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    """The schema is that of each record."""
    schema = {"oneOf": [{"$ref": _REF.format(name=kind.__name__)} for kind in kinds]}
    return {media: {"schema": schema} for media in (NDJSON, MSGPACK)}


def _parameters(route: Route, components: dict[str, Any]) -> list[dict[str, Any]]:
    (id_schema,), _ = msgspec.json.schema_components([Id])
    found = [{"name": name, "in": "path", "required": True, "schema": id_schema} for name in route.path_names]
    if route.query:
        schema = components[route.query.__name__]
        for name, part in schema["properties"].items():
            found.append({"name": name, "in": "query", "required": name in schema["required"], "schema": part})
    return found


def _answer_content(route: Route, name: str) -> dict[str, Any]:
    """Of a stream, the schema is that of each event's data."""
    return {EVENT_STREAM: {"schema": {"$ref": _REF.format(name=name)}}} if route.streams else _content(name)


def _content(name: str, infix: str = "") -> dict[str, Any]:
    schema = {"$ref": _REF.format(name=name)}
    return {media.replace("/", f"/{infix}"): {"schema": schema} for media in (JSON, MSGPACK)}


def _schema_of(kind: type) -> dict[str, Any]:
    if issubclass(kind, UploadedFile):
        return describe_file()
    if not issubclass(kind, Vector):
        raise NotImplementedError(kind)
    items: dict[str, Any] = {"type": "number"}
    for _ in range(kind.dimensions):
        items = {"type": "array", "items": items}
    packed = {
        "type": "object",
        "description": "MessagePack only: float32, little-endian",
        "properties": {"dtype": {"const": "float32"}, "shape": {"type": "array"}, "data": {}},
        "required": ["dtype", "shape", "data"],
    }
    return {"anyOf": [items, packed]}


def error_codes() -> list[str]:
    return [error.code for error in SERVICE_ERRORS]
