"""Metadata as rows that SQL can search: one for each value under a dotted name, one for each element of a list, and
one for the document itself. Pure.

What a row is must not change once released: a migration has filled the table with them. Another shape is another table.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.filters import Kind, kind_of

# A row that every document has, so that those without a field can be found in the same table.
KIND_DOCUMENT: Final = 6
# Numbers as SQLite stores them, so that the table sorts by kind.
KINDS: Final[dict[Kind, int]] = {"null": 0, "boolean": 1, "number": 2, "text": 3, "list": 4, "object": 5}

# path, kind, is_element, value
FieldRow = tuple[str, int, int, str | int | float]


def field_rows(metadata: Mapping[str, Any]) -> Iterator[FieldRow]:
    """Rows of a metadata object; the same row may come twice."""
    yield "", KIND_DOCUMENT, 0, 0
    yield from _rows(metadata, "")


def _rows(metadata: Mapping[str, Any], prefix: str) -> Iterator[FieldRow]:
    for key, value in metadata.items():
        path = f"{prefix}{key}"
        yield _row(path, value, is_element=False)
        match value:
            case Mapping():
                yield from _rows(value, f"{path}.")
            case list():
                yield from (_row(path, each, is_element=True) for each in value if not isinstance(each, dict | list))


def _row(path: str, value: Any, *, is_element: bool) -> FieldRow:
    kind = kind_of(value)
    return path, KINDS[kind], int(is_element), 0 if kind in {"null", "list", "object"} else value
