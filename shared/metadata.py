"""What may stand in a metadata object: plain JSON of bounded size, so that it means the same in both encodings."""

import math
from typing import Any

import msgspec

from shared.errors import FieldError, InvalidFields

DEPTH_MAX = 8  # deeper is a document, not a description of one
_INTEGER_MAX = 2**63 - 1  # SQLite's, and the smaller of the two encodings' ranges


def check_metadata(value: dict[str, Any], *, path: str, bytes_max: int) -> None:
    """Raises InvalidFields naming the first part that is not plain JSON, too deep or too large."""
    problem = _problem(value, path, DEPTH_MAX)
    if problem is None and len(msgspec.json.encode(value)) > bytes_max:
        problem = FieldError(path, f"larger than {bytes_max} bytes as JSON")
    if problem is not None:
        raise InvalidFields(f"{problem.path}: {problem.message}", errors=[problem])


def _problem(value: Any, path: str, depth: int) -> FieldError | None:
    match value:
        case dict() | list() if depth == 0:
            return FieldError(path, f"nested deeper than {DEPTH_MAX} levels")
        case dict():
            pairs = [(f"{path}.{key}", part) for key, part in value.items()]
            if not all(isinstance(key, str) for key in value):
                return FieldError(path, "a key is not text")
            if any("\x00" in key for key in value):
                return FieldError(path, "a key contains NUL")
        case list():
            pairs = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
        case _:
            message = _scalar_problem(value)
            return FieldError(path, message) if message else None
    return next((found for place, part in pairs if (found := _problem(part, place, depth - 1))), None)


def _scalar_problem(value: Any) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return "contains NUL" if "\x00" in value else None
        case int():
            return None if -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX else "the integer needs more than 64 bits"
        case float():
            return None if math.isfinite(value) else "the number is not finite"
        case _:
            return f"{type(value).__name__} is not JSON; send text, numbers, booleans, null, lists or objects"
