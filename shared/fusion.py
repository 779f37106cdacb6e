"""Two ranked lists into one. Pure.

A leg is a mapping from id to that leg's score, higher is better. All methods answer ids with fused scores, best first,
ties by id, so that the same input gives the same order on any machine.

- `relative`: each leg's scores are scaled to 0..1 by its own minimum and maximum, then weighted: alpha for dense, 1 - alpha
  for lexical (a convex combination; Bruch, Gai and Ingber 2022, "An Analysis of Fusion Functions for Hybrid Retrieval").
- `dbsf`: as relative, but scaled by mean and three standard deviations, which one outlier moves less
  (distribution-based score fusion, as in Qdrant).
- `rrf`: 1 / (k + rank), ranks from 1 (Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet").

An id that a leg did not return counts as that leg's worst: 0 after scaling, and no term in `rrf`.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np

FusionMethod = Literal["relative", "rrf", "dbsf"]
Leg = Mapping[int, float]

# Scores of the legs are on the same footing here, neither measured to be better on all sets (docs/ARCHITECTURE.md).
ALPHA_DEFAULT = 0.5
# The constant of the paper; larger flattens the ranks.
K_DEFAULT = 60


def fuse(
    dense: Leg, lexical: Leg, *, method: FusionMethod = "relative", alpha: float = ALPHA_DEFAULT, k: int = K_DEFAULT
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


def ranked(leg: Leg) -> list[tuple[int, float]]:
    """Best first, ties by id."""
    return sorted(leg.items(), key=lambda pair: (-pair[1], pair[0]))


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
