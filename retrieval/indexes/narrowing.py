"""How the lexical leg keeps to the chunks that a filter allows. Pure.

Two ways give the same hits with the same scores. A clause in the query that names the allowed chunks costs by their
number; fetching more hits than wanted and dropping the others costs by how rare the allowed ones are. Measured at 100,000
chunks of 60 words and 6 query words, for the best 100 (medians; the plain search takes 1.4 ms):

    allowed   clause of terms   clause of a term set   fetch and drop
        100            0.8 ms                 2.1 ms   all that match
      1,000            7.0 ms                  20 ms            20 ms
      5,000             35 ms                  27 ms             7 ms
     10,000                                    24 ms             3 ms
     50,000                                    62 ms             2 ms

So the two cross where the number of allowed chunks, times itself, is 27 times the number of chunks.
Rejected: ranges over the fast field `chunk_id`. One costs a scan of the whole column (0.3 ms), and a hundred a hundred.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Beyond it one term set is faster than so many terms.
TERMS_MAX: Final = 3_000
_CROSSING: Final = 27
_CROSSING_LIMIT: Final = 100
# So that few searches have to ask again when the allowed chunks are a little rarer among the hits than elsewhere.
_MARGIN: Final = 1.5


def fetch_depth(limit: int, allowed: int, chunks: int) -> int | None:
    """How many hits to fetch so that about `limit` allowed ones are among them; None where a clause is cheaper."""
    if allowed * allowed * _CROSSING_LIMIT < _CROSSING * chunks * limit:
        return None
    return max(limit, min(chunks, int(limit * _MARGIN * chunks / allowed) + limit))


def members(chunk_ids: Sequence[int], allowed: NDArray[np.int64]) -> list[int]:
    """Those that are allowed, in their order. `allowed` is sorted and not empty."""
    asked = np.asarray(chunk_ids, dtype=np.int64)
    places = np.minimum(np.searchsorted(allowed, asked), len(allowed) - 1)
    kept: list[int] = asked[allowed[places] == asked].tolist()
    return kept
