"""A large collection without waiting for a model: made up, and stored while the service is stopped.

Unit vectors in clusters (uniform noise would have no neighbours worth finding), texts of words by Zipf's law, one chunk a
document, and metadata that keeps 10 %, 1 % and 0.1 % of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.stored import Given, store

COLLECTION: Final = "synthetic"
DIMENSIONS: Final = 384
# Of so many equal parts, a document is in one: a filter by that number keeps the rest of a hundred percent out.
PARTS: Final = {"10 %": ("tenth", 10), "1 %": ("hundredth", 100), "0.1 %": ("thousandth", 1000)}
_CLUSTERS: Final = 200
_SPREAD: Final = 0.7
_VOCABULARY: Final = 20_000
_WORDS: Final = 60
_QUERY_WORDS: Final = 6


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


def fill(directory: Path, synthetic: Synthetic, *, model: str) -> None:
    """The collection, in the folder of a service that has no data yet. Blocking."""
    random = np.random.default_rng(1)
    documents = (
        Given(
            document_id=f"d{row + 1:08}",
            texts=[_text(random, _WORDS)],
            vectors=vector.reshape(1, -1),
            metadata={field: int(numbers[row]) for field, numbers in synthetic.parts.items()},
        )
        for row, vector in enumerate(synthetic.vectors)
    )
    store(directory, COLLECTION, model, documents, lambda _: None)


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
