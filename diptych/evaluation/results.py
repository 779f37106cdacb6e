"""The file that a run is kept in: what was asked of what, every query's scores, and what they come to.

It holds ids and numbers, and no text of the dataset, so that it may be published or committed where the dataset may not.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from diptych.evaluation.lines import read_text
from diptych.evaluation.machine import Machine, this_machine, versions
from diptych.evaluation.statistics import Interval, interval, percentile
from shared.errors import SettingsError
from shared.messages import Info

Kind = Literal["retrieval", "memory", "context", "summaries"]

# Raised when an old file would be misread.
FORMAT: Final = 1
# Enough to tell any two means apart, and short enough to read.
_DIGITS: Final = 6
_NO_QUERIES: Final = b'"queries": []\n}'


class DatasetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`sha256` is of what was used of it; two results compare only where it is the same."""

    name: str
    sha256: str
    counts: dict[str, int]


class QueryResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`scores` are by metric, and more is better. `tokens` are what the answer costs a model to read."""

    id: str
    category: str = ""
    scores: dict[str, float]
    tokens: int | None = None
    latency_ms: float | None = None


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of a whole call over HTTP, one at a time, of queries that the service had not seen before."""

    count: int
    p50: float
    p95: float
    p99: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `settings` are what was asked for, `services` what the services say of themselves.

    `categories` has the same metrics as `overall`, of the queries of each category; none where queries have none.
    """

    format: int = FORMAT
    kind: Kind
    label: str
    made_at: datetime
    dataset: DatasetInfo
    settings: dict[str, Any]
    services: list[Info]
    versions: dict[str, str]
    machine: Machine
    overall: dict[str, Interval]
    categories: dict[str, dict[str, Interval]]
    latency: Latency | None = None
    tokens: Interval | None = None
    queries: list[QueryResult]

    def scores(self, metric: str) -> dict[str, float]:
        """By query, of those that have this metric."""
        return {query.id: query.scores[metric] for query in self.queries if metric in query.scores}


def make_result(
    *,
    kind: Kind,
    label: str,
    dataset: DatasetInfo,
    settings: Mapping[str, Any],
    services: Sequence[Info],
    queries: Sequence[QueryResult],
    metrics: Sequence[str] = (),
) -> Result:
    """With aggregates of the queries, in the order of `metrics` where not every query has all of them. Raises SettingsError where there are none."""
    if not queries:
        raise SettingsError(f"the dataset {dataset.name} has nothing to ask")
    rounded = [_rounded(query) for query in queries]
    latencies = [query.latency_ms for query in rounded if query.latency_ms is not None]
    tokens = [float(query.tokens) for query in rounded if query.tokens is not None]
    return Result(
        kind=kind,
        label=label,
        made_at=datetime.now(UTC).replace(microsecond=0),
        dataset=dataset,
        # As they will be read again: a tuple comes back as a list.
        settings=msgspec.json.decode(msgspec.json.encode(settings), type=dict[str, Any]),
        services=list(services),
        versions=versions(),
        machine=this_machine(),
        overall=_aggregated(rounded, metrics),
        categories={
            category: _aggregated([query for query in rounded if query.category == category], metrics)
            for category in dict.fromkeys(query.category for query in rounded)
            if category
        },
        latency=_latency(latencies) if latencies else None,
        tokens=_short(interval(tokens)) if tokens else None,
        queries=rounded,
    )


def read_result(path: Path) -> Result:
    """Raises SettingsError where it is missing, or is not one."""
    try:
        result = msgspec.json.decode(read_text(path), type=Result)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is not a result of `diptych eval`: {error}") from error
    if result.format != FORMAT:
        raise SettingsError(f"{path} is a result of format {result.format}; this version reads format {FORMAT}")
    return result


def write_result(path: Path, result: Result) -> None:
    """A query a line, so that two versions of a file can be compared by eye."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoder = msgspec.json.Encoder()
    head = msgspec.json.format(encoder.encode(msgspec.structs.replace(result, queries=[])), indent=1)
    queries = b",\n  ".join(encoder.encode(query) for query in result.queries)
    opened = head.removesuffix(_NO_QUERIES)
    path.write_bytes(opened + b'"queries": [\n  ' + queries + b"\n ]\n}\n")


def _aggregated(queries: Sequence[QueryResult], order: Sequence[str]) -> dict[str, Interval]:
    found = dict.fromkeys(metric for query in queries for metric in query.scores)
    metrics = dict.fromkeys([*(metric for metric in order if metric in found), *found])
    return {
        metric: _short(interval([query.scores[metric] for query in queries if metric in query.scores]))
        for metric in metrics
    }


def _latency(values: Sequence[float]) -> Latency:
    p50, p95, p99 = (round(percentile(values, part), 2) for part in (50, 95, 99))
    return Latency(count=len(values), p50=p50, p95=p95, p99=p99)


def _rounded(query: QueryResult) -> QueryResult:
    return msgspec.structs.replace(
        query,
        scores={metric: round(value, _DIGITS) for metric, value in query.scores.items()},
        latency_ms=None if query.latency_ms is None else round(query.latency_ms, 2),
    )


def _short(value: Interval) -> Interval:
    return Interval(
        mean=round(value.mean, _DIGITS),
        low=round(value.low, _DIGITS),
        high=round(value.high, _DIGITS),
        count=value.count,
    )
