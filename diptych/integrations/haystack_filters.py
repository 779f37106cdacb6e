"""Haystack's filters as this protocol's. Pure.

Haystack takes a missing field for None, so its `== None` is ours for "null or missing", and comparing with None by order
is true of nothing. It orders numbers and dates, and refuses to order other texts; so does this.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from haystack.errors import FilterError

_ORDERS: Final = {">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_PREFIX: Final = "meta."


def to_filter(filters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """None where there is nothing to narrow. Raises FilterError."""
    if not filters:
        return None
    return _comparison(filters) if "field" in filters else _logic(filters)


def _logic(filters: Mapping[str, Any]) -> dict[str, Any]:
    if "operator" not in filters or "conditions" not in filters:
        raise FilterError("a condition needs 'field', 'operator' and 'value', a group 'operator' and 'conditions'")
    parts = [to_filter(each) for each in filters["conditions"]]
    if not parts or None in parts:
        raise FilterError("'conditions' needs one or more conditions")
    match filters["operator"]:
        case "AND":
            return {"$and": parts}
        case "OR":
            return {"$or": parts}
        case "NOT":
            return {"$not": {"$and": parts}}
        case other:
            raise FilterError(f"unknown operator {other!r} for conditions; use AND, OR or NOT")


def _comparison(filters: Mapping[str, Any]) -> dict[str, Any]:
    if "operator" not in filters or "value" not in filters:
        raise FilterError(f"the condition on {filters['field']!r} needs 'operator' and 'value'")
    name, operator, value = filters["field"], filters["operator"], filters["value"]
    if not name.startswith(_PREFIX):
        raise FilterError(f"only metadata can be filtered by, as in 'meta.name'; not {name!r}")
    name = name.removeprefix(_PREFIX)
    match operator:
        case "==":
            return {"$or": [{name: None}, {name: {"$exists": False}}]} if value is None else {name: {"$eq": value}}
        case "!=":
            return {name: {"$ne": None, "$exists": True}} if value is None else {name: {"$ne": value}}
        case ">" | ">=" | "<" | "<=":
            return {name: _order(operator, value)}
        case "in" | "not in":
            if not isinstance(value, list):
                raise FilterError(f"{operator!r} needs a list")
            return {name: {"$in" if operator == "in" else "$nin": value}}
        case _:
            raise FilterError(f"unknown operator {operator!r}")


def _order(operator: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {"$in": []}
    if isinstance(value, str):
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise FilterError(f"{operator!r} orders numbers and ISO dates, not {value!r}") from error
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise FilterError(f"{operator!r} orders numbers and ISO dates, not {type(value).__name__}")
    return {_ORDERS[operator]: value}
