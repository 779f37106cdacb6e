"""A retrieval service's data at a size that nobody wants to wait for: real words, and vectors around real ones.

Embedding 100,000 chunks on two cores takes an hour, and their vectors would cost a search no other time than these do: each
lies between two of a thousand real vectors, with some noise, and its words are some of theirs, by the same share. So words and
vectors agree as far as they do in real texts, and near ones are nearer than others; were they unrelated or all alike, a hybrid
search would have nothing to go by. All is written through the service's own store, in the transactions that ingest uses.
"""

import asyncio
import hashlib
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import Progress

from benchmarks.data import SEED, read_passages
from diptych import DocumentIn
from retrieval.collection_rows import put_collection
from retrieval.document_writes import commit_document
from retrieval.embedder import Embedder
from retrieval.records import CollectionRow, Item, Piece, PreparedDocument
from retrieval.schema import migrations
from shared.database import Database
from shared.retrieval_messages import CollectionSpec
from shared.vectors import Float32Array

COLLECTION: Final = "filled"
# Enough that no cluster is a large part of the whole, few enough to embed in a moment.
_CENTRES: Final = 1000
# Of each number of a vector: no two are the same, and most of the likeness stays.
_NOISE: Final = 0.02
_CHUNKS_PER_DOCUMENT: Final = 4
_RUN_WORDS: Final = 8
_DOCUMENTS_PER_UNIT: Final = 500

# A passage and its vector.
_Centre = tuple[str, Float32Array]
_Document = tuple[Item, PreparedDocument, list[bytes]]


def fill(directory: Path, data_dir: Path, embedder: Embedder, chunks: int, progress: Progress) -> None:
    """A new `retrieval.db` in `directory` with one collection of `chunks` chunks. Blocking."""
    texts = read_passages(data_dir)
    chosen = random.Random(SEED).sample(texts, _CENTRES)  # noqa: S311 - a repeatable choice, no secret
    centres = np.concatenate(
        [embedder.embed(chosen[at : at + 16], "document") for at in progress.track(range(0, _CENTRES, 16))]
    )
    near = list(zip(chosen, centres, strict=True))
    asyncio.run(_fill(directory, embedder.name, chunks, near, progress))


async def _fill(directory: Path, model: str, chunks: int, near: Sequence[_Centre], progress: Progress) -> None:
    database = Database.open(directory / "retrieval.db", migrations, readers=1)
    try:
        row = await database.write(
            lambda connection: put_collection(connection, "default", COLLECTION, CollectionSpec(), model)
        )
        task = progress.add_task("filling", total=chunks)
        for documents in _units(chunks, near, row):

            def unit(connection: sqlite3.Connection, documents: list[_Document] = documents) -> None:
                for item, prepared, vectors in documents:
                    commit_document(connection, item, prepared, {model: vectors}, item.document_id.encode())

            await database.write(unit)
            progress.advance(task, sum(len(prepared.pieces) for _, prepared, _ in documents))
    finally:
        await asyncio.to_thread(database.close)


def _units(chunks: int, near: Sequence[_Centre], row: CollectionRow) -> Iterator[list[_Document]]:
    choice, noise = random.Random(SEED), np.random.default_rng(SEED)  # noqa: S311 - as above
    unit: list[_Document] = []
    for number, first in enumerate(range(0, chunks, _CHUNKS_PER_DOCUMENT)):
        count = min(_CHUNKS_PER_DOCUMENT, chunks - first)
        mixed = [_mixed(choice.choice(near), choice.choice(near), choice) for _ in range(count)]
        vectors = np.stack([vector for _, vector in mixed])
        vectors = vectors + noise.normal(scale=_NOISE, size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        prepared = _document([text for text, _ in mixed])
        # Fields that keep a tenth, a hundredth and a thousandth of the chunks.
        metadata = {"tenth": number % 10, "hundredth": number % 100, "thousandth": number % 1000}
        document = DocumentIn(text=prepared.text, metadata=metadata)
        item = Item(accepted=0, ordinal=0, collection=row, document=document, document_id=f"d{number}", attempt=1)
        unit.append((item, prepared, [vector.astype("<f4").tobytes() for vector in vectors]))
        if len(unit) == _DOCUMENTS_PER_UNIT:
            yield unit
            unit = []
    if unit:
        yield unit


def _mixed(one: _Centre, other: _Centre, choice: random.Random) -> _Centre:
    """Some of the words of each, runs of them kept together, and the vector between theirs, by the same share."""
    share = choice.uniform(0.0, 1.0)
    parts = [run for run in _runs(one[0]) if choice.random() < share]
    parts += [run for run in _runs(other[0]) if choice.random() >= share]
    return " ".join(parts) or one[0], share * one[1] + (1.0 - share) * other[1]


def _runs(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + _RUN_WORDS]) for at in range(0, len(words), _RUN_WORDS)]


def _document(texts: Sequence[str]) -> PreparedDocument:
    pieces, start = [], 0
    for text in texts:
        digest = hashlib.sha256(text.encode()).digest()
        piece = Piece(start=start, end=start + len(text), headings=(), text=text, embed_text=text, embed_hash=digest)
        pieces.append(piece)
        start = piece.end + 1
    return PreparedDocument(title="", content_type="text/plain", text="\n".join(texts), pieces=tuple(pieces))


def filled_vectors(directory: Path) -> Float32Array:
    """Of every chunk in order, shape (chunks, d)."""
    with closing(sqlite3.connect(directory / "retrieval.db")) as connection:
        rows = connection.execute("SELECT vector FROM vectors ORDER BY chunk_id").fetchall()
    return np.frombuffer(b"".join(row[0] for row in rows), dtype="<f4").reshape(len(rows), -1).astype(np.float32)


def filled_texts(directory: Path) -> list[str]:
    """Of every chunk in order."""
    with closing(sqlite3.connect(directory / "retrieval.db")) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM chunks ORDER BY id")]
