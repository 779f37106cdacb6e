"""JSON Schemas of tools, small enough to stand in every prompt: no references, no titles, no nulls, no patterns. Pure.

What is left out is checked all the same when a call comes in; it only is not worth a model's attention.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

_NOISE: Final = frozenset({"title", "pattern"})


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """An object schema with everything inline. Raises ValueError for a type that contains itself."""
    (reference,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    found: dict[str, Any] = _inlined(reference, components, ())
    return found


def explained(schema: dict[str, Any], meaning_of: Callable[[str], str | None]) -> dict[str, Any]:
    """With a description for every property that has none, at every depth, as far as `meaning_of` its name knows one."""

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(each) for each in node]
        if not isinstance(node, dict):
            return node
        found = {
            key: walk(value) if key in {"items", "anyOf", "additionalProperties"} else value
            for key, value in node.items()
        }
        if "properties" in node:
            found["properties"] = {name: described(name, each) for name, each in node["properties"].items()}
        return found

    def described(name: str, node: dict[str, Any]) -> dict[str, Any]:
        meaning = meaning_of(name)
        known = {} if meaning is None or "description" in node else {"description": meaning}
        return {**walk(node), **known}

    result: dict[str, Any] = walk(schema)
    return result


def _inlined(node: Any, components: dict[str, Any], path: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_inlined(each, components, path) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        name = node["$ref"]
        if name in path:
            raise ValueError(f"{name} contains itself")
        # A field's own words before those of its type.
        own = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inlined(components[name], components, (*path, name)), **_inlined(own, components, path)}
    return _plain({key: _of_key(key, value, components, path) for key, value in node.items()})


def _of_key(key: str, value: Any, components: dict[str, Any], path: tuple[str, ...]) -> Any:
    if key == "properties":  # whose keys are names, not keywords
        return {name: _inlined(each, components, path) for name, each in value.items()}
    return value if key in {"enum", "required", "default"} else _inlined(value, components, path)


def _plain(node: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing: `null` as a choice is the same as leaving the field out."""
    kept = {key: value for key, value in node.items() if key not in _NOISE}
    # A struct's docstring is written for us; tools and fields have descriptions of their own.
    if "properties" in kept:
        kept.pop("description", None)
    if kept.get("default", ...) is None:
        kept.pop("default")
    if "required" in kept and not kept["required"]:
        kept.pop("required")
    if choices := kept.get("anyOf"):
        left = [choice for choice in choices if choice.get("type") != "null"]
        kept.pop("anyOf")
        kept = {**left[0], **kept} if len(left) == 1 else {**kept, "anyOf": left}
    return kept
