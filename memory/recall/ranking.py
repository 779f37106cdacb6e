"""From what the legs say of each item to one order. Pure: arrays with one place an item in, and out.

The legs are scaled to 0..1 and added: the lexical leg from 0, where no word of the query occurs, the dense one from its
lowest similarity, because nothing is ever wholly unlike a query. Where all are about equally like it, that leg has no say. Then two things that are not in an item's own words:

- Its company: where one turn is what was asked for, those that were said near it are more likely than others.
- What the query says beside its words (`recall_query`), and how new an item is: factors that can move it, and no more.

What each is worth, and what was not taken: docs/ARCHITECTURE.md.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory.recall.bm25 import Neighbours
from memory.text.time_expressions import TimeRange

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# What the best item near it counts beside an item's own score, and what each step away leaves of that: half after 13.
_COMPANY: Final = 0.7
_NEARNESS: Final = 0.95
_ROUNDS: Final = 5
_NOBODY: Final = -1
# Similarities that lie closer together than this say nothing of which is better: unrelated texts do too. In memories of
# months they lie .5 to .8 apart.
_SPREAD_MIN: Final = 0.2
# How much more an item counts that is by whom the query names, or from when it names, or new. Recency alone never moves
# one item past another that is more than a tenth better.
_SPEAKER: Final = 0.2
_TIME: Final = 0.2
_RECENCY: Final = 0.02
_RECENCY_HALF_LIFE_S: Final = 30 * 86_400.0
# People tell of what happened for some days afterwards.
_TOLD_HALF_LIFE_S: Final = 7 * 86_400.0


def fused(dense: Floats, lexical: Floats, *, judged: Mask) -> Floats:
    """Each item's score of 0..1. `judged` are those that the dense leg has a vector of.

    With one leg silent the other decides alone. An item that has no vector yet is not one that the dense leg thinks little
    of: it is placed there as it is placed in the lexical leg, so that what was just said is not held back for the moment
    that its embedding takes.
    """
    top = float(lexical.max(initial=0.0))
    by_words = lexical / top if top > 0.0 else lexical
    if not judged.any():
        return by_words
    low, high = float(dense[judged].min()), float(dense[judged].max())
    scaled = 1.0 - (high - dense) / max(high - low, _SPREAD_MIN)
    by_meaning = np.where(judged, scaled, by_words)
    return 0.5 * (by_meaning + by_words) if top > 0.0 else by_meaning


def with_company(scores: Floats, neighbours: Neighbours) -> Floats:
    """Adds to each score the best one near it, which counts less with each item that lies between."""
    best = scores.copy()
    before, after, nearness = neighbours.before, neighbours.after, _NEARNESS
    # Each round looks twice as far as the one before: all that lies within 2 ** rounds is seen.
    for _ in range(_ROUNDS):
        for beside in (before, after):
            rows = np.flatnonzero(beside >= 0)
            best[rows] = np.maximum(best[rows], nearness * best[beside[rows]])
        before, after = (np.where(beside >= 0, beside[beside], _NOBODY) for beside in (before, after))
        nearness *= nearness
    return (scores + _COMPANY * best) / (1.0 + _COMPANY)


def boosts(times: Floats, ranges: Sequence[TimeRange], *, visible: Mask, is_named: Mask) -> Floats:
    """A factor of 1 or more for each item. `times` are seconds since 1970; new is what is as the newest `visible` item."""
    if not visible.any():
        return np.ones(len(times))
    age = np.maximum(0.0, times[visible].max() - times)
    factors: Floats = 1.0 + _RECENCY * np.exp2(-age / _RECENCY_HALF_LIFE_S) + _SPEAKER * is_named
    if ranges:
        factors += _TIME * np.max([_closeness(times, each) for each in ranges], axis=0)
    return factors


def _closeness(times: Floats, wanted: TimeRange) -> Floats:
    """1 within the range, then less and less; 0 before it."""
    close = np.ones(len(times))
    if wanted.until is not None:
        late = np.maximum(0.0, times - wanted.until.timestamp())
        close = np.exp2(-late / _TOLD_HALF_LIFE_S)
    if wanted.since is not None:
        close[times < wanted.since.timestamp()] = 0.0
    return close
