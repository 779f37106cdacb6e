"""Two ranked lists into one. Pure.

A leg is a mapping from id to that leg's score, higher is better. All methods answer ids with fused scores, best first,
ties by id, so that the same input gives the same order on any machine.

- `relative`: each leg's scores are scaled to 0..1 by its own minimum and maximum, then weighted: alpha for dense, 1 - alpha
  for lexical (a convex combination; Bruch, Gai and Ingber 2022, "An Analysis of Fusion Functions for Hybrid Retrieval").
- `dbsf`: as relative, but scaled by mean and three standard deviations, which one outlier moves less
  (distribution-based score fusion, as in Qdrant).
- `rrf`: 1 / (k + rank), ranks from 1 (Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet").

An id that a leg did not return counts as that leg's worst there: 0 after scaling, and no term in `rrf`.

- `adaptive` (`fuse_adaptive`) needs more of its caller, and loses less: both legs' scores of every id, as **levels** on one scale,
  0 for "has nothing to do with the query" and 1 for "cannot match better". For a cosine similarity, 0 is the mean over the whole
  collection; for BM25, 1 is the most that the query's words could earn. Neither end depends on what the candidates happen to
  be, so a leg that found nothing good stays low where `relative` would raise its best to 1. The levels are added by weight, and
  each query has its own weight: how well each leg's favourites do in the eyes of the other. Where the dense leg thinks nearly as
  much of the lexical favourites as of its own, while the lexical leg finds few of the query's words in the dense favourites, the
  words are to be trusted, and the other way round. What was measured, and what was not taken: docs/ARCHITECTURE.md.
"""

import math
from collections.abc import Mapping
from operator import itemgetter
from typing import Final, Literal

import numpy as np

# Those that need no more than the two lists.
ListFusion = Literal["relative", "rrf", "dbsf"]
FusionMethod = Literal["adaptive", ListFusion]
Leg = Mapping[int, float]

# Scores of the legs are on the same footing here, neither measured to be better on all sets (docs/ARCHITECTURE.md).
ALPHA_DEFAULT = 0.5
# The constant of the paper; larger flattens the ranks.
K_DEFAULT = 60

# The three numbers of `adaptive`. Half as much or half again of the last two moves nDCG@10 by .018 at most on nine sets, .008 or
# less on most; halving the first costs .036 where words are weak (tables: docs/ARCHITECTURE.md).
# Odds of the dense leg at alpha .5: levels of BM25 spread wider than those of a cosine, so they need the smaller weight.
_DENSE_ODDS: Final = 1.5
# How much the legs' opinions of each other move the odds: from e**-4 to e**4, half of which is common.
_TRUST: Final = 4.0
# How many of a leg's best are its favourites.
_FAVOURITES: Final = 5

_score = itemgetter(1)


def fuse(
    dense: Leg,
    lexical: Leg,
    *,
    method: ListFusion = "relative",
    alpha: float = ALPHA_DEFAULT,
    k: int = K_DEFAULT,
) -> list[tuple[int, float]]:
    match method:
        case "relative":
            legs = (_scale_min_max(dense), _scale_min_max(lexical))
        case "dbsf":
            legs = (_scale_deviations(dense), _scale_deviations(lexical))
        case "rrf":
            legs = (_reciprocal_ranks(dense, k), _reciprocal_ranks(lexical, k))
    weights = (alpha, 1.0 - alpha)
    fused: dict[int, float] = {}
    for leg, weight in zip(legs, weights, strict=True):
        for item, score in leg.items():
            fused[item] = fused.get(item, 0.0) + weight * score
    return ranked(fused)


def dense_levels(similarities: Leg, background: float) -> dict[int, float]:
    """Cosine similarities as levels: 0 at `background`, 1 where the vectors are the same."""
    span = max(1.0 - background, 1e-9)
    return {item: (similarity - background) / span for item, similarity in similarities.items()}


