"""JSON to text that embeds and finds well: a line `key: value` for each value, under the keys that lead to it. Pure.

Braces, quotes and indentation are a fifth of the tokens of pretty JSON and mean nothing to a model or to a word index.
A large object becomes a section with its key as the heading; in a list each item is a block of its own, which says its
keys again and so can be read alone.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.composing import Composer
from retrieval.conversion.limits import Limits, Unreadable
from shared.content_types import JSON, JSON_LINES

# A smaller object is told in lines with dotted keys, rather than cut off under a heading of its own.
_SECTION_CHARACTERS: Final = 240
_HEADINGS_DEEP_MAX: Final = 4


def convert_json(text: str, limits: Limits) -> Parsed:
    """Raises Unreadable."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise Unreadable(f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    composer = Composer(limits)
    _compose(composer, value, level=1)
    return composer.finish(JSON)


def convert_json_lines(text: str, limits: Limits) -> Parsed:
    """Raises Unreadable."""
    composer = Composer(limits)
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            composer.paragraph("\n".join(_lines(json.loads(line), "")))
        except json.JSONDecodeError as error:
            raise Unreadable(f"not valid JSON: {error.msg} at line {number}, column {error.colno}") from error
    return composer.finish(JSON_LINES)


def _compose(composer: Composer, value: Any, level: int) -> None:
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        for item in value:
            composer.paragraph("\n".join(_lines(item, "")))
    elif isinstance(value, dict) and level <= _HEADINGS_DEEP_MAX:
        sections = [(key, part) for key, part in value.items() if _is_section(part)]
        small = {key: part for key, part in value.items() if not _is_section(part)}
        composer.paragraph("\n".join(_lines(small, "")))
        for key, part in sections:
            composer.heading(key or '""', level)
            _compose(composer, part, level + 1)
    else:
        composer.paragraph("\n".join(_lines(value, "")))


def _is_section(value: Any) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    length = 0
    for line in _lines(value, ""):
        length += len(line)
        if length > _SECTION_CHARACTERS:
            return True
    return False


def _lines(value: Any, key: str) -> Iterator[str]:
    match value:
        case dict() if value:
            for name, part in value.items():
                yield from _lines(part, f"{key}.{name}" if key else name)
        case list() if any(isinstance(item, (dict, list)) for item in value):
            for item in value:
                yield from _lines(item, key)
        case _:
            text = _scalar(value)
            if text:
                yield f"{key}: {text}" if key else text


def _scalar(value: Any) -> str:
    match value:
        case str():
            return value
        case list():
            return ", ".join(_scalar(item) for item in value)
        case dict():
            return ""
        case _:
            return json.dumps(value, ensure_ascii=False)
