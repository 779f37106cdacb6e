"""What the dense leg decides: how to go about a search, and what to do for its own upkeep. Pure: numbers in, a plan out.

Measured at 62,730 chunks: of a filter that keeps 1 %, a graph search with a selector found 28 % of the ten nearest, a
search filtered afterwards 10 %, and a scan of the kept chunks all of them in a tenth of a millisecond. So what is small is
scanned, and only what is large is approximated.
"""

import math
from typing import Final, Literal

DensePlan = Literal["exact", "exact_subset", "approximate", "approximate_filtered"]
Upkeep = Literal["compact", "flatten", "train", "fold"]

# Scanned in about 3 ms, whatever else the collection holds.
SUBSET_SCANNED_MAX: Final = 20_000
# A small part of a large collection: an approximate search would have to look at most of the lists to find enough of it.
SHARE_SCANNED_MAX: Final = 0.1
SHARE_SUBSET_MAX: Final = 100_000

# New rows are scanned with every search: 20,000 cost it 2 ms, and 5 % about as much as the lists themselves.
TAIL_SHARE_MAX: Final = 0.05
TAIL_MAX: Final = 20_000
# Dead rows cost memory and a look at their flag.
DEAD_SHARE_MAX: Final = 0.2
# Below these, upkeep costs more than it saves.
TAIL_MIN: Final = 1000
DEAD_MIN: Final = 1000
# Lists that were made for half as many chunks are twice as long as they should be.
GROWTH_MAX: Final = 2.0
# Lists stay until well below the bound, or a collection at the bound would make them again and again.
FLATTEN_SHARE: Final = 0.5


def choose_plan(*, chunks: int, allowed: int | None, has_lists: bool) -> DensePlan:
    """`allowed` is how many chunks a filter keeps, None without one. `has_lists` says whether an approximate index is built."""
    if allowed is None:
        return "approximate" if has_lists else "exact"
    if not has_lists or allowed <= SUBSET_SCANNED_MAX:
        return "exact_subset"
    if allowed <= SHARE_SUBSET_MAX and allowed <= SHARE_SCANNED_MAX * chunks:
        return "exact_subset"
    return "approximate_filtered"


def choose_upkeep(*, living: int, dead: int, tail: int, trained: int | None, exact_chunks_max: int) -> Upkeep | None:
    """`tail` counts rows outside the lists, `trained` the chunks that these were made for, None without lists."""
    if dead > max(min(DEAD_MIN, exact_chunks_max), DEAD_SHARE_MAX * (living + dead)):
        return "compact"
    if trained is None:
        return "train" if living > exact_chunks_max else None
    if living <= FLATTEN_SHARE * exact_chunks_max:
        return "flatten"
    if living > GROWTH_MAX * trained:
        return "train"
    if tail > max(min(TAIL_MIN, exact_chunks_max), min(TAIL_MAX, TAIL_SHARE_MAX * living)):
        return "fold"
    return None


def lists_for(chunks: int) -> int:
    """How many lists: their centroids and the members of those looked at then take about as long to scan."""
    return max(1, round(4 * math.sqrt(chunks)))
