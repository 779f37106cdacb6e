"""A filter as SQL over the table of fields. Pure but for one question: about how many rows a condition has.

The statement walks the documents of one part of the filter, its driver, and asks of each what the other parts say. The
driver is the part with the fewest rows, so a rare condition makes every filter that needs it fast. Another part is asked
in the cheaper of two ways: as a set, which is made once, where it is not much larger than the driver, and else by looking
at the document's own fields. Nothing else enumerates all documents of the collection but a filter that only excludes.

Rejected: INTERSECT and EXCEPT of the parts' sets. At 100,000 documents and two conditions that 1 % and 90 % of them meet,
they took 55 ms, and this 2.7 ms, because SQLite makes the large set first.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from retrieval.truth.fields import KIND_DOCUMENT, KINDS
from shared.filters import (
    All,
    AnyOf,
    Compares,
    Contains,
    Equals,
    Exists,
    Filter,
    Kind,
    Leaf,
    Not,
    Scalar,
    StartsWith,
    kind_of,
)

# Counting rows costs 50 ns each. What all conditions of a filter may spend on it together: about a millisecond.
_COUNTED_ROWS_MAX: Final = 20_000
_COUNTED_ROWS_MIN: Final = 200
# A row of a set costs a quarter of a look at a document's fields.
_SET_ROWS_PER_LOOK: Final = 4
_ORDERS: Final = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_SURROGATES: Final = range(0xD800, 0xE000)
_CODE_POINT_MAX: Final = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    values: list[Any]


# How many rows a statement gives: an answer of the database.
Count = Callable[[Statement], int]


def documents_statement(collection_id: int, part: Filter, count: Count) -> Statement:
    """The matching documents' row ids, as column `document`; some may come twice."""
    writer = _Writer(collection_id, part, count)
    return Statement(f"SELECT document FROM ({writer.documents(part)})", writer.values)


def chunks_statement(collection_id: int, part: Filter, count: Count) -> Statement:
    """Two texts: each matching document's first chunk, and how many it has, separated by commas, or NULL.

    One row because each that leaves SQLite takes the interpreter's lock again: 10,000 of them took twice as long even
    alone.
    """
    writer = _Writer(collection_id, part, count)
    sql = f"SELECT group_concat(first_chunk), group_concat(chunks) FROM ({writer.documents(part)})"
    return Statement(sql, writer.values)


