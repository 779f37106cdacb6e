"""The dense leg: exact inner product over a collection's vectors. The only importer of faiss.

A projection in memory: it starts empty and replays the collection's history, which for an exact index costs no more than
reading a file of it would. FAISS runs one thread a query; parallelism comes from requests (measured: a second OpenMP
thread made one query six times slower on two busy cores).
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import faiss
import numpy as np

from retrieval.records import VectorChanges
from shared.vectors import Float32Array

faiss.omp_set_num_threads(1)


class DenseIndex:
    """Searches run side by side; a change waits for them, and they for it. Both take microseconds to milliseconds."""

    def __init__(self, dimensions: int) -> None:
        self.sequence = 0
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dimensions))
        # Of all vectors, so that the mean similarity of everything to a query is one dot product.
        self._sum = np.zeros(dimensions, dtype=np.float64)
        self._gate = _ReadWriteGate()

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def apply(self, changes: VectorChanges) -> None:
        """Takes in the next changes. Adding again what is there replaces it."""
        with self._gate.writing():
            gone = np.asarray([*changes.removed_ids, *changes.added_ids], dtype=np.int64)
            if len(self) and len(gone):
                stored = np.intersect1d(faiss.vector_to_array(self._index.id_map), gone)
                if len(stored):
                    self._sum -= self._index.reconstruct_batch(stored).sum(axis=0, dtype=np.float64)
                    self._index.remove_ids(faiss.IDSelectorBatch(stored))
            if changes.added_ids:
                self._sum += changes.added_vectors.sum(axis=0, dtype=np.float64)
                self._index.add_with_ids(changes.added_vectors, np.asarray(changes.added_ids, dtype=np.int64))
            self.sequence = changes.sequence

    def search(self, vector: Float32Array, limit: int) -> dict[int, float]:
        """The `limit` chunks nearest to a unit vector of shape (d,), with their cosine similarity."""
        with self._gate.reading():
            count = min(limit, len(self))
            if count == 0:
                return {}
            scores, ids = self._index.search(vector.reshape(1, -1), count)
        return dict(zip(ids[0].tolist(), scores[0].tolist(), strict=True))

    def score(self, vector: Float32Array, ids: Collection[int]) -> dict[int, float]:
        """The cosine similarities that `search` would give these chunks; those it does not have are left out."""
        if not ids:
            return {}
        chosen = faiss.IDSelectorBatch(np.fromiter(ids, dtype=np.int64))
        with self._gate.reading():
            count = min(len(ids), len(self))
            if count == 0:
                return {}
            parameters = faiss.SearchParameters()
            parameters.sel = chosen
            scores, found = self._index.search(vector.reshape(1, -1), count, params=parameters)
        # Places that were not filled have the id -1.
        return {int(key): float(score) for key, score in zip(found[0], scores[0], strict=True) if key >= 0}

    def background(self, vector: Float32Array) -> float:
        """The mean cosine similarity of all chunks to a unit vector: what a chunk that has nothing to do with it gets."""
        with self._gate.reading():
            return float(self._sum @ vector) / len(self) if len(self) else 0.0

    def ids(self) -> set[int]:
        with self._gate.reading():
            return set(faiss.vector_to_array(self._index.id_map).tolist())

    def vectors(self, ids: Sequence[int]) -> Float32Array:
        """For `check`: the stored vectors, shape (ids, d)."""
        with self._gate.reading():
            found: Float32Array = self._index.reconstruct_batch(np.asarray(ids, dtype=np.int64))
            return found


class _ReadWriteGate:
    """Many readers or one writer. A waiting writer goes before new readers, so that writes are never starved."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writers = 0
        self._is_writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        with self._condition:
            self._condition.wait_for(lambda: not self._writers)
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._condition:
            self._writers += 1
            self._condition.wait_for(lambda: not self._readers and not self._is_writing)
            self._is_writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writers -= 1
                self._is_writing = False
                self._condition.notify_all()
