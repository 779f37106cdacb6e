"""What agents need to know before they ask: where a document of some id is, and which fields a collection's metadata has.

Each look is a few seeks in an index, whatever the size of the collections.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from retrieval.fields import KINDS
from shared.filters import Kind
from shared.sql_values import listed

_KIND_NAMES: Final[dict[int, Kind]] = {number: name for name, number in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Field:
    """`kinds` are those that its values have in any document, `elements` those of the elements of its lists."""

    name: str
    kinds: tuple[Kind, ...]
    elements: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Fields:
    """Of one collection, by name. `is_all` is false where there are more."""

    collection: str
    fields: tuple[Field, ...]
    is_all: bool


def find_holders(connection: sqlite3.Connection, tenant: str, document_ids: Iterable[str]) -> dict[str, list[str]]:
    """The tenant's collections that have a document of this id, for each id that is in any."""
    holders: dict[str, list[str]] = {}
    rows = connection.execute(
        "SELECT wanted.value, c.name FROM json_each(?) wanted CROSS JOIN collections c "
        "JOIN documents d ON d.collection_id = c.id AND d.document_id = wanted.value "
        "WHERE c.tenant = ? ORDER BY wanted.key, c.name",
        (listed(sorted(set(document_ids))), tenant),
    )
    for document_id, collection in rows:
        holders.setdefault(document_id, []).append(collection)
    return holders


def find_fields(
    connection: sqlite3.Connection, collections: Sequence[tuple[int, str]], *, fields_max: int
) -> list[Fields]:
    """Of each collection, given by id and name."""
    return [_fields_of(connection, *each, fields_max) for each in collections]


def _fields_of(connection: sqlite3.Connection, collection_id: int, name: str, fields_max: int) -> Fields:
    found: list[Field] = []
    path = ""  # that of the row which every document has
    while True:
        following = connection.execute(
            "SELECT path FROM fields WHERE collection_id = ? AND path > ? ORDER BY path LIMIT 1", (collection_id, path)
        ).fetchone()
        if following is None:
            return Fields(name, tuple(found), is_all=True)
        if len(found) == fields_max:
            return Fields(name, tuple(found), is_all=False)
        path = following[0]
        found.append(Field(path, *(_kinds(connection, collection_id, path, is_element=each) for each in (False, True))))


def _kinds(connection: sqlite3.Connection, collection_id: int, path: str, *, is_element: bool) -> tuple[Kind, ...]:
    rows = connection.execute(
        "SELECT k.value FROM json_each(?) k WHERE EXISTS (SELECT 1 FROM fields "
        "WHERE collection_id = ? AND path = ? AND kind = k.value AND is_element = ?) ORDER BY k.value",
        (listed(list(_KIND_NAMES)), collection_id, path, int(is_element)),
    )
    return tuple(_KIND_NAMES[kind] for (kind,) in rows)
