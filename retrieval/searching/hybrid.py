"""Both legs' opinions of every candidate of one collection, as levels for adaptive fusion. Blocking, for a thread.

A candidate that only one leg returned gets the other leg's level too. On the dense side that is tens of dot products by id. On
the lexical side it is an intersection of posting lists with the ids, which for a hundred of them costs as much as a search. So
only the dense leg's favourites are asked about, which decide the weight of the legs. The others are known to be below the last
one that was returned, and are taken to be at a fixed share of it.
"""

from typing import Final

import numpy as np

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.lexical import LexicalIndex
from shared.fusion import Leg, dense_levels, favourites, lexical_levels
from shared.vectors import Float32Array

# Between asking about all and this, nDCG@10 moves by .002 at most with 50 candidates or more (docs/ARCHITECTURE.md).
_UNSEEN_SHARE: Final = 0.75


def levels_of_dense(index: DenseIndex, vector: Float32Array, found: Leg, others: Leg) -> dict[int, float]:
    """Levels of what the leg found and of what only the other leg did; an id that is gone meanwhile is left out."""
    missing = np.asarray(sorted(others.keys() - found.keys()), dtype=np.int64)
    return dense_levels({**found, **index.score(vector, missing)}, index.background(vector))


def levels_of_lexical(
    index: LexicalIndex, query: str, found: Leg, others: Leg, *, is_complete: bool
) -> dict[int, float]:
    """Levels of what the leg found and of what only the other leg did, whose levels are `others`. `is_complete`: no other chunk
    has a word of the query. Raises DamagedIndex."""
    ceiling = index.ceiling(query)
    levels = lexical_levels(found, ceiling)
    if is_complete:
        return dict.fromkeys(others, 0.0) | levels
    unseen = dict.fromkeys(others, _UNSEEN_SHARE * min(levels.values()))
    asked = [item for item in favourites(others) if item not in levels]
    return unseen | lexical_levels(index.score(query, asked), ceiling) | levels
