"""Filters as agents write them, to the filter language (shared/filters.py). Pure.

    {"lang": "en", "year": {"gte": 2020}, "tags": {"contains": "x"}}

Models leave out the language's dollar sign, and know nothing of its kinds of values. What would find nothing for certain (a
field that no document has, a number where a field holds texts) is refused with what there is, because an agent takes an
empty answer for a fact.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from retrieval.truth.lookups import Field
from shared.errors import InvalidFields, invalid
from shared.filters import Kind, kind_of, parse_filter

OPERATORS: Final = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "contains")
_LISTED: Final = ", ".join(OPERATORS)
_ORDERS: Final = frozenset({"gt", "gte", "lt", "lte"})
_FIELDS_SHOWN_MAX: Final = 30


def filter_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Raises InvalidFields that names the field and the operators."""
    found = {name: _condition(name, value) for name, value in given.items()}
    try:
        parse_filter(found, path="filter")
    except InvalidFields as error:
        # In the words that it was written in.
        told = error.errors[0]
        raise invalid(told.path.replace(".$", "."), told.message.replace("$", "")) from error
    return found


def unknown_fields(given: Mapping[str, Any], fields: Sequence[Field]) -> list[str]:
    """`given` as it comes from `filter_of`, and those of its fields that are in anything that is searched. Raises InvalidFields
    for a value that a field never has."""
    known = _by_name(fields)
    for name, condition in given.items():
        if name in known:
            _check_kinds(name, condition, known[name])
    return [name for name in given if name not in known]


def unknown_field(name: str, fields: Sequence[Field], where: str) -> InvalidFields:
    """An error that lists the fields that there are."""
    listed = [f"{each} ({kind})" for each, found in _by_name(fields).items() if (kind := type_of(found))]
    if not listed:
        return invalid(f"filter.{name}", f"documents in {where} have no metadata to filter by; leave the filter out")
    more = f" and {len(listed) - _FIELDS_SHOWN_MAX} more" if len(listed) > _FIELDS_SHOWN_MAX else ""
    return invalid(
        f"filter.{name}",
        f"no document in {where} has this field. Fields: {', '.join(listed[:_FIELDS_SHOWN_MAX])}{more}",
    )


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


def _by_name(fields: Sequence[Field]) -> dict[str, list[Field]]:
    found: dict[str, list[Field]] = {}
    for field in fields:
        found.setdefault(field.name, []).append(field)
    return found
