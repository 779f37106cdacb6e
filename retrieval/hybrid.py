"""Adaptive fusion of the legs of one collection or more: both legs' scores of every candidate, as levels. Blocking, for a thread.

A candidate that only one leg returned gets the other leg's score too, by its id. On the dense side that is tens of dot
products. On the lexical side it is an intersection of posting lists with the ids, which costs as much as a search, so only
those are asked about that can still be among the results wanted. A leg that returned fewer than it was asked for has
returned all it has, so nothing is asked again.
"""

import numpy as np

from retrieval.dense import DenseIndex
from retrieval.lexical import LexicalIndex
from shared.fusion import Leg, dense_levels, dense_weight, favourites, lexical_levels, undecided, weighted
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


def fuse_best(
    index: LexicalIndex, query: str, dense: Leg, found: Leg, *, alpha: float, wanted: int
) -> tuple[list[tuple[int, float]], float]:
    """`fuse_adaptive` of one collection, exact in its first `wanted` items, for levels of the dense leg and the scores of a
    lexical leg that was cut at its last candidate. Raises DamagedIndex."""
    ceiling = index.ceiling(query)
    lexical = lexical_levels(found, ceiling)
    most = min(lexical.values(), default=0.0)
    lexical |= lexical_levels(index.score(query, set(favourites(dense)) - found.keys()), ceiling)
    weight = dense_weight(dense, lexical, alpha=alpha)
    rest = undecided(dense, lexical, weight, most=most, wanted=wanted)
    lexical |= lexical_levels(index.score(query, rest), ceiling)
    return weighted(dense, lexical, weight), weight
