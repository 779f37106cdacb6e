"""What filters mean, said again in the plainest way, and random filters and metadata to compare with.

Nothing here uses the product's own evaluation: the rules are those of the table in docs/PROTOCOL.md.
"""

from typing import Any, Final

from hypothesis import strategies as st

_NAMES: Final = ["a", "b", "c", "a.b", "a.b.c", "b.$x", ""]
_NUMBERS: Final = [0, 1, -1, 2, 0.5, 1.0, -0.0, 2**53, float(2**53), 2**53 + 1, -(2**63), 2**63 - 1, 1e300]
_TEXTS: Final = ["", "x", "xy", "y", "X", "é", "e\u0301", "\uffff", "\U0001f600", "\U0010ffff", "\ud7ff", "1", "%", "_"]
_SCALARS: Final = st.sampled_from([None, True, False, *_NUMBERS, *_TEXTS])
_VALUES: Final = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=2)
)
METADATA: Final = st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=3)

_ORDERED: Final = st.sampled_from([*_NUMBERS, *_TEXTS])
_OPERATORS: Final = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$contains"]), _SCALARS),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), _ORDERED),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(_SCALARS, max_size=3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$prefix"), st.sampled_from(_TEXTS)),
)
_OPERATOR_OBJECTS: Final = st.lists(_OPERATORS, min_size=1, max_size=2).map(dict)
_FIELDS: Final = st.dictionaries(
    st.sampled_from(_NAMES),
    _SCALARS | _OPERATOR_OBJECTS | st.builds(lambda inner: {"$not": inner}, _OPERATOR_OBJECTS),
    min_size=1,
    max_size=2,
)


def _deeper(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    logical = st.fixed_dictionaries({}, optional={"$and": several, "$or": several, "$not": inner}).filter(bool)
    return st.builds(lambda fields, more: {**fields, **more}, _FIELDS | st.just({}), logical)


# Three objects deep and a `$not` under a name: within the limit of five.
FILTERS: Final = _FIELDS | _deeper(_FIELDS | _deeper(_FIELDS))


def holds(conditions: dict[str, Any], metadata: dict[str, Any]) -> bool:
    return all(_condition(name, operand, metadata) for name, operand in conditions.items())


def _condition(name: str, operand: Any, metadata: dict[str, Any]) -> bool:
    if name == "$and":
        return all(holds(each, metadata) for each in operand)
    if name == "$or":
        return any(holds(each, metadata) for each in operand)
    if name == "$not":
        return not holds(operand, metadata)
    values = [value for path, value in _flattened(metadata, []) if path == name]
    return _operators(operand if isinstance(operand, dict) else {"$eq": operand}, values)


def _operators(operators: dict[str, Any], values: list[Any]) -> bool:
    for operator, operand in operators.items():
        if operator == "$not":
            result = not _operators(operand, values)
        elif operator == "$ne":
            result = not any(_equal(value, operand) for value in values)
        elif operator == "$nin":
            result = not any(_equal(value, each) for value in values for each in operand)
        elif operator == "$exists":
            result = bool(values) == operand
        else:
            result = any(_compared(operator, value, operand) for value in values)
        if not result:
            return False
    return True


def _compared(operator: str, value: Any, operand: Any) -> bool:
    if operator == "$eq":
        return _equal(value, operand)
    if operator == "$in":
        return any(_equal(value, each) for each in operand)
    if operator == "$contains":
        if isinstance(value, list):
            return any(_equal(each, operand) for each in value)
        return isinstance(value, str) and isinstance(operand, str) and value.find(operand) >= 0
    if operator == "$prefix":
        return isinstance(value, str) and value[: len(operand)] == operand
    return _kind(value) == _kind(operand) and _kind(value) in {"number", "text"} and _ordered(operator, value, operand)


def _ordered(operator: str, value: Any, operand: Any) -> bool:
    left, right = (
        ([ord(letter) for letter in value], [ord(letter) for letter in operand])
        if isinstance(value, str)
        else (value, operand)
    )
    smaller, equal = left < right, left == right
    return {"$lt": smaller, "$lte": smaller or equal, "$gt": not (smaller or equal), "$gte": not smaller}[operator]


def _equal(value: Any, operand: Any) -> bool:
    return _kind(value) == _kind(operand) and bool(value == operand)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "boolean"
    return {int: "number", float: "number", str: "text"}.get(type(value), "other")


def _flattened(value: dict[str, Any], above: list[str]) -> list[tuple[str, Any]]:
    found = []
    for key, part in value.items():
        found.append((".".join([*above, key]), part))
        if isinstance(part, dict):
            found += _flattened(part, [*above, key])
    return found
