"""Which of the waiting texts share a batch. Pure.

A batch is padded to its longest text, so texts of like length belong together. On a CPU a full batch is hardly faster a
token than a single long text, and padding is simply lost: what counts is the share of real tokens in what the model computes.
"""

from collections.abc import Sequence
from typing import Final

# What a batch costs beside its tokens, as a part of the budget: enough that short texts gather, too little to pad for.
_OVERHEAD: Final = 1 / 8


def choose_batch(tokens: Sequence[int], tokens_max: int) -> list[int]:
    """Positions of the texts to embed together, oldest first. Position 0, the oldest, is always among them, so no text
    waits for ever. The others are its neighbours by length, as far as they raise the share of real tokens and the longest
    text times the number of texts stays within `tokens_max`. The oldest goes alone where it is longer than that.
    """
    # Of equals the oldest stands last, so that its neighbours on both sides are free to be taken or left.
    order = sorted(range(len(tokens)), key=lambda position: (tokens[position], -position))
    oldest = order.index(0)
    overhead = tokens_max * _OVERHEAD
    best, best_share = (oldest, oldest), 0.0
    real_upwards = 0
    for last in range(oldest, len(order)):
        longest = tokens[order[last]]
        real_upwards += longest
        if last > oldest and longest * (last - oldest + 1) > tokens_max:
            break
        first, real = _extend_downwards(tokens, order, (oldest, last), real_upwards, tokens_max)
        share = real / (longest * (last - first + 1) + overhead)
        if share > best_share:
            best, best_share = (first, last), share
    return sorted(order[best[0] : best[1] + 1])


def _extend_downwards(
    tokens: Sequence[int], order: Sequence[int], span: tuple[int, int], real: int, tokens_max: int
) -> tuple[int, int]:
    """Shorter texts join while each fills its padded place better than the batch does so far."""
    first, last = span
    longest, overhead = tokens[order[last]], tokens_max * _OVERHEAD
    while first > 0:
        shorter, texts = tokens[order[first - 1]], last - first + 1
        if longest * (texts + 1) > tokens_max or shorter * (longest * texts + overhead) <= real * longest:
            break
        first, real = first - 1, real + shorter
    return first, real
