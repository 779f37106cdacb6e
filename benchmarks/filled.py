"""A retrieval service's data at a size that nobody wants to wait for: real words, and vectors around real ones.

Embedding 100,000 chunks on two cores takes an hour, and their vectors would cost a search no other time than these do: each
lies between two of a thousand real vectors, with some noise, and its words are some of theirs, by the same share. So words and
vectors agree as far as they do in real texts, and near ones are nearer than others; were they unrelated or all alike, a hybrid
search would have nothing to go by.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import Progress

from benchmarks.data import SEED, read_passages
from benchmarks.stored import Given, store
from shared.vectors import Float32Array

COLLECTION: Final = "filled"
# Enough that no cluster is a large part of the whole, few enough to embed in a moment.
_CENTRES: Final = 1000
# Of each number of a vector: no two are the same, and most of the likeness stays.
_NOISE: Final = 0.02
_CHUNKS_PER_DOCUMENT: Final = 4
_RUN_WORDS: Final = 8

# A passage and its vector.
_Centre = tuple[str, Float32Array]


def fill(
    directory: Path,
    data_dir: Path,
    model: str,
    embed: Callable[[list[str]], Float32Array],
    chunks: int,
    progress: Progress,
) -> None:
    """A new `retrieval.db` in `directory` with one collection of `chunks` chunks. Blocking."""
    texts = read_passages(data_dir)
    chosen = random.Random(SEED).sample(texts, _CENTRES)  # noqa: S311 - a repeatable choice, no secret
    centres = np.concatenate([embed(chosen[at : at + 16]) for at in progress.track(range(0, _CENTRES, 16))])
    near = list(zip(chosen, centres, strict=True))
    task = progress.add_task("filling", total=chunks)
    store(directory, COLLECTION, model, _documents(chunks, near), lambda count: progress.advance(task, count))


def _documents(chunks: int, near: Sequence[_Centre]) -> Iterator[Given]:
    choice, noise = random.Random(SEED), np.random.default_rng(SEED)  # noqa: S311 - as above
    for number, first in enumerate(range(0, chunks, _CHUNKS_PER_DOCUMENT)):
        count = min(_CHUNKS_PER_DOCUMENT, chunks - first)
        mixed = [_mixed(choice.choice(near), choice.choice(near), choice) for _ in range(count)]
        vectors = np.stack([vector for _, vector in mixed])
        vectors = vectors + noise.normal(scale=_NOISE, size=vectors.shape).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield Given(document_id=f"d{number}", texts=[text for text, _ in mixed], vectors=vectors, metadata={})


def _mixed(one: _Centre, other: _Centre, choice: random.Random) -> _Centre:
    """Some of the words of each, runs of them kept together, and the vector between theirs, by the same share."""
    share = choice.uniform(0.0, 1.0)
    parts = [run for run in _runs(one[0]) if choice.random() < share]
    parts += [run for run in _runs(other[0]) if choice.random() >= share]
    return " ".join(parts) or one[0], share * one[1] + (1.0 - share) * other[1]


def _runs(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[at : at + _RUN_WORDS]) for at in range(0, len(words), _RUN_WORDS)]


def filled_vectors(directory: Path) -> Float32Array:
    """Of every chunk in order, shape (chunks, d)."""
    with closing(sqlite3.connect(directory / "retrieval.db")) as connection:
        rows = connection.execute("SELECT vector FROM vectors ORDER BY chunk_id").fetchall()
    return np.frombuffer(b"".join(row[0] for row in rows), dtype="<f4").reshape(len(rows), -1).astype(np.float32)


def filled_texts(directory: Path) -> list[str]:
    """Of every chunk in order."""
    with closing(sqlite3.connect(directory / "retrieval.db")) as connection:
        return [row[0] for row in connection.execute("SELECT text FROM chunks ORDER BY id")]
