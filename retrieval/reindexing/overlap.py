"""How much two models agree on a collection: overlap@10. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

DEPTH: Final = 10


def overlap_at_10(answers: Iterable[tuple[Sequence[int], Sequence[int]]]) -> float | None:
    """The mean share of common chunks in the first ten of both lists, over all queries that found any. None without."""
    shares = []
    for one, other in answers:
        first, second = set(one[:DEPTH]), set(other[:DEPTH])
        if first or second:
            shares.append(len(first & second) / max(len(first), len(second)))
    return sum(shares) / len(shares) if shares else None
