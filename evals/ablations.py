"""What a part is worth: the same questions with it and without it. Pure; how they were asked is not known here.

A row is one way of asking. It is compared with its base, question by question: the difference of the means, 95 % of a bootstrap
and how often chance alone would give as much (`diptych.evaluation.statistics`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from benchmarks.report import Machine
from diptych.evaluation.metrics import Scores
from diptych.evaluation.statistics import paired

# As users get it.
DEFAULT: Final = "as it is"
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """`scores` are by question and metric; every one of a set has the same questions. `tokens` are the mean of an answer's."""

    group: str
    part: str
    scores: Scores
    base: str = DEFAULT
    tokens: float | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """From the base to this row."""

    mean: float
    low: float
    high: float
    p: float


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Means over the questions. The default has no base."""

    group: str
    part: str
    scores: dict[str, float]
    base: str | None = None
    change: Change | None = None
    tokens: float | None = None


class SetRows(msgspec.Struct, frozen=True, kw_only=True):
    """`change` of the rows is in `metric`. `sha256` is of what was used of the set."""

    name: str
    sha256: str
    counts: dict[str, int]
    metric: str
    rows: list[Row]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`absent` are parts that were not measured, with the reason. `settings` are of the services as users get them."""

    machine: Machine
    settings: dict[str, str]
    sets: list[SetRows]
    absent: dict[str, str]


def rows_of(measured: Sequence[Measurement], *, metric: str, shown: Sequence[str]) -> list[Row]:
    """In the order given, with the means of `shown`. Raises ValueError where a base is missing, or has other questions."""
    by_part = {each.part: each for each in measured}
    return [_row(each, by_part, metric, shown) for each in measured]


def _row(each: Measurement, by_part: dict[str, Measurement], metric: str, shown: Sequence[str]) -> Row:
    means = {name: _mean([scores[name] for scores in each.scores.values()]) for name in shown}
    tokens = None if each.tokens is None else round(each.tokens, 1)
    if each.part == each.base:
        return Row(group=each.group, part=each.part, scores=means, tokens=tokens)
    base = by_part.get(each.base)
    if base is None or base.scores.keys() != each.scores.keys():
        raise ValueError(f"{each.part!r} cannot be compared with {each.base!r}: that was not asked the same questions")
    found = paired(*([of.scores[query][metric] for query in each.scores] for of in (each, base)))
    change = Change(
        mean=round(found.difference.mean, _DIGITS),
        low=round(found.difference.low, _DIGITS),
        high=round(found.difference.high, _DIGITS),
        p=round(found.p, _DIGITS),
    )
    return Row(group=each.group, part=each.part, scores=means, base=each.base, change=change, tokens=tokens)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), _DIGITS)
