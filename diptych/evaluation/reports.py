"""One or several runs as a page for people: what was asked, what came out, what differs, and which queries to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from diptych.evaluation.gate import Comparison, MetricChange, QueryChange, compare
from diptych.evaluation.plots import changes_plot, latency_plot, means_plot, spread_plot
from diptych.evaluation.results import Result
from diptych.evaluation.statistics import Interval

_QUERIES_SHOWN: Final = 20
_TEXT_SHOWN: Final = 120
_CATEGORIES_MIN: Final = 2
# Of twenty differences by chance alone one looks like this.
_SIGNIFICANT: Final = 0.05
# What a result of several metrics is mostly about.
_MAIN: Final = {"memory": "share@10"}
_PAIRED: Final = (
    "Each query is compared with itself. p is how often chance alone would give a difference at least as large (paired "
    "randomisation test, two-sided); differences with p below .05 stand out. better and worse count queries."
)
_TITLES: Final = {
    "retrieval": "Searches",
    "memory": "Recall of what was said",
    "context": "Evidence in the assembled context",
    "summaries": "What summaries keep",
}


@dataclass(frozen=True, slots=True)
class Table:
    """The first column is text, the others are numbers unless `is_text`. `strong` names cells by row and column."""

    columns: list[str]
    rows: list[list[str]]
    is_text: bool = False
    strong: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class Figure:
    caption: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """`level` 2 is one dataset, 3 a part of it."""

    title: str
    level: int = 3
    paragraphs: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    title: str
    sections: list[Section]


def make_page(results: Sequence[Result], *, texts: Mapping[str, str] | None = None, has_plots: bool) -> Page:
    """Runs of the same kind, dataset and metrics stand together, the first of them as what the others are compared with.
    `texts` are those of the queries, where they may be shown."""
    groups: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        groups.setdefault((result.kind, result.dataset.sha256, tuple(result.overall)), []).append(result)
    sections: list[Section] = []
    for number, group in enumerate(groups.values()):
        sections += _group(_apart(group), texts or {}, f"plot-{number}", has_plots=has_plots)
    names = ", ".join(dict.fromkeys(result.dataset.name for result in results))
    return Page(title=f"Diptych over {names}", sections=sections)


def main_metric(result: Result) -> str:
    usual = _MAIN.get(result.kind, "")
    return usual if usual in result.overall else next(iter(result.overall))


def _apart(group: Sequence[Result]) -> dict[str, Result]:
    """By label; the second of two with the same one is called so."""
    named: dict[str, Result] = {}
    for result in group:
        label, number = result.label, 2
        while label in named:
            label, number = f"{result.label} ({number})", number + 1
        named[label] = result
    return named


def _group(runs: Mapping[str, Result], texts: Mapping[str, str], name: str, *, has_plots: bool) -> list[Section]:
    first, *others = runs.values()
    comparisons = {label: compare(first, other) for label, other in zip(list(runs)[1:], others, strict=True)}
    sections = [_head(runs, comparisons), _means(runs, name, has_plots=has_plots)]
    if comparisons:
        sections.append(_differences(next(iter(runs)), comparisons, main_metric(first), name, has_plots=has_plots))
    if len(first.categories) >= _CATEGORIES_MIN:
        sections.append(_categories(runs, name, has_plots=has_plots))
    sections.append(_costs(runs, name, has_plots=has_plots))
    sections.append(_fallen(comparisons, main_metric(first), texts) if comparisons else _lowest(first, texts))
    sections.append(_made(runs))
    return [section for section in sections if section.paragraphs or section.tables or section.figures]


def _head(runs: Mapping[str, Result], comparisons: Mapping[str, Comparison]) -> Section:
    before, first = next(iter(runs.items()))
    main = main_metric(first)
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in first.dataset.counts.items())
    found = first.overall[main]
    said = [f"{before}: {main} {found.mean:.3f} ({found.low:.3f} to {found.high:.3f})."]
    said += [_in_words(label, _of(comparison, main)) for label, comparison in comparisons.items()]
    return Section(
        title=f"{_TITLES[first.kind]}: {first.dataset.name}",
        level=2,
        paragraphs=[f"{counts}. SHA-256 of what was used: {first.dataset.sha256[:16]}.", *said],
    )


def _in_words(label: str, change: MetricChange) -> str:
    found = change.difference
    if not found.better and not found.worse:
        return f"{label}: the same {change.metric} for every query."
    chance = "more than chance does" if found.p < _SIGNIFICANT else "which chance alone may do"
    return (
        f"{label}: {change.metric} {found.ours:.3f}, {found.difference.mean:+.3f} "
        f"({found.difference.low:+.3f} to {found.difference.high:+.3f}), {chance} (p = {found.p:.4f}); "
        f"{found.better} queries gained and {found.worse} lost."
    )


def _means(runs: Mapping[str, Result], name: str, *, has_plots: bool) -> Section:
    first = next(iter(runs.values()))
    rows, strong = [], set()
    for at, metric in enumerate(first.overall):
        found = [result.overall[metric] for result in runs.values()]
        rows.append([metric, *(_with_interval(each) for each in found)])
        if len(found) > 1:
            best = max(found, key=lambda each: each.mean).mean
            strong |= {(at, place) for place, each in enumerate(found, start=1) if each.mean == best}
    figures = []
    if has_plots:
        svg = means_plot(f"{name}-means", {label: result.overall for label, result in runs.items()})
        figures.append(Figure("Means over all queries, and where 95 of 100 resamplings of the queries put them.", svg))
        main = main_metric(first)
        scores = {label: list(result.scores(main).values()) for label, result in runs.items()}
        figures.append(Figure(f"How {main} is spread over the queries.", spread_plot(f"{name}-spread", main, scores)))
    table = Table(columns=["", *runs], rows=rows, strong=frozenset(strong))
    return Section(title="Means", figures=figures, tables=[table])


def _differences(
    before: str, comparisons: Mapping[str, Comparison], main: str, name: str, *, has_plots: bool
) -> Section:
    tables = []
    for label, comparison in comparisons.items():
        rows = [[change.metric, *_difference_cells(change)] for change in comparison.metrics]
        telling = {(at, 1) for at, each in enumerate(comparison.metrics) if each.difference.p < _SIGNIFICANT}
        columns = [f"{label} against {before}", "difference", "p", "better", "worse"]
        tables.append(Table(columns=columns, rows=rows, strong=frozenset(telling)))
    figures = []
    if has_plots:
        changes = {label: _of(comparison, main).changes for label, comparison in comparisons.items()}
        caption = f"What each query lost or won in {main}, against {before}."
        figures.append(Figure(caption, changes_plot(f"{name}-changes", main, changes)))
    return Section(
        title=f"Against {before}",
        paragraphs=[_PAIRED],
        figures=figures,
        tables=tables,
    )


def _categories(runs: Mapping[str, Result], name: str, *, has_plots: bool) -> Section:
    first = next(iter(runs.values()))
    main = main_metric(first)
    by_run = {
        label: {category: scores[main] for category, scores in result.categories.items() if main in scores}
        for label, result in runs.items()
    }
    rows = [
        [category, str(first.categories[category][main].count)]
        + [_with_interval(found[category]) if category in found else "" for found in by_run.values()]
        for category in by_run[next(iter(runs))]
    ]
    figures = [Figure(f"{main} by category.", means_plot(f"{name}-categories", by_run))] if has_plots and rows else []
    table = Table(columns=["category", "queries", *runs], rows=rows)
    return Section(title=f"{main} by category", figures=figures, tables=[table] if rows else [])


def _costs(runs: Mapping[str, Result], name: str, *, has_plots: bool) -> Section:
    timed = {label: result.latency for label, result in runs.items() if result.latency is not None}
    tables = []
    if timed:
        rows = [
            [label, str(each.count), f"{each.p50:g}", f"{each.p95:g}", f"{each.p99:g}"] for label, each in timed.items()
        ]
        tables.append(Table(columns=["milliseconds of a call", "calls", "p50", "p95", "p99"], rows=rows))
    tokens = [[label, _tokens(result.tokens)] for label, result in runs.items() if result.tokens is not None]
    if tokens:
        tables.append(Table(columns=["", "tokens of an answer"], rows=tokens))
    figures = []
    if has_plots and timed:
        latencies = {
            label: [query.latency_ms for query in runs[label].queries if query.latency_ms is not None]
            for label in timed
        }
        svg = latency_plot(f"{name}-latency", latencies)
        figures.append(Figure("Calls answered within so many milliseconds, over HTTP and one at a time.", svg))
    return Section(title="What it costs", figures=figures, tables=tables)


def _fallen(comparisons: Mapping[str, Comparison], main: str, texts: Mapping[str, str]) -> Section:
    tables = []
    for label, comparison in comparisons.items():
        change = _of(comparison, main)
        if change.fell:
            rows = [_query_cells(each, texts) for each in change.fell[:_QUERIES_SHOWN]]
            left = len(change.fell) - len(rows)
            more = [[f"and {left} more", "", "", "", ""]] if left else []
            tables.append(_without_empty([label, "query", "category", "before", "after"], rows + more))
    return Section(title=f"Queries that lost most in {main}", tables=tables)


def _lowest(result: Result, texts: Mapping[str, str]) -> Section:
    main = main_metric(result)
    asked = sorted((query for query in result.queries if main in query.scores), key=lambda each: each.scores[main])
    rows = [
        [query.id, _short(texts.get(query.id, "")), query.category, f"{query.scores[main]:.3f}"]
        for query in asked[:_QUERIES_SHOWN]
        if query.scores[main] < 1.0
    ]
    table = _without_empty(["id", "query", "category", main], rows)
    return Section(title=f"Queries with the least {main}", tables=[table] if rows else [])


def _without_empty(columns: list[str], rows: list[list[str]]) -> Table:
    """Texts are not in results, and not every set has categories."""
    shown = [place for place in range(len(columns)) if place == 0 or any(row[place] for row in rows)]
    return Table(
        columns=[columns[place] for place in shown],
        rows=[[row[place] for place in shown] for row in rows],
        is_text=True,
    )


def _made(runs: Mapping[str, Result]) -> Section:
    """Settings that differ stand side by side, the others once."""
    flat = {label: _flat(_described(result)) for label, result in runs.items()}
    names = dict.fromkeys(name for found in flat.values() for name in found)
    differing, same = [], []
    for name in names:
        values = [found.get(name, "") for found in flat.values()]
        if len(set(values)) > 1:
            differing.append([name, *values])
        else:
            same.append([name, values[0]])
    tables = [Table(columns=["differs", *runs], rows=differing, is_text=True)] if differing else []
    tables.append(Table(columns=["the same for all" if len(runs) > 1 else "setting", ""], rows=same, is_text=True))
    return Section(title="How it was made", tables=tables)


def _described(result: Result) -> dict[str, Any]:
    services = {each.service: {"version": each.version, **each.details} for each in result.services}
    machine = result.machine
    return {
        "made at": f"{result.made_at:%Y-%m-%d %H:%M} UTC",
        **result.settings,
        **services,
        "machine": f"{machine.cpu}, {machine.cores} cores, {machine.system}, Python {machine.python}",
        "versions": ", ".join(f"{name} {number}" for name, number in result.versions.items()),
    }


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, part in value.items():
        where = f"{path}.{name}" if path else name
        if isinstance(part, Mapping):
            found |= _flat(part, where)
        elif part is not None:
            found[where] = ", ".join(map(str, part)) if isinstance(part, list) else str(part)
    return found


def _of(comparison: Comparison, metric: str) -> MetricChange:
    return next(each for each in comparison.metrics if each.metric == metric)


def _difference_cells(change: MetricChange) -> list[str]:
    found = change.difference
    return [
        f"{found.difference.mean:+.3f} ({found.difference.low:+.3f} to {found.difference.high:+.3f})",
        f"{found.p:.4f}",
        str(found.better),
        str(found.worse),
    ]


def _query_cells(change: QueryChange, texts: Mapping[str, str]) -> list[str]:
    return [change.id, _short(texts.get(change.id, "")), change.category, f"{change.before:.3f}", f"{change.after:.3f}"]


def _with_interval(found: Interval) -> str:
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _tokens(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:,.0f} ({found.low:,.0f} to {found.high:,.0f})"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else line[: _TEXT_SHOWN - 1] + "…"
