"""A large collection without waiting for a model: rows written straight into the service's database while it is stopped.

Unit vectors in clusters (uniform noise would have no neighbours worth finding), texts of words by Zipf's law, one chunk a
document, and metadata that keeps 10 %, 1 % and 0.1 % of them.
"""

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

COLLECTION: Final = "synthetic"
DIMENSIONS: Final = 384
# Of so many equal parts, a document is in one: a filter by that number keeps the rest of a hundred percent out.
PARTS: Final = {"10 %": ("tenth", 10), "1 %": ("hundredth", 100), "0.1 %": ("thousandth", 1000)}
_CLUSTERS: Final = 200
_SPREAD: Final = 0.7
_VOCABULARY: Final = 20_000
_WORDS: Final = 60
_QUERY_WORDS: Final = 6
_ROWS_TOGETHER: Final = 5000
# As retrieval/fields.py has them.
_KIND_NUMBER: Final = 2
_KIND_DOCUMENT: Final = 6


@dataclass(frozen=True, slots=True)
class Synthetic:
    """`vectors` has shape (chunks, d); row i is the chunk with id i + 1. `parts` holds each chunk's number, by field."""

    vectors: NDArray[np.float32]
    parts: dict[str, NDArray[np.int64]]
    centers: NDArray[np.float32]

    def query(self, number: int) -> tuple[str, NDArray[np.float32]]:
        """Words and a unit vector near a cluster: the same ones for the same number."""
        random = np.random.default_rng([number, 7])
        center = self.centers[random.integers(len(self.centers))]
        return _text(random, _QUERY_WORDS), _unit(center + _noise(random, 1))[0]

    def nearest(self, vector: NDArray[np.float32], field: str | None, part: int, limit: int) -> set[int]:
        """Exactly, by a plain scan: ids of chunks."""
        scores = self.vectors @ vector
        if field is not None:
            scores = np.where(self.parts[field] == part, scores, -2.0)
        best = np.argsort(-scores, kind="stable")[:limit]
        return {int(row) + 1 for row in best if scores[row] > -2.0}


def make(chunks: int) -> Synthetic:
    random = np.random.default_rng(20_240)
    centers = _unit(random.normal(size=(_CLUSTERS, DIMENSIONS)).astype(np.float32))
    vectors = _unit(centers[random.integers(_CLUSTERS, size=chunks)] + _noise(random, chunks))
    parts = {field: random.integers(count, size=chunks) for field, count in PARTS.values()}
    return Synthetic(vectors, parts, centers)


def fill(data_dir: Path, synthetic: Synthetic, *, model: str) -> None:
    """Into the collection that the stopped service has made, and that is still empty. Blocking."""
    random = np.random.default_rng(1)
    database = next(data_dir.rglob("retrieval.db"))
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        collection_id = connection.execute("SELECT id FROM collections WHERE name = ?", (COLLECTION,)).fetchone()[0]
        for start in range(0, len(synthetic.vectors), _ROWS_TOGETHER):
            for row in range(start, min(start + _ROWS_TOGETHER, len(synthetic.vectors))):
                metadata = {field: int(numbers[row]) for field, numbers in synthetic.parts.items()}
                _insert(connection, collection_id, row + 1, metadata, _text(random, _WORDS))
                connection.execute(
                    "INSERT INTO vectors (chunk_id, model, vector) VALUES (?, ?, ?)",
                    (row + 1, model, synthetic.vectors[row].astype("<f4").tobytes()),
                )


def _insert(connection: sqlite3.Connection, collection_id: int, key: int, metadata: dict[str, int], text: str) -> None:
    now = "2026-01-01T00:00:00+00:00"
    connection.execute(
        "INSERT INTO documents (id, collection_id, document_id, title, uri, content_type, text, metadata, content_hash, "
        "accepted, created_at, updated_at) VALUES (?, ?, ?, '', '', 'text/plain', ?, ?, x'00', 0, ?, ?)",
        (key, collection_id, f"d{key:08}", text, msgspec.json.encode(metadata).decode(), now, now),
    )
    connection.execute(
        "INSERT INTO chunks (id, collection_id, document, ordinal, start, stop, headings, text, embed_hash) "
        "VALUES (?, ?, ?, 0, 0, ?, '[]', ?, x'00')",
        (key, collection_id, key, len(text), text),
    )
    connection.executemany(
        "INSERT INTO fields (collection_id, path, kind, is_element, value, document, first_chunk, chunks) "
        "VALUES (?, ?, ?, 0, ?, ?, ?, 1)",
        [
            (collection_id, "", _KIND_DOCUMENT, 0, key, key),
            *((collection_id, field, _KIND_NUMBER, value, key, key) for field, value in metadata.items()),
        ],
    )
    connection.execute("INSERT INTO ops (collection_id, kind, chunk_id) VALUES (?, 'add', ?)", (collection_id, key))


def _text(random: np.random.Generator, words: int) -> str:
    # The inverse of the cumulative 1/x distribution.
    ranks = np.exp(random.random(words) * np.log(_VOCABULARY)).astype(int)
    return " ".join(f"w{rank}x" for rank in ranks)


def _noise(random: np.random.Generator, rows: int) -> NDArray[np.float32]:
    noise = random.normal(size=(rows, DIMENSIONS)) * (_SPREAD / DIMENSIONS**0.5)
    found: NDArray[np.float32] = noise.astype(np.float32)
    return found


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = np.atleast_2d(vectors)
    unit: NDArray[np.float32] = np.divide(rows, np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)
    return unit
