"""Addresses of resources: `scheme://{first}/{second}` with percent-encoded values. Pure."""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, unquote

_VARIABLE = re.compile(r"\{(\w+)\}")


def address(template: str, **values: str) -> str:
    return _VARIABLE.sub(lambda found: quote(values[found[1]], safe=""), template)


def variables_of(template: str) -> tuple[str, ...]:
    return tuple(_VARIABLE.findall(template))


def match(template: str, uri: str) -> Mapping[str, str] | None:
    """The values in `uri`, or None where it has another shape."""
    found = _pattern(template).fullmatch(uri)
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


@lru_cache(maxsize=64)
def _pattern(template: str) -> re.Pattern[str]:
    parts = _VARIABLE.split(template)
    literal, names = parts[::2], parts[1::2]
    groups = [f"(?P<{name}>[^/?#]+)" for name in names]
    return re.compile("".join(re.escape(text) + group for text, group in zip(literal, [*groups, ""], strict=True)))
