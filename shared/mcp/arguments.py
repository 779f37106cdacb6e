"""From what a model wrote to a tool's arguments. Pure.

Models guess names from other tools they know, so the usual guesses are taken; whatever else is unknown is refused with the
names that there are, because an option that is silently ignored is a wrong answer that looks right.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from shared.errors import FieldError, InvalidFields
from shared.mcp.catalogue import Tool
from shared.wire import invalid_fields


def arguments_of(tool: Tool, given: Mapping[str, Any]) -> msgspec.Struct:
    """Raises InvalidFields in the tool's own words."""
    names = tool.arguments.__struct_fields__
    lists = _lists_of(tool.arguments)
    values: dict[str, Any] = {}
    for name, value in given.items():
        meant = name if name in names else tool.aliases.get(name)
        if meant is None:
            takes = f"{tool.name} takes: {', '.join(names)}" if names else f"{tool.name} takes no arguments"
            raise _refused(name, f"there is no such argument. {takes}")
        if meant in values:
            raise _refused(meant, f"given twice (as {name!r} too); give it once")
        # A null for what may be left out is how many clients leave it out.
        if value is not None:
            values[meant] = [value] if meant in lists and isinstance(value, str | Mapping) else value
    try:
        found: msgspec.Struct = msgspec.convert(values, tool.arguments)
    except msgspec.ValidationError as error:
        problem = invalid_fields(error, root="").errors[0]
        raise _refused(problem.path.removeprefix("."), problem.message) from error
    return found


@lru_cache(maxsize=64)
def _lists_of(arguments: type[msgspec.Struct]) -> frozenset[str]:
    """Those that take a list and nothing else, but for being left out. One value for it is meant as a list of that."""
    found = msgspec.inspect.type_info(arguments)
    fields = found.fields if isinstance(found, msgspec.inspect.StructType) else ()
    return frozenset(field.name for field in fields if _is_list(field.type))


def _is_list(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.Metadata():
            return _is_list(kind.type)
        case msgspec.inspect.UnionType():
            return all(isinstance(each, msgspec.inspect.NoneType) or _is_list(each) for each in kind.types)
        case _:
            return isinstance(kind, msgspec.inspect.ListType)


def _refused(place: str, message: str) -> InvalidFields:
    return InvalidFields(f"{place}: {message}", errors=[FieldError(place, message)])
