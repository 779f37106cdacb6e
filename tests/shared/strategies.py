"""Hypothesis strategies made from the message types themselves, so that a new message is covered by being there."""

import functools
from datetime import UTC, timedelta, timezone
from typing import Any, Final

import msgspec
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import inspect

from shared import fact_messages, feedback_messages, memory_messages, memory_records, messages, retrieval_messages
from shared.memory_records import DIGEST_PATTERN
from shared.messages import ID_PATTERN, Answer, Request
from shared.retrieval_messages import UploadForm
from shared.vectors import Vector, Vectors

# Largest collections and texts made here: the limits have tests of their own, and shrinking is faster on small values.
_SIZE_MAX: Final = 3
# No deadline: a busy machine is no failure. The examples are few because every run adds others.
PROPERTY: Final = settings(max_examples=50, deadline=None)
_INTEGERS: Final = st.integers(-(2**63), 2**63 - 1)

PRINTABLE: Final = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=_SIZE_MAX)
# What JSON and MessagePack mean alike.
PLAIN_VALUES: Final = st.recursive(
    st.none() | st.booleans() | _INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(PRINTABLE, inner, max_size=2),
    max_leaves=3,
)
_OFFSETS: Final = st.integers(-12 * 60, 12 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def message_kinds() -> list[type[msgspec.Struct]]:
    """Every message that travels in both encodings, requests and answers. A form does in neither."""
    found = {
        value
        for module in (messages, retrieval_messages, memory_messages, memory_records, fact_messages, feedback_messages)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, (Request, Answer))
        and value not in {Request, Answer, UploadForm}
    }
    return sorted(found, key=lambda kind: kind.__name__)


@functools.cache
def any_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    return _strategy(inspect.type_info(kind))


def _strategy(info: inspect.Type) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any]
    match info:
        case inspect.StructType():
            fields = {field.name: _strategy(field.type) for field in info.fields}
            found = st.fixed_dictionaries(fields).map(lambda values: info.cls(**values))
        case inspect.UnionType():
            found = st.one_of([_strategy(part) for part in info.types])
        case inspect.ListType():
            found = st.lists(_strategy(info.item_type), min_size=info.min_length or 0, max_size=_SIZE_MAX)
        case inspect.VarTupleType():
            found = st.lists(_strategy(info.item_type), min_size=info.min_length or 0, max_size=3).map(tuple)
        case inspect.DictType():
            found = st.dictionaries(PRINTABLE, _strategy(info.value_type), max_size=_SIZE_MAX)
        case inspect.CustomType():
            found = _vectors(info.cls)
        case inspect.Metadata():
            found = _strategy(info.type)
        case _:
            found = _scalar(info)
    return found


def _scalar(info: inspect.Type) -> st.SearchStrategy[Any]:
    found: st.SearchStrategy[Any]
    match info:
        case inspect.StrType():
            found = _text(info)
        case inspect.IntType():
            low, high = info.ge, info.le
            found = st.integers(-(2**63) if low is None else low, 2**63 - 1 if high is None else high)
        case inspect.FloatType():
            found = st.floats(info.ge, info.le, allow_nan=False, allow_infinity=False)
        case inspect.DateTimeType():
            found = st.datetimes(timezones=_OFFSETS if info.tz else st.just(UTC))
        case inspect.LiteralType():
            found = st.sampled_from(info.values)
        case inspect.BoolType():
            found = st.booleans()
        case inspect.BytesType():
            found = st.binary(max_size=16)
        case inspect.NoneType():
            found = st.none()
        case inspect.AnyType():
            found = PLAIN_VALUES
        case _:
            raise NotImplementedError(info)
    return found


def _text(info: inspect.StrType) -> st.SearchStrategy[str]:
    if info.pattern == DIGEST_PATTERN:
        return st.binary(min_size=32, max_size=32).map(bytes.hex)
    excluded: list[Any] = ["Cs", "Cc"] if info.pattern == ID_PATTERN else ["Cs"]
    alphabet = st.characters(exclude_categories=excluded, exclude_characters="\x00")
    return st.text(alphabet, min_size=info.min_length or 0, max_size=_SIZE_MAX)


def _vectors(kind: type) -> st.SearchStrategy[Vector]:
    if not issubclass(kind, Vector):
        raise NotImplementedError(kind)
    shapes = hnp.array_shapes(min_dims=kind.dimensions, max_dims=kind.dimensions, max_side=3)
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    arrays = hnp.arrays(np.float32, shapes, elements=numbers)
    return arrays.map(Vectors if issubclass(kind, Vectors) else Vector)
