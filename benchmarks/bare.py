"""Model, dense index and lexical index called one after the other in this process, with no service around them.

They are the service's own parts on the service's own data, so that what remains between the two is the service: HTTP, the
protocol, fusion, texts.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.lexical import LexicalIndex
from retrieval.models.backends import ModelChoice, load_embedder
from retrieval.models.embedder import Embedder
from retrieval.truth.records import VectorChanges
from shared.retrieval_messages import LANGUAGE_DEFAULT

_MODEL: Final = "all-MiniLM-L6-v2"
_CANDIDATES: Final = 100
_ROWS_PER_STEP: Final = 5000


def load_model(directory: Path) -> Embedder:
    """As the service that keeps its data in `directory` loads it, and kept there for it."""
    return load_embedder(ModelChoice(name=_MODEL, models_dir=directory / "models"))


def bare_search(directory: Path, embedder: Embedder) -> Callable[[str], int]:
    """A search over the only collection in `directory`, a running service's own. It answers how many chunks were found."""
    dense = _dense(directory, embedder.dimensions)
    (folder,) = (directory / "lexical").iterdir()
    lexical = LexicalIndex(folder, LANGUAGE_DEFAULT)

    def search(query: str) -> int:
        vector = embedder.embed([query], "query")[0]
        return len(dense.search(vector, _CANDIDATES)) + len(lexical.search(query, _CANDIDATES))

    return search


def _dense(directory: Path, dimensions: int) -> DenseIndex:
    index = DenseIndex(dimensions)
    with closing(sqlite3.connect(f"file:{directory / 'retrieval.db'}?mode=ro", uri=True)) as connection:
        cursor = connection.execute("SELECT chunk_id, vector FROM vectors ORDER BY chunk_id")
        while rows := cursor.fetchmany(_ROWS_PER_STEP):
            vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4").reshape(len(rows), dimensions)
            index.apply(VectorChanges(rows[-1][0], [row[0] for row in rows], vectors.astype(np.float32), []))
    while index.upkeep():
        pass
    return index
