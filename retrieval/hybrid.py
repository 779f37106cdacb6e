"""What adaptive fusion needs of one collection: both legs' scores of every candidate, as levels. Blocking, for a worker thread.

A candidate that only one leg returned gets the other leg's score too, by its id: tens of dot products, and one intersection of
posting lists with the ids. A leg that returned fewer than it was asked for has returned all it has, so nothing is asked again.
"""

import numpy as np

from retrieval.dense import DenseIndex
from retrieval.lexical import LexicalIndex
from shared.fusion import Leg, dense_levels, lexical_levels
from shared.vectors import Float32Array


def levels_of_dense(index: DenseIndex, vector: Float32Array, found: Leg, others: Leg) -> dict[int, float]:
    """Levels of what the leg found and of what only the other leg did; an id that is gone meanwhile is left out."""
    missing = np.asarray(sorted(others.keys() - found.keys()), dtype=np.int64)
    return dense_levels({**found, **index.score(vector, missing)}, index.background(vector))


def levels_of_lexical(
    index: LexicalIndex, query: str, found: Leg, others: Leg, *, is_complete: bool
) -> dict[int, float]:
    """As `levels_of_dense`. `is_complete`: no other chunk has a word of the query. Raises DamagedIndex."""
    missing = others.keys() - found.keys()
    rest = dict.fromkeys(missing, 0.0) if is_complete else index.score(query, missing)
    return lexical_levels({**found, **rest}, index.ceiling(query))
