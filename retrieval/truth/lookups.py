"""What agents need to know before they ask: which names there are, where a document of some id is, and which fields the
metadata of a collection has.

Each look is a few seeks in an index, whatever the size of the collections.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from retrieval.truth.fields import KINDS
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
    is_all: bool = True


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


def find_names(connection: sqlite3.Connection, tenant: str, *, prefix: str, limit: int) -> list[str]:
    """Of the tenant's collections, in order, without what it costs to count what is in them."""
    rows = connection.execute(
        "SELECT name FROM collections WHERE tenant = ? AND name >= ? ORDER BY name LIMIT ?", (tenant, prefix, limit)
    )
    # Names that begin with the prefix come first and follow each other.
    return [name for (name,) in rows if name.startswith(prefix)]


def find_ids(connection: sqlite3.Connection, collection_id: int, *, prefix: str, limit: int) -> list[str]:
    """As `find_names`, of a collection's documents."""
    rows = connection.execute(
        "SELECT document_id FROM documents WHERE collection_id = ? AND document_id >= ? ORDER BY document_id LIMIT ?",
        (collection_id, prefix, limit),
    )
    return [document_id for (document_id,) in rows if document_id.startswith(prefix)]


def find_fields(
    connection: sqlite3.Connection,
    collections: Sequence[tuple[int, str]],
    *,
    only: Sequence[str] | None,
    fields_max: int,
) -> list[Fields]:
    """Of each collection, given by id and name: `only` these fields, as far as it has them, or the first ones."""
    if only is None:
        return [_fields_of(connection, *each, fields_max) for each in collections]
    return [
        Fields(name, tuple(field for path in only if (field := _field(connection, collection_id, path)).kinds))
        for collection_id, name in collections
    ]


def _fields_of(connection: sqlite3.Connection, collection_id: int, name: str, fields_max: int) -> Fields:
    found: list[Field] = []
    path = ""  # that of the row which every document has
    while True:
        following = connection.execute(
            "SELECT path FROM fields WHERE collection_id = ? AND path > ? ORDER BY path LIMIT 1", (collection_id, path)
        ).fetchone()
        if following is None:
            return Fields(name, tuple(found))
        if len(found) == fields_max:
            return Fields(name, tuple(found), is_all=False)
        path = following[0]
        found.append(_field(connection, collection_id, path))


def _field(connection: sqlite3.Connection, collection_id: int, path: str) -> Field:
    return Field(path, *(_kinds(connection, collection_id, path, is_element=each) for each in (False, True)))


def _kinds(connection: sqlite3.Connection, collection_id: int, path: str, *, is_element: bool) -> tuple[Kind, ...]:
    rows = connection.execute(
        "SELECT k.value FROM json_each(?) k WHERE EXISTS (SELECT 1 FROM fields "
        "WHERE collection_id = ? AND path = ? AND kind = k.value AND is_element = ?) ORDER BY k.value",
        (listed(list(_KIND_NAMES)), collection_id, path, int(is_element)),
    )
    return tuple(_KIND_NAMES[kind] for (kind,) in rows)
