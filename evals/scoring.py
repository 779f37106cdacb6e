"""How good rankings are. Pure.

As BEIR and trec_eval have it: nDCG with linear gain, averaged over the queries that have judged documents.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Judgements = Mapping[str, int]

_ROUNDS = 2000
_SEED = 20_240


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences, and where 95 of 100 resamplings put it."""

    mean: float
    low: float
    high: float


def ndcg(ranking: Sequence[str], judgements: Judgements, *, depth: int) -> float:
    """Discounted cumulated gain of the first `depth`, by the best possible; 0 to 1 (Jarvelin and Kekalainen 2002)."""
    best = _gain(sorted(judgements.values(), reverse=True)[:depth])
    return _gain([judgements.get(document, 0) for document in ranking[:depth]]) / best if best > 0.0 else 0.0


def recall(ranking: Sequence[str], judgements: Judgements, *, depth: int) -> float:
    """The share of the relevant documents that stand among the first `depth`."""
    relevant = {document for document, grade in judgements.items() if grade > 0}
    return len(relevant.intersection(ranking[:depth])) / len(relevant) if relevant else 0.0


def best_of_each(pairs: Sequence[tuple[str, float]]) -> list[str]:
    """Documents by their best chunk, from (document, score of a chunk); ties stay in the order given."""
    best: dict[str, float] = {}
    for document, score in pairs:
        best[document] = max(score, best.get(document, -math.inf))
    return sorted(best, key=lambda document: -best[document])


def paired_bootstrap(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Of the same queries in the same order; the same answer each time."""
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    chosen = np.random.default_rng(_SEED).integers(0, len(differences), (_ROUNDS, len(differences)))
    low, high = np.quantile(differences[chosen].mean(axis=1), (0.025, 0.975))
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high))


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, start=1))
