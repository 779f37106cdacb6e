"""Filters as agents write them, to the filter language (shared/filters.py). Pure.

    {"lang": "en", "year": {"gte": 2020}, "tags": {"contains": "x"}}

Models leave out the language's dollar sign, and know nothing of its kinds of values. What would find nothing for certain (a
field that no document has, a number where a field holds texts) is refused with what there is, because an agent takes an
empty answer for a fact.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from retrieval.lookups import Field
from shared.errors import InvalidFields, invalid
from shared.filters import Kind, kind_of

OPERATORS: Final = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "contains")
_LISTED: Final = ", ".join(OPERATORS)
_ORDERS: Final = frozenset({"gt", "gte", "lt", "lte"})
_FIELDS_SHOWN_MAX: Final = 30


def filter_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises InvalidFields that names the field and the operators."""
    return {name: _condition(name, value) for name, value in given.items()}


def check_fields(given: Mapping[str, Any], fields: Sequence[Field], *, is_all: bool, where: str) -> None:
    """`given` as it comes from `filter_of`, `fields` of everything that is searched, unless `is_all` is false. Raises
    InvalidFields."""
    known: dict[str, list[Field]] = {}
    for field in fields:
        known.setdefault(field.name, []).append(field)
    for name, condition in given.items():
        if name in known:
            _check_kinds(name, condition, known[name])
        elif is_all:
            raise _unknown_field(name, known, where)


def type_of(fields: Sequence[Field]) -> str:
    """In words: `number`, `text or list of text`. Empty where there are no values to compare, only fields below it."""
    kinds = {kind for field in fields for kind in field.kinds}
    elements = sorted({kind for field in fields for kind in field.elements} - {"null"})
    words: list[str] = sorted(kinds & {"boolean", "number", "text"})
    if "list" in kinds:
        words.append(f"list of {' or '.join(elements)}" if elements else "list")
    return " or ".join(words) or ("null" if "null" in kinds and "object" not in kinds else "")


def _condition(name: str, value: Any) -> Any:
    if name.startswith("$"):
        raise invalid(
            f"filter.{name}", f"name a field here; all fields given must match. Operators of a field: {_LISTED}"
        )
    if isinstance(value, Mapping):
        if not value:
            raise invalid(f"filter.{name}", f"give a value or an operator: {_LISTED}")
        return {_operator(name, operator): operand for operator, operand in value.items()}
    if isinstance(value, list):
        raise invalid(f"filter.{name}", 'for one of several values write {"in": [...]}')
    return {"$eq": value}


def _operator(name: str, operator: str) -> str:
    # Some models know the language with its dollar signs.
    plain = operator.removeprefix("$")
    if plain not in OPERATORS:
        inner = f"; for a field inside another write '{name}.{operator}'" if not operator.startswith("$") else ""
        raise invalid(f"filter.{name}", f"there is no operator {operator!r}; the operators are {_LISTED}{inner}")
    return f"${plain}"


def _check_kinds(name: str, condition: Mapping[str, Any], fields: Sequence[Field]) -> None:
    kinds: set[Kind] = {kind for field in fields for kind in field.kinds}
    elements: set[Kind] = {kind for field in fields for kind in field.elements}
    for operator, operand in condition.items():
        values = operand if operator == "$in" and isinstance(operand, list) else [operand]
        possible = elements | (kinds & {"text"}) if operator == "$contains" else kinds
        for value in values:
            if kind_of(value) not in possible | {"null", "list", "object"}:
                raise _wrong_kind(name, operator, value, fields)


def _wrong_kind(name: str, operator: str, value: Any, fields: Sequence[Field]) -> InvalidFields:
    holds, plain = type_of(fields) or "other fields", operator.removeprefix("$")
    if plain != "contains" and holds.startswith("list"):
        return invalid(f"filter.{name}", f"holds {holds}; ask with {{'contains': value}}")
    return invalid(f"filter.{name}", f"holds {holds}, so {plain} {_shown(value)} never fits; give a value of that type")


def _shown(value: Any) -> str:
    return f"{kind_of(value)} {value!r}"[:80]


def _unknown_field(name: str, known: Mapping[str, Sequence[Field]], where: str) -> InvalidFields:
    typed = {each: type_of(fields) for each, fields in known.items()}
    listed = [f"{each} ({kind})" for each, kind in typed.items() if kind]
    if not listed:
        return invalid(f"filter.{name}", f"documents in {where} have no metadata to filter by; leave the filter out")
    more = f" and {len(listed) - _FIELDS_SHOWN_MAX} more" if len(listed) > _FIELDS_SHOWN_MAX else ""
    return invalid(
        f"filter.{name}",
        f"no document in {where} has this field. Fields: {', '.join(listed[:_FIELDS_SHOWN_MAX])}{more}",
    )
