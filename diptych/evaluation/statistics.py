"""What chance may have done to a mean, and to the difference of two means over the same queries. Pure and repeatable.

Intervals are the percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13): queries are
drawn with replacement, and 95 of 100 means lie between `low` and `high`. Whether two runs differ is asked with the paired
randomisation test, two-sided: under the hypothesis that they are alike each query's difference might as well have the other
sign (Fisher; Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval
Evaluation", CIKM 2007, recommend it over the sign and the Wilcoxon test). Both come from scipy.stats, with a fixed seed.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from diptych.evaluation.extras import needed

_CONFIDENCE: Final = 0.95
_RESAMPLES: Final = 2000
# The smallest p that can come out is 1 / 10,000.
_PERMUTATIONS: Final = 9999
_SEED: Final = 20_240
# Resampled values that are in memory at once: 32 MB.
_VALUES_AT_ONCE: Final = 4_000_000


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A mean of `count` values, and where 95 of 100 resamplings put it."""

    mean: float
    low: float
    high: float
    count: int


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """`theirs` to `ours`, over the same queries. `p` is how often chance alone gives a difference at least as large; 1 where one
    query can say nothing of chance."""

    theirs: float
    ours: float
    difference: Interval
    p: float
    better: int
    worse: int


def interval(values: Sequence[float]) -> Interval:
    """`values` must not be empty. Values that are all the same leave chance nothing to do."""
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if np.ptp(array) == 0.0:
        return Interval(mean=mean, low=mean, high=mean, count=len(values))
    limits = (
        needed("scipy.stats")
        .bootstrap(
            (array,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=_CONFIDENCE,
            method="percentile",
            vectorized=True,
            batch=_batch(array),
            rng=np.random.default_rng(_SEED),
        )
        .confidence_interval
    )
    return Interval(mean=mean, low=float(limits.low), high=float(limits.high), count=len(values))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Of the same queries in the same order. Raises ValueError where their number differs."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} values cannot be paired with {len(theirs)}")
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    return Difference(
        theirs=float(np.mean(theirs)),
        ours=float(np.mean(ours)),
        difference=interval(differences.tolist()),
        p=_randomised(differences) if np.any(differences) and len(differences) > 1 else 1.0,
        better=int(np.count_nonzero(differences > 0.0)),
        worse=int(np.count_nonzero(differences < 0.0)),
    )


def percentile(values: Sequence[float], part: float) -> float:
    """Linear between the two nearest; `part` of 100."""
    return float(np.percentile(np.asarray(values, dtype=np.float64), part))


def _randomised(differences: Any) -> float:
    tested = needed("scipy.stats").permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=_PERMUTATIONS,
        alternative="two-sided",
        vectorized=True,
        batch=_batch(differences),
        rng=np.random.default_rng(_SEED),
    )
    return float(tested.pvalue)


def _batch(array: Any) -> int:
    return max(1, _VALUES_AT_ONCE // len(array))
