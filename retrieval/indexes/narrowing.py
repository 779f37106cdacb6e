"""How the lexical leg keeps to the chunks that a filter allows. Pure.

Two ways give the same hits with the same scores. A clause in the query that names the allowed chunks costs by their
number; fetching more hits than wanted and dropping the others costs by how rare the allowed ones are. Measured with the
100,000 chunks and unseen queries of benchmarks/throughput.py, for the best 100 (medians of processor time; a plain search .5 ms):

    allowed   clause of terms   clause of a term set   fetch and drop
        100            0.4 ms                 1.5 ms   all that match
      1,000            2.4 ms                 5.2 ms           7.1 ms
      1,500            3.9 ms                 5.9 ms           5.1 ms
      2,000             11 ms                 6.1 ms           4.0 ms
      5,000                                   7.7 ms           2.1 ms
     10,000                                    10 ms           1.4 ms
     50,000                                                     .7 ms

So the two cross where the number of allowed chunks, times itself, is 27 times the number of chunks.
Rejected: ranges over the fast field `chunk_id`. One costs a scan of the whole column (0.3 ms), and a hundred a hundred.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

# Beyond it one term set is faster than so many terms.
TERMS_MAX: Final = 1_700
_CROSSING: Final = 27
_CROSSING_LIMIT: Final = 100
# So that few searches have to ask again when the allowed chunks are a little rarer among the hits than elsewhere.
_MARGIN: Final = 1.5


def fetch_depth(limit: int, allowed: int, chunks: int) -> int | None:
    """How many hits to fetch so that about `limit` allowed ones are among them; None where a clause is cheaper."""
    if allowed * allowed * _CROSSING_LIMIT < _CROSSING * chunks * limit:
        return None
    return max(limit, min(chunks, int(limit * _MARGIN * chunks / allowed) + limit))


def is_member(chunk_ids: NDArray[np.int64], allowed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of them are allowed. `allowed` is sorted and not empty."""
    places = np.minimum(np.searchsorted(allowed, chunk_ids), len(allowed) - 1)
    are_members: NDArray[np.bool_] = allowed[places] == chunk_ids
    return are_members
