"""What may happen to a fused list before it becomes a page of hits: no repetition, more variety, one hit a document. Pure.

Every function takes and gives chunks best first, and what it gives for a longer page begins with what it gives for a
shorter one: that is what lets a cursor go on where a page ended.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from shared.vectors import Float32Array

Scored = tuple[int, float]

# Runs of this many words, so that the same words in another order are no repetition.
_SHINGLE_WORDS: Final = 4
# Two texts with this share of their shingles in common differ in a few words: a changed date, a corrected typo. Boilerplate
# shared by otherwise different chunks stays well below it (Broder 1997, "On the resemblance and containment of documents").
RESEMBLANCE_MIN: Final = 0.8

_WORD = re.compile(r"\w+")


def without_duplicates(
    ranked: Iterable[Scored], texts: Mapping[int, str], *, resemblance_min: float = RESEMBLANCE_MIN
) -> list[tuple[Scored, list[int]]]:
    """The best of each group of near-identical texts, with the chunks that it stands for.

    Two texts resemble each other by the share of their distinct word shingles that they have in common (Jaccard). Each is
    compared with each that is kept, as sets of bits: a lookup by shingle takes a hundred times as long where all texts share
    most of theirs, as invoices do.
    """
    candidates = [(scored, _shingles(texts[scored[0]])) for scored in ranked]
    frequency = Counter(shingle for _, shingles in candidates for shingle in shingles)
    # What one text alone has, none has in common with it.
    bits = {shingle: 1 << bit for bit, shingle in enumerate(each for each, count in frequency.items() if count > 1)}
    kept: list[tuple[Scored, list[int]]] = []
    marks: list[tuple[int, int]] = []
    for scored, shingles in candidates:
        mark = sum(bits.get(shingle, 0) for shingle in shingles)
        alike = next(
            (
                position
                for position, (other, other_size) in enumerate(marks)
                if _resemblance((mark & other).bit_count(), len(shingles), other_size) >= resemblance_min
            ),
            None,
        )
        if alike is not None:
            kept[alike][1].append(scored[0])
            continue
        kept.append((scored, []))
        marks.append((mark, len(shingles)))
    return kept


def best_of_each(ranked: Iterable[Scored], group_of: Mapping[int, int]) -> Iterator[Scored]:
    """The first of each group, such as the best chunk of each document. What is in no group is left out."""
    seen: set[int] = set()
    for scored in ranked:
        group = group_of.get(scored[0])
        if group is not None and group not in seen:
            seen.add(group)
            yield scored


def diversified(ranked: Sequence[Scored], vectors: Float32Array, *, diversity: float) -> Iterator[Scored]:
    """Maximal marginal relevance: each next chunk is relevant and unlike those before it (Carbonell and Goldstein 1998).

    `vectors` are unit vectors of shape (ranked, d), in the same order. At `diversity` 0 the order is that of the scores; at 1
    only unlikeness counts after the first. Scores are scaled to 0..1 first, since a cosine is on that scale and they are not.
    """
    if not ranked:
        return
    scores = np.asarray([score for _, score in ranked], dtype=np.float64)
    spread = float(scores.max() - scores.min())
    relevance = (scores - scores.min()) / spread if spread > 0 else np.ones_like(scores)
    nearest = np.zeros(len(ranked))
    left = np.ones(len(ranked), dtype=bool)
    for _ in ranked:
        marginal = np.where(left, (1.0 - diversity) * relevance - diversity * nearest, -np.inf)
        # argmax takes the first of equals, so ties keep the order of the scores.
        chosen = int(marginal.argmax())
        left[chosen] = False
        yield ranked[chosen]
        nearest = np.maximum(nearest, vectors @ vectors[chosen])


def _resemblance(common: int, size: int, other_size: int) -> float:
    return common / (size + other_size - common)


def _shingles(text: str) -> set[int]:
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < _SHINGLE_WORDS:
        # Too short to have one: the same only where all of it is.
        return {hash(" ".join(words) or text)}
    return {hash(tuple(words[start : start + _SHINGLE_WORDS])) for start in range(len(words) - _SHINGLE_WORDS + 1)}
