"""Documents with vectors of their own, put into the data of a service that is not running, by its own store.

A service embeds what it is given, a few dozen texts a second; a benchmark of searches wants a hundred thousand, and cares
for their number. They are written in the transactions that ingest uses, so what a service finds is what it would have made.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from diptych import DocumentIn
from retrieval.truth.collection_rows import put_collection
from retrieval.truth.document_writes import commit_document
from retrieval.truth.records import CollectionRow, Item, Piece, PreparedDocument
from retrieval.truth.schema import migrations
from shared.database import Database
from shared.retrieval_messages import CollectionSpec
from shared.vectors import Float32Array

_DOCUMENTS_PER_UNIT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A document of one chunk a text. `vectors` has shape (texts, d)."""

    document_id: str
    texts: list[str]
    vectors: Float32Array
    metadata: dict[str, Any]


def store(
    directory: Path, collection: str, model: str, documents: Iterable[Given], on_stored: Callable[[int], object]
) -> None:
    """Makes `retrieval.db` in `directory`, and the collection in it. Chunks get ids from 1 in order. `on_stored` hears of
    chunks as they are stored. Blocking."""
    named = ((collection, given) for given in documents)
    asyncio.run(_store(directory, model, named, on_stored))


def store_collections(
    directory: Path, model: str, documents: Iterable[tuple[str, Given]], on_stored: Callable[[int], object]
) -> None:
    """As `store`, for documents of many collections, each with the name of its own."""
    asyncio.run(_store(directory, model, documents, on_stored))


async def _store(
    directory: Path, model: str, documents: Iterable[tuple[str, Given]], on_stored: Callable[[int], object]
) -> None:
    database = Database.open(directory / "retrieval.db", migrations, readers=1)
    try:
        for some in _units(documents):

            def unit(connection: sqlite3.Connection, some: list[tuple[str, Given]] = some) -> None:
                rows = {
                    name: put_collection(connection, "default", name, CollectionSpec(), model)
                    for name in dict.fromkeys(name for name, _ in some)
                }
                for name, given in some:
                    _commit(connection, rows[name], model, given)

            await database.write(unit)
            on_stored(sum(len(given.texts) for _, given in some))
    finally:
        await asyncio.to_thread(database.close)


def _units(documents: Iterable[tuple[str, Given]]) -> Iterator[list[tuple[str, Given]]]:
    left = iter(documents)
    while some := list(islice(left, _DOCUMENTS_PER_UNIT)):
        yield some


def _commit(connection: sqlite3.Connection, row: CollectionRow, model: str, given: Given) -> None:
    prepared = _prepared(given.texts)
    document = DocumentIn(text=prepared.text, metadata=given.metadata)
    item = Item(accepted=0, ordinal=0, collection=row, document=document, document_id=given.document_id, attempt=1)
    vectors = [vector.astype("<f4").tobytes() for vector in given.vectors]
    commit_document(connection, item, prepared, {model: vectors}, given.document_id.encode())


def _prepared(texts: list[str]) -> PreparedDocument:
    pieces, start = [], 0
    for text in texts:
        digest = hashlib.sha256(text.encode()).digest()
        piece = Piece(start=start, end=start + len(text), headings=(), text=text, embed_text=text, embed_hash=digest)
        pieces.append(piece)
        start = piece.end + 1
    return PreparedDocument(title="", content_type="text/plain", text="\n".join(texts), pieces=tuple(pieces))
