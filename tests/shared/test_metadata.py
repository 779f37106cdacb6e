"""Metadata is plain JSON of bounded size and depth; what is not is named by its path."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FieldError, InvalidFields
from shared.metadata import DEPTH_MAX, check_metadata
from tests.shared.strategies import PLAIN_VALUES, PRINTABLE, PROPERTY


def nested(levels: int) -> dict[str, Any]:
    """An object of that many objects in one another."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def problem(value: dict[str, Any], bytes_max: int = 1000) -> FieldError:
    with pytest.raises(InvalidFields) as caught:
        check_metadata(value, path="$.metadata", bytes_max=bytes_max)
    (error,) = caught.value.errors
    assert caught.value.detail == f"{error.path}: {error.message}"
    return error


@PROPERTY
@given(value=st.dictionaries(PRINTABLE, PLAIN_VALUES, max_size=3))
def test_plain_json_is_accepted(value: dict[str, Any]) -> None:
    check_metadata(value, path="$.metadata", bytes_max=100_000)


def test_the_depth_is_bounded() -> None:
    check_metadata(nested(DEPTH_MAX), path="$.metadata", bytes_max=1000)

    assert problem(nested(DEPTH_MAX + 1)) == FieldError("$.metadata" + ".a" * DEPTH_MAX, "nested deeper than 8 levels")


def test_lists_count_as_levels_too() -> None:
    value: Any = 1
    for _ in range(DEPTH_MAX):
        value = [value]

    assert problem({"a": value}).path == "$.metadata.a" + "[0]" * (DEPTH_MAX - 1)


def test_the_size_is_bounded() -> None:
    value = {"a": "x" * 10}
    size = len(msgspec.json.encode(value))

    check_metadata(value, path="$.metadata", bytes_max=size)

    assert problem(value, size - 1) == FieldError("$.metadata", f"larger than {size - 1} bytes as JSON")


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"a": {"b": ["x", "y\x00"]}}, "$.metadata.a.b[1]", "contains NUL"),
        ({"a": {"b\x00": 1}}, "$.metadata.a", "a key contains NUL"),
        ({"a": [{b"b": 1}]}, "$.metadata.a[0]", "a key is not text"),
        ({"a": float("nan")}, "$.metadata.a", "the number is not finite"),
        ({"a": [1, float("-inf")]}, "$.metadata.a[1]", "the number is not finite"),
        ({"a": 2**63}, "$.metadata.a", "the integer needs more than 64 bits"),
        ({"a": -(2**63) - 1}, "$.metadata.a", "the integer needs more than 64 bits"),
        ({"a": b"x"}, "$.metadata.a", "bytes is not JSON; send text, numbers, booleans, null, lists or objects"),
        ({"a": {"b": msgpack.Timestamp(1)}}, "$.metadata.a.b", None),
    ],
    ids=str,
)
def test_what_is_not_plain_json_is_named(value: dict[str, Any], path: str, message: str | None) -> None:
    error = problem(value)

    assert error.path == path
    assert message is None or error.message == message


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 1e308, -0.0, True, None, "", [], {}])
def test_every_kind_of_value_is_accepted_at_its_limit(value: object) -> None:
    check_metadata({"a": value}, path="$.metadata", bytes_max=1000)
