"""Whether two facts say the same: exactly, but for case, spaces and the full stop, or nearly. Pure.

Near-duplicates are told, never merged: "the limit is 3" and "the limit is 4" are as near as two phrasings of one fact.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Final

# Runs of two words: facts are short, and one other word would break most of the longer runs.
_SHINGLE_WORDS: Final = 2
# Half of the runs in common (Broder 1997, "On the resemblance and containment of documents"): one of seven words differs, or
# the last of four, as in two values of what should have had a key.
RESEMBLANCE_MIN: Final = 0.5
SIMILAR_MAX: Final = 10

_WORD = re.compile(r"\w+")


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!")


def text_hash(text: str) -> bytes:
    """The same for texts that say exactly the same."""
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).digest()


def near_duplicates(text: str, others: Iterable[tuple[str, str]]) -> list[str]:
    """Of (id, text), the ids whose texts resemble `text`, the nearest first, at most `SIMILAR_MAX`."""
    own = _shingles(text)
    scored = [(_resemblance(own, _shingles(other)), fact_id) for fact_id, other in others]
    near = sorted((-score, fact_id) for score, fact_id in scored if score >= RESEMBLANCE_MIN)
    return [fact_id for _, fact_id in near[:SIMILAR_MAX]]


def _shingles(text: str) -> frozenset[str]:
    words = _WORD.findall(normalised(text))
    if len(words) < _SHINGLE_WORDS:
        return frozenset(words)
    return frozenset(" ".join(words[start : start + _SHINGLE_WORDS]) for start in range(len(words) - 1))


def _resemblance(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of their runs that two texts have in common (Jaccard)."""
    return len(one & other) / len(one | other) if one and other else 0.0
