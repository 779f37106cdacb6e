"""A vector reads the same from a list of numbers and from raw bytes, and nothing else is a vector."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared.errors import FieldError, InvalidFields
from shared.retrieval_messages import SearchRequest
from shared.vectors import Float32Array, Vector, Vectors
from shared.wire import JSON, MSGPACK, decode, encode
from tests.shared.strategies import PROPERTY

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def floats(*numbers: float) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


def raw(shape: Any, data: Any, dtype: Any = "float32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data": data}


@PROPERTY
@given(array=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=1), elements=FINITE))
def test_both_forms_of_a_vector_hold_the_same_numbers(array: Float32Array) -> None:
    vector = Vector(array)

    from_list = Vector.from_wire(vector.to_numbers())
    from_bytes = Vector.from_wire(vector.to_bytes())

    assert from_list.array.tobytes() == from_bytes.array.tobytes() == array.tobytes()
    assert from_list.array.dtype == from_bytes.array.dtype == np.float32


@PROPERTY
@given(array=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2), elements=FINITE))
def test_both_forms_of_vectors_hold_the_same_rows(array: Float32Array) -> None:
    vectors = Vectors(array)

    assert np.array_equal(Vectors.from_wire(vectors.to_numbers()).array, array)
    assert np.array_equal(Vectors.from_wire(vectors.to_bytes()).array, array)


def test_raw_bytes_are_little_endian() -> None:
    assert Vector.from_wire(raw([1], b"\x00\x00\xc0\x3f")).array.tolist() == [1.5]
    assert Vector(np.array([1.5], dtype=">f4")).to_bytes() == raw([1], b"\x00\x00\xc0\x3f")


def test_whole_numbers_are_numbers() -> None:
    assert Vector.from_wire([1, 2, 2**70]).array.tolist() == [1.0, 2.0, 2.0**70]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "must not be empty"),
        (["1.5"], "expected numbers"),
        ([True], "expected numbers"),
        ([1.0, False], "expected numbers"),
        ([None], "expected numbers"),
        ([1.0, [2.0]], "expected numbers"),
        ([[1.0]], "expected numbers"),
        ([{"a": 1}], "expected numbers"),
        ([1e39], "every number must be finite"),
        ([-1e300], "every number must be finite"),
        ([10**400], "expected numbers"),
        ("1.5", "expected a list of numbers"),
        (1.5, "expected a list of numbers"),
        (b"\x00\x00\x00\x00", "expected a list of numbers"),
    ],
    ids=str,
)
def test_a_list_that_is_no_vector_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Vector.from_wire(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_in_both_forms(number: float) -> None:
    with pytest.raises(ValueError, match="every number must be finite"):
        Vector.from_wire([1.0, number])
    with pytest.raises(ValueError, match="every number must be finite"):
        Vector.from_wire(raw([2], floats(1.0, number)))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1.0, 2.0], [3.0]], "rows of equal length"),
        ([[1.0], []], "rows of equal length"),
        ([[]], "must not be empty"),
        ([], "shape"),
        ([1.0, 2.0], "rows of equal length"),
        ([["1"]], "rows of equal length"),
        (raw([2], floats(1, 2)), "shape must be a list of 2"),
        (raw([1, 2, 1], floats(1, 2)), "shape must be a list of 2"),
        (raw([0, 3], b""), "must not be empty"),
    ],
    ids=str,
)
def test_what_is_no_matrix_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Vectors.from_wire(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (raw([2], floats(1.0)), "4 bytes for each number"),
        (raw([2], floats(1.0, 2.0, 3.0)), "4 bytes for each number"),
        (raw([2], floats(1.0, 2.0)[:-1]), "4 bytes for each number"),
        (raw([1], "AACAPw=="), "4 bytes for each number"),
        (raw([2**62], b""), "4 bytes for each number"),
        (raw([1], floats(1.0), "float64"), "dtype must be 'float32'"),
        (raw([1], floats(1.0), None), "dtype must be 'float32'"),
        (raw([], floats(1.0)), "shape must be a list of 1"),
        (raw([1, 1], floats(1.0)), "shape must be a list of 1"),
        (raw([1.0], floats(1.0)), "shape must be a list of 1"),
        (raw([True], floats(1.0)), "shape must be a list of 1"),
        (raw("1", floats(1.0)), "shape must be a list of 1"),
        (raw([0], b""), "must not be empty"),
        (raw([-1], b""), "must not be empty"),
        ({"dtype": "float32", "shape": [1]}, "exactly the keys"),
        (raw([1], floats(1.0)) | {"order": "C"}, "exactly the keys"),
        ({}, "exactly the keys"),
    ],
    ids=str,
)
def test_raw_bytes_that_are_no_vector_are_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Vector.from_wire(value)


def test_a_shape_of_very_many_sides_is_refused_for_their_number() -> None:
    """Their product is never taken: it would have a hundred million bits."""
    with pytest.raises(ValueError, match="shape must be a list of 1"):
        Vector.from_wire(raw([2**63] * 1_000_000, b""))


@pytest.mark.parametrize(
    ("body", "media", "message"),
    [
        (b'{"vector":["1.5"]}', JSON, "expected numbers"),
        (b'{"vector":[]}', JSON, "must not be empty"),
        (
            encode({"vector": raw([2], floats(1.0))}, MSGPACK),
            MSGPACK,
            "data must be 4 bytes for each number of the shape",
        ),
    ],
)
def test_a_bad_vector_in_a_request_is_named(body: bytes, media: str, message: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        decode(body, media, SearchRequest)

    assert caught.value.errors == (FieldError("$.vector", message),)


@PROPERTY
@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_anything_is_a_finite_vector_or_a_value_error(value: object) -> None:
    try:
        vector = Vector.from_wire(value)
    except ValueError:
        return

    assert np.isfinite(vector.array).all()
    assert vector.array.shape == (len(vector.array),) != (0,)
