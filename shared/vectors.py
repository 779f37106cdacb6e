"""Vectors on the wire: a list of numbers in JSON, `{dtype, shape, data}` with raw little-endian bytes in MessagePack.

In memory both are float32 arrays. `Vector` has shape (d,), `Vectors` shape (n, d).
"""

import math
from typing import Any, ClassVar, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]

# What numbers look like in JSON, by dimensions. Neither text nor booleans are numbers, whatever numpy makes of them.
_NUMBERS: Final[dict[int, Any]] = {1: list[float], 2: list[list[float]]}


class Vector:
    """A float32 array of shape (d,). Raises ValueError where the input is ragged, empty, not finite or not numbers."""

    dimensions: ClassVar[int] = 1
    __slots__ = ("array",)

    def __init__(self, array: Float32Array) -> None:
        if array.ndim != self.dimensions:
            raise ValueError(f"expected {self.dimensions} dimension(s), got shape {list(array.shape)}")
        if array.size == 0:
            raise ValueError("must not be empty")
        if not np.isfinite(array).all():
            raise ValueError("every number must be finite")
        self.array = array

    @classmethod
    def from_wire(cls, value: object) -> "Vector":
        if isinstance(value, dict):
            return cls(_from_bytes(value, cls.dimensions))
        if isinstance(value, list):
            return cls(_from_numbers(value, cls.dimensions))
        raise ValueError("expected a list of numbers, or {dtype, shape, data} in MessagePack")

    def to_numbers(self) -> Any:
        return self.array.tolist()

    def to_bytes(self) -> dict[str, Any]:
        return {
            "dtype": "float32",
            "shape": list(self.array.shape),
            "data": self.array.astype("<f4", copy=False).tobytes(),
        }


class Vectors(Vector):
    """A float32 array of shape (n, d)."""

    dimensions: ClassVar[int] = 2
    __slots__ = ()


def _from_numbers(value: list[Any], dimensions: int) -> Float32Array:
    try:
        numbers = msgspec.convert(value, _NUMBERS[dimensions])
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused as that
            return np.asarray(numbers, dtype=np.float32)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(
            "expected numbers" if dimensions == 1 else "expected numbers in rows of equal length"
        ) from error


def _from_bytes(value: dict[Any, Any], dimensions: int) -> Float32Array:
    if set(value) != {"dtype", "shape", "data"}:
        raise ValueError("expected exactly the keys dtype, shape and data")
    if value["dtype"] != "float32":
        raise ValueError("dtype must be 'float32'")
    shape, data = value["shape"], value["data"]
    # The length first: the product of a million sides would keep the server busy for minutes.
    if not isinstance(shape, list) or len(shape) != dimensions or not all(type(side) is int for side in shape):
        raise ValueError(f"shape must be a list of {dimensions} size(s)")
    if min(shape) < 1:
        raise ValueError("must not be empty")
    if not isinstance(data, bytes) or len(data) != 4 * math.prod(shape):
        raise ValueError("data must be 4 bytes for each number of the shape")
    return np.frombuffer(data, dtype="<f4").reshape(shape).astype(np.float32, copy=False)
