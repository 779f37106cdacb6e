"""Two runs over the same queries side by side, and whether the later one is worse. Pure.

A metric is worse when its mean fell by more than the tolerance. Whether chance could have done that is said beside it and
does not decide: the same build gives the same scores, so on these queries the loss is real, and with few queries a loss that
matters is seldom significant. The tolerance is for what differs between machines, such as the last digits of a model's vectors.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from diptych.evaluation.results import Kind, Result
from diptych.evaluation.statistics import Difference, paired
from shared.errors import SettingsError

TOLERANCE: Final = 0.01
# Scores are kept to six digits; less than this is no change of a query.
_SAME: Final = 1e-6


class QueryChange(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    category: str
    before: float
    after: float


class MetricChange(msgspec.Struct, frozen=True, kw_only=True):
    """`fell` are the queries that have less than before, those that lost most first. `changes` are those of all queries."""

    metric: str
    difference: Difference
    is_worse: bool
    fell: list[QueryChange]
    changes: list[float]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`settings` are those that differ, by path: before, after."""

    before: str
    after: str
    tolerance: float
    metrics: list[MetricChange]
    settings: dict[str, tuple[Any, Any]]

    @property
    def worse(self) -> list[MetricChange]:
        return [each for each in self.metrics if each.is_worse]


def refuse_other(baseline: Result, *, kind: Kind, dataset: str, sha256: str, metrics: Sequence[str] | None) -> None:
    """`metrics` are None while they are not known. Raises SettingsError where numbers would be compared that do not compare."""
    if baseline.kind != kind:
        raise SettingsError(f"the baseline is of `diptych eval {baseline.kind}`, and this is {kind}")
    if baseline.dataset.sha256 != sha256:
        raise SettingsError(
            f"the baseline was made over {_called(baseline.dataset.name, baseline.dataset.sha256)}, and this is "
            f"{_called(dataset, sha256)}: other texts, judgements or choice of queries. Make a new one with --output"
        )
    if metrics is not None and set(baseline.overall) != set(metrics):
        raise SettingsError(
            f"the baseline has the metrics {', '.join(baseline.overall)}, and this run {', '.join(metrics)}: "
            "ask with the same -k and budgets, or make a new one with --output"
        )


def compare(before: Result, after: Result, *, tolerance: float = TOLERANCE) -> Comparison:
    """Raises SettingsError unless both are of the same kind, dataset and metrics."""
    refuse_other(
        before,
        kind=after.kind,
        dataset=after.dataset.name,
        sha256=after.dataset.sha256,
        metrics=list(after.overall),
    )
    return Comparison(
        before=before.label,
        after=after.label,
        tolerance=tolerance,
        metrics=[_change(before, after, metric, tolerance) for metric in after.overall],
        settings=dict(_differing(_asked(before), _asked(after), "")),
    )


def _change(before: Result, after: Result, metric: str, tolerance: float) -> MetricChange:
    old, new = before.scores(metric), after.scores(metric)
    if old.keys() != new.keys():
        raise SettingsError(f"not the same queries have {metric} in both results")
    difference = paired([new[query] for query in new], [old[query] for query in new])
    categories = {query.id: query.category for query in after.queries}
    fell = [
        QueryChange(id=query, category=categories[query], before=old[query], after=new[query])
        for query in new
        if old[query] - new[query] > _SAME
    ]
    return MetricChange(
        metric=metric,
        difference=difference,
        # Means of scores that were rounded one by one: the last digit is nobody's loss.
        is_worse=-difference.difference.mean > tolerance + _SAME,
        fell=sorted(fell, key=lambda each: (each.after - each.before, each.id)),
        changes=[round(new[query] - old[query], 6) for query in new],
    )


def _asked(result: Result) -> dict[str, Any]:
    services = {each.service: {"version": each.version, **each.details} for each in result.services}
    return {**result.settings, **services}


def _differing(before: Any, after: Any, path: str) -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        names = dict.fromkeys([*before, *after])
        return [
            found
            for name in names
            for found in _differing(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
        ]
    return [] if before == after else [(path, (before, after))]


def _called(name: str, sha256: str) -> str:
    return f"{name} ({sha256[:12]})"