class _Writer:
    """Writes one statement, collecting the values that it binds."""

    def __init__(self, collection_id: int, part: Filter, count: Count) -> None:
        # In the order of the text. Values without names: SQLite looks each name up among all others.
        self.values: list[Any] = []
        self._collection_id = collection_id
        self._count = count
        leaves = sum(1 for _ in _leaves(part))
        self._counted_max = max(_COUNTED_ROWS_MIN, _COUNTED_ROWS_MAX // max(1, leaves))
        self._sizes: dict[int, float] = {}

    def documents(self, part: Filter) -> str:
        """A query for the matching rows of the table, with the document and its chunks."""
        match part:
            case All(parts):
                return self._all(_flat(parts))
            case AnyOf(parts):
                # Wrapped only where it must be: SQLite takes milliseconds to unwrap each.
                found = (self.documents(each) for each in parts)
                return " UNION ALL ".join(
                    each if isinstance(inner, _LEAVES) else f"SELECT * FROM ({each})"
                    for inner, each in zip(parts, found, strict=True)
                )
            case Not():
                return self._all([part])
            case _:
                return self._walk(part)

    def _all(self, parts: Sequence[Filter]) -> str:
        driver = min(parts, key=self._size, default=None)
        if driver is None or self._size(driver) == inf:
            self.values.append(self._collection_id)
            walked, size, others = f"{_WALK} WHERE collection_id = ? AND {_EVERY_DOCUMENT}", inf, parts
        else:
            walked, size = self.documents(driver), self._size(driver)
            others = [part for part in parts if part is not driver]
        if not others:
            return walked
        tests = " AND ".join(self._test(part, size) for part in others)
        return f"SELECT d.document, d.first_chunk, d.chunks FROM ({walked}) d WHERE {tests}"

    def _test(self, part: Filter, asked: float) -> str:
        """Whether document `d` matches, for about so many documents."""
        match part:
            case All(parts):
                return f"({' AND '.join(self._test(each, asked) for each in parts) or '1'})"
            case AnyOf(parts):
                return f"({' OR '.join(self._test(each, asked) for each in parts)})"
            case Not(inner):
                return f"NOT {self._test(inner, asked)}"
            case _:
                if self._size(part) <= asked * _SET_ROWS_PER_LOOK:
                    return f"d.document IN ({self._set(part)})"
                looks = (f"EXISTS ({_LOOK} AND {where})" for where in self._ranges(part))
                return f"({' OR '.join(looks)})"

    def _walk(self, leaf: Leaf) -> str:
        return " UNION ALL ".join(f"{_WALK} WHERE {where}" for where in self._ranges(leaf))

    def _set(self, leaf: Leaf) -> str:
        return " UNION ALL ".join(f"{_SEARCH} WHERE {where}" for where in self._ranges(leaf))

    def _ranges(self, leaf: Leaf) -> list[str]:
        """A leaf as ranges of the table's key. An empty list of values is one empty range."""
        found = []
        for where, values in _conditions(leaf):
            self.values += [self._collection_id, leaf.path, *values]
            found.append(f"collection_id = ? AND path = ? AND {where}")
        return found or ["0"]

    def _size(self, part: Filter) -> float:
        """About how many documents a part has, infinite where it cannot be walked."""
        match part:
            case All(parts):
                return min(map(self._size, parts), default=inf)
            case AnyOf(parts):
                return sum(map(self._size, parts))
            case Not():
                return inf
            case _:
                if id(part) not in self._sizes:
                    self._sizes[id(part)] = self._counted(part)
                return self._sizes[id(part)]

    def _counted(self, leaf: Leaf) -> int:
        if isinstance(leaf, Equals) and not leaf.values:
            return 0
        # Texts are counted before they are looked through, which is what takes the time.
        counted = Exists(leaf.path) if isinstance(leaf, Contains) else leaf
        writer = _Writer(self._collection_id, counted, self._count)
        some = f"SELECT 1 FROM ({writer.documents(counted)}) LIMIT {self._counted_max}"
        return self._count(Statement(f"SELECT count(*) FROM ({some})", writer.values))


_LEAVES: Final = (Compares, Contains, Equals, Exists, StartsWith)
_WALK: Final = "SELECT document, first_chunk, chunks FROM fields"
_EVERY_DOCUMENT: Final = f"path = '' AND kind = {KIND_DOCUMENT} AND is_element = 0"
_SEARCH: Final = "SELECT document FROM fields"
_LOOK: Final = "SELECT 1 FROM fields INDEXED BY fields_by_document WHERE document = d.document"


def _conditions(leaf: Leaf) -> list[tuple[str, Sequence[Any]]]:
    """What rows of one path must be, with the values to bind: any of these."""
    match leaf:
        case Equals(_, values):
            return [
                (f"{_of(kind)} AND value IN ({', '.join('?' * len(found))})", found) for kind, found in _by_kind(values)
            ]
        case Compares(_, order, bound):
            return [(f"{_of(kind_of(bound))} AND value {_ORDERS[order]} ?", [bound])]
        case StartsWith(_, text):
            below = _after_prefix(text)
            upper = ("", [text]) if below is None else (" AND value < ?", [text, below])
            return [(f"{_of('text')} AND value >= ?{upper[0]}", upper[1])]
        case Contains(_, value):
            element = (f"{_of(kind_of(value), is_element=1)} AND value = ?", [_stored(value)])
            part = (f"{_of('text')} AND instr(value, ?) > 0", [value])
            return [element, part] if isinstance(value, str) else [element]
        case Exists():
            return [(f"kind IN ({', '.join(map(str, KINDS.values()))}) AND is_element = 0", [])]


def _of(kind: Kind, *, is_element: int = 0) -> str:
    return f"kind = {KINDS[kind]} AND is_element = {is_element}"


def _stored(value: Scalar) -> str | int | float:
    return 0 if value is None else value


def _by_kind(values: Iterable[Scalar]) -> list[tuple[Kind, list[str | int | float]]]:
    found: dict[Kind, list[str | int | float]] = {}
    for value in values:
        found.setdefault(kind_of(value), []).append(_stored(value))
    return list(found.items())


def _flat(parts: Iterable[Filter]) -> list[Filter]:
    found: list[Filter] = []
    for part in parts:
        found += _flat(part.parts) if isinstance(part, All) else [part]
    return found


def _leaves(part: Filter) -> Iterable[Leaf]:
    match part:
        case All(parts) | AnyOf(parts):
            for each in parts:
                yield from _leaves(each)
        case Not(inner):
            yield from _leaves(inner)
        case _:
            yield part


def _after_prefix(prefix: str) -> str | None:
    """The first text, by code points, after all that start with the prefix; None where there is none."""
    kept = prefix.rstrip(chr(_CODE_POINT_MAX))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # No text has surrogates in it.
    return kept[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