def lexical_levels(scores: Leg, ceiling: float) -> dict[int, float]:
    """BM25 scores as levels: 0 without a word of the query, 1 at `ceiling`, which no text reaches."""
    return {item: score / ceiling if ceiling > 0.0 else 0.0 for item, score in scores.items()}


def fuse_adaptive(dense: Leg, lexical: Leg, *, alpha: float = ALPHA_DEFAULT) -> tuple[list[tuple[int, float]], float]:
    """Fuses levels; answers the list and the weight that the dense leg had for this query, the lexical leg having the rest of 1.

    An id that one leg does not know is at its level 0; a leg that knows none leaves it all to the other. `alpha` moves the
    balance: 0 leaves it to the lexical leg, 1 to the dense one, .5 is what was measured to be best.
    """
    weight = dense_weight(dense, lexical, alpha=alpha)
    return weighted(dense, lexical, weight), weight


def weighted(dense: Leg, lexical: Leg, weight: float) -> list[tuple[int, float]]:
    """The sum of both legs' levels, the dense one's by `weight` and the other's by the rest of 1."""
    fused = {item: weight * level for item, level in dense.items()}
    for item, level in lexical.items():
        fused[item] = fused.get(item, 0.0) + (1.0 - weight) * level
    return ranked(fused)


def dense_weight(dense: Leg, lexical: Leg, *, alpha: float = ALPHA_DEFAULT) -> float:
    """What `fuse_adaptive` gives the dense leg, 0 to 1. A leg whose best is 0 or less has nothing to say."""
    if not _has_opinion(lexical):
        return 1.0
    if not _has_opinion(dense):
        return 0.0
    if alpha in {0.0, 1.0}:
        return alpha
    trust = _esteem(favourites(dense), lexical) - _esteem(favourites(lexical), dense)
    odds = _DENSE_ODDS * alpha / (1.0 - alpha) * math.exp(_TRUST * trust)
    return odds / (1.0 + odds)


def _has_opinion(leg: Leg) -> bool:
    return max(leg.values(), default=0.0) > 0.0


def favourites(leg: Leg) -> list[int]:
    """The ids that decide how much `dense_weight` trusts a leg."""
    # Numbers alone are sorted in a third of the time that ranking them all would take.
    lowest = max(0.0, min(sorted(leg.values())[-_FAVOURITES:], default=0.0))
    best = ranked({item: level for item, level in leg.items() if level >= lowest})
    return [item for item, level in best[:_FAVOURITES] if level > 0.0]


def _esteem(favourites: list[int], judge: Leg) -> float:
    """What the judge thinks of the other leg's favourites, in units of its own best: 0 to 1."""
    mean = sum(judge.get(item, 0.0) for item in favourites) / len(favourites)
    return max(0.0, mean) / max(judge.values())


def ranked(leg: Leg) -> list[tuple[int, float]]:
    """Best first, ties by id."""
    # Two sorts, the second of which keeps the order of equals: a tenth of the time of one by a key of both.
    items = sorted(leg.items())
    items.sort(key=_score, reverse=True)
    return items


def ranks(leg: Leg) -> dict[int, int]:
    """Ranks from 1."""
    return {item: rank for rank, (item, _) in enumerate(ranked(leg), start=1)}


def _scale_min_max(leg: Leg) -> Leg:
    if not leg:
        return leg
    low, high = min(leg.values()), max(leg.values())
    # A leg with one score only says "these", not "how much": all of them count fully.
    return {item: (score - low) / (high - low) if high > low else 1.0 for item, score in leg.items()}


def _scale_deviations(leg: Leg) -> Leg:
    if not leg:
        return leg
    scores = np.fromiter(leg.values(), dtype=np.float64)
    mean, spread = float(scores.mean()), 3.0 * float(scores.std())
    if spread == 0.0:
        return dict.fromkeys(leg, 1.0)
    return {item: min(1.0, max(0.0, (score - mean + spread) / (2.0 * spread))) for item, score in leg.items()}


def _reciprocal_ranks(leg: Leg, k: int) -> Leg:
    return {item: 1.0 / (k + rank) for item, rank in ranks(leg).items()}
