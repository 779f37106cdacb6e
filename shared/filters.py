"""The filter language: one JSON object to a checked tree, and the tree against one metadata object. Pure.

    {"lang": "en", "year": {"$gte": 2020}, "tags": {"$contains": "x"}, "$or": [{"a": 1}, {"$not": {"b.c": 2}}]}

The same for both services and for MCP; docs/PROTOCOL.md has the table of what each operator means. What decides the hard
cases:

- A field is every value that the metadata holds under its dotted name: `{"a": {"b": 1}}` and `{"a.b": 1}` are both `a.b`.
- A condition holds if it is true of some value of the field, so a missing field makes it false. `$ne`, `$nin` and
  `$exists: false` are the exact opposites of `$eq`, `$in` and `$exists: true`, and so true of a missing field.
- Values are compared with their own kind only: text with text, by code point; numbers with numbers, 1 being 1.0; true is
  not 1. Nothing is converted, so a typed mistake finds nothing instead of something else.
- Lists are only looked into by `$contains`. Rejected: `$eq` matching any element, as Mongo does it; then `$ne` on a list
  and two bounds on a list mean what few expect.

The tree has fewer kinds than the language has operators, because the opposites are `Not`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.errors import invalid

# A filter that people or models write is two or three objects deep; deeper ones can be written flat.
DEPTH_MAX: Final = 5
# Each condition is a look into an index.
LEAVES_MAX: Final = 100
# A longer list of values is a join, and better asked in several searches.
VALUES_MAX: Final = 1000
# Of all lists together: SQLite binds at most 32,766 values to a statement.
VALUES_TOTAL_MAX: Final = 10_000
NAME_LENGTH_MAX: Final = 1024
_INTEGER_MAX: Final = 2**63 - 1

Scalar = str | int | float | bool | None
Kind = Literal["null", "boolean", "number", "text", "list", "object"]
Order = Literal["$gt", "$gte", "$lt", "$lte"]


@dataclass(frozen=True, slots=True)
class Equals:
    """The value is one of these."""

    path: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Compares:
    path: str
    order: Order
    bound: str | int | float


@dataclass(frozen=True, slots=True)
class Contains:
    """The value is a list with this element, or a text with this part."""

    path: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class StartsWith:
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Exists:
    """There is a value, if only null."""

    path: str


@dataclass(frozen=True, slots=True)
class All:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: "Filter"


Leaf = Equals | Compares | Contains | StartsWith | Exists
Filter = Leaf | All | AnyOf | Not


def parse_filter(value: Mapping[str, Any], *, path: str = "$.filter") -> Filter:
    """The tree of a filter; `{}` is true of everything. Raises InvalidFields that names the operand, below `path`."""
    return _Parser().conditions(value, path, depth=1, may_be_empty=True)


def matches(part: Filter, metadata: Mapping[str, Any]) -> bool:
    match part:
        case All(parts):
            return all(matches(each, metadata) for each in parts)
        case AnyOf(parts):
            return any(matches(each, metadata) for each in parts)
        case Not(inner):
            return not matches(inner, metadata)
        case _:
            return any(_holds(part, value) for value in values_at(metadata, part.path))


def values_at(metadata: Mapping[str, Any], path: str) -> Iterator[Any]:
    """Every value under a dotted name, however its dots are spread over keys and levels."""
    if path in metadata:
        yield metadata[path]
    place = path.find(".")
    while place >= 0:
        inner = metadata.get(path[:place])
        if isinstance(inner, Mapping):
            yield from values_at(inner, path[place + 1 :])
        place = path.find(".", place + 1)


def kind_of(value: Any) -> Kind:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case Mapping():
            return "object"
        case _:
            return "list"


def _holds(leaf: Leaf, value: Any) -> bool:
    match leaf:
        case Equals(_, values):
            return any(_same(value, each) for each in values)
        case Compares(_, order, bound):
            return kind_of(value) == kind_of(bound) and _in_order(value, order, bound)
        case Contains(_, wanted):
            if isinstance(value, str):
                return isinstance(wanted, str) and wanted in value
            return isinstance(value, list) and any(_same(each, wanted) for each in value)
        case StartsWith(_, text):
            return isinstance(value, str) and value.startswith(text)
        case Exists():
            return True


def _same(value: Any, wanted: Scalar) -> bool:
    return kind_of(value) == kind_of(wanted) and bool(value == wanted)


def _in_order(value: Any, order: Order, bound: Any) -> bool:
    match order:
        case "$gt":
            return bool(value > bound)
        case "$gte":
            return bool(value >= bound)
        case "$lt":
            return bool(value < bound)
        case "$lte":
            return bool(value <= bound)


class _Parser:
    """One parse: counts what the limits are about."""

    def __init__(self) -> None:
        self._leaves = 0
        self._values = 0

    def conditions(self, value: Any, path: str, *, depth: int, may_be_empty: bool = False) -> Filter:
        """An object of conditions, all of which must hold."""
        if not isinstance(value, Mapping):
            raise invalid(path, "must be an object of conditions")
        if depth > DEPTH_MAX:
            raise invalid(path, f"nested deeper than {DEPTH_MAX} objects; write it flatter")
        if not value and not may_be_empty:
            raise invalid(path, "has no condition, and would be true of everything")
        parts = [self._condition(name, operand, f"{path}.{name}", depth) for name, operand in value.items()]
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _condition(self, name: str, operand: Any, path: str, depth: int) -> Filter:
        match name:
            case "$and":
                return All(self._parts(operand, path, depth))
            case "$or":
                return AnyOf(self._parts(operand, path, depth))
            case "$not":
                return Not(self.conditions(operand, path, depth=depth + 1))
        if name.startswith("$"):
            known = "it stands under a field's name" if name in _OPERATORS else "use $and, $or, $not or a field's name"
            raise invalid(path, f"no operator can stand here by this name; {known}")
        if len(name) > NAME_LENGTH_MAX or "\x00" in name:
            raise invalid(path[:NAME_LENGTH_MAX], f"a field's name has at most {NAME_LENGTH_MAX} characters and no NUL")
        if isinstance(operand, Mapping):
            return self._operators(name, operand, path, depth)
        return self._leaf(name, "$eq", operand, path)

    def _parts(self, operand: Any, path: str, depth: int) -> tuple[Filter, ...]:
        if not isinstance(operand, list) or not operand:
            raise invalid(path, "must be a list of one or more objects of conditions")
        return tuple(self.conditions(each, f"{path}[{index}]", depth=depth + 1) for index, each in enumerate(operand))

    def _operators(self, name: str, operators: Mapping[str, Any], path: str, depth: int) -> Filter:
        if not operators:
            raise invalid(path, f"needs an operator, such as $eq; the operators are {_LISTED}")
        parts: list[Filter] = []
        for operator, operand in operators.items():
            place = f"{path}.{operator}"
            if operator == "$not":
                parts.append(self._negated(name, operand, place, depth + 1))
            elif operator in _OPERATORS:
                parts.append(self._leaf(name, operator, operand, place))
            elif operator.startswith("$"):
                raise invalid(place, f"unknown operator; the operators of a field are {_LISTED}, $not")
            else:
                raise invalid(place, "objects are not compared; name the inner field with dots, as in `a.b`")
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _negated(self, name: str, operand: Any, path: str, depth: int) -> Filter:
        if not isinstance(operand, Mapping):
            raise invalid(path, "must be an object of operators, such as {'$gt': 5}; to exclude a value use $ne")
        if depth > DEPTH_MAX:
            raise invalid(path, f"nested deeper than {DEPTH_MAX} objects; write it flatter")
        return Not(self._operators(name, operand, path, depth))

    def _leaf(self, name: str, operator: str, operand: Any, path: str) -> Filter:
        self._leaves += 1
        if self._leaves > LEAVES_MAX:
            raise invalid(path, f"more than {LEAVES_MAX} conditions; use $in for many values of one field")
        if operator in {"$ne", "$nin"}:
            return Not(self._equals(name, "$eq" if operator == "$ne" else "$in", operand, path))
        match operator:
            case "$eq" | "$in":
                return self._equals(name, operator, operand, path)
            case "$gt" | "$gte" | "$lt" | "$lte":
                return Compares(name, operator, _bound(operand, path))
            case "$contains":
                return Contains(name, _scalar(operand, path))
            case "$prefix":
                return StartsWith(name, _text(operand, path))
            case _:
                return _exists(name, operand, path)

    def _equals(self, name: str, operator: str, operand: Any, path: str) -> Equals:
        return Equals(name, (_scalar(operand, path),) if operator == "$eq" else self._list(operand, path))

    def _list(self, operand: Any, path: str) -> tuple[Scalar, ...]:
        if not isinstance(operand, list):
            raise invalid(path, "must be a list of values")
        self._values += len(operand)
        if len(operand) > VALUES_MAX:
            raise invalid(
                path, f"has {len(operand)} values; at most {VALUES_MAX} are accepted: ask in several searches"
            )
        if self._values > VALUES_TOTAL_MAX:
            raise invalid(path, f"more than {VALUES_TOTAL_MAX} values in all lists of the filter together")
        return tuple(_scalar(each, f"{path}[{index}]") for index, each in enumerate(operand))


_OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$contains", "$exists", "$prefix")
_LISTED: Final = ", ".join(_OPERATORS)


def _scalar(value: Any, path: str) -> Scalar:
    match value:
        case None | bool():
            return value
        case str():
            return _plain(value, path)
        case int() | float():
            return _number(value, path)
        case list():
            raise invalid(path, "a list is not compared as a whole; use $contains for an element, $in for alternatives")
        case _:
            raise invalid(path, "must be text, a number, true, false or null")


def _bound(value: Any, path: str) -> str | int | float:
    match value:
        case bool():
            raise invalid(path, "must be text or a number; true and false have no order")
        case str():
            return _plain(value, path)
        case int() | float():
            return _number(value, path)
        case _:
            raise invalid(path, "must be text or a number")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(path, "must be text")
    return _plain(value, path)


def _exists(name: str, operand: Any, path: str) -> Filter:
    if not isinstance(operand, bool):
        raise invalid(path, "must be true or false")
    return Exists(name) if operand else Not(Exists(name))


def _plain(value: str, path: str) -> str:
    if "\x00" in value:
        raise invalid(path, "contains NUL")
    return value


def _number(value: float, path: str) -> int | float:
    if isinstance(value, int) and not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
        raise invalid(path, "the integer needs more than 64 bits")
    if not math.isfinite(value):
        raise invalid(path, "the number is not finite")
    return value
