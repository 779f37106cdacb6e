"""The options that every evaluation takes, and what is done with its result."""

import asyncio
import functools
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
from rich import box
from rich.markup import escape
from rich.table import Table

from diptych.console import EXIT_WORSE, Options, add_fields, err, json_option, out, show_json
from diptych.evaluation.gate import TOLERANCE, Comparison, compare, refuse_other
from diptych.evaluation.pages import check_ending, has_plots, write_page
from diptych.evaluation.reports import make_page
from diptych.evaluation.results import Kind, Result, read_result, write_result
from diptych.evaluation.services import Services, running_services, started_services

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_KEPT: Final = click.Path(path_type=Path, file_okay=False)
# Of each metric that fell; the rest are counted.
_QUERIES_SHOWN: Final = 20
_TEXT_SHOWN: Final = 100
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was chosen of `evaluation_options`."""

    dataset: Path
    limit: int | None
    seed: int
    reuse: bool
    start: bool
    keep: Path | None
    label: str
    output: Path | None
    baseline: Path | None
    tolerance: float
    report: Path | None


def evaluation_options(function: FunctionT) -> Any:
    """Hands them to the command as one `given`, beside its own."""

    @functools.wraps(function)
    def gathered(*arguments: Any, **options: Any) -> Any:
        given = Given(**{field.name: options.pop(field.name) for field in fields(Given)})
        return function(*arguments, given=given, **options)

    chosen: Any = gathered
    for option in reversed(_OPTIONS):
        chosen = option(chosen)
    return chosen


_OPTIONS: Final = (
    click.option("--dataset", required=True, type=_FOLDER, metavar="DIR", help="The folder of the dataset."),
    click.option("--limit", "-n", type=click.IntRange(min=1), help="Ask only so many queries, chosen by lot."),
    click.option("--seed", default=0, show_default=True, help="The lot: the same seed chooses the same."),
    click.option("--reuse", is_flag=True, help="Ask what an earlier run has filled, and write nothing."),
    click.option("--start", is_flag=True, help="Start both services for this run, in a scratch folder on free ports."),
    click.option("--keep", type=_KEPT, metavar="DIR", help="With --start: keep its data here, for another run."),
    click.option("--label", default="", help="What this run is called in reports; by default how it asks."),
    click.option("--output", "-o", type=_FILE, metavar="FILE", help="Write the result here, as JSON."),
    click.option(
        "--baseline", type=_FILE, metavar="FILE", help="A result to compare with; exits with 4 where this one is worse."
    ),
    click.option(
        "--tolerance",
        type=click.FloatRange(min=0),
        default=TOLERANCE,
        show_default=True,
        help="How much a mean may fall.",
    ),
    click.option(
        "--report", type=_FILE, metavar="FILE", help="Write a page for people here, with the baseline: .html or .md."
    ),
    json_option,
)


@asynccontextmanager
async def services_of(options: Options, given: Given) -> AsyncIterator[Services]:
    """Those that were named, or a pair of its own. Raises UsageError for --keep without --start."""
    if not given.start:
        if given.keep is not None:
            raise click.UsageError("--keep is for services that are started here: add --start")
        async with running_services(
            options.retrieval_url, options.memory_url, api_key=options.api_key, timeout_s=options.timeout_s
        ) as services:
            yield services
        return
    async with started_services(keep=given.keep, timeout_s=options.timeout_s) as services:
        yield services


def read_baseline(
    given: Given, *, kind: Kind, dataset: str, sha256: str, metrics: Sequence[str] | None
) -> Result | None:
    """Before anything is measured: whoever waited for minutes should not hear that it was for nothing."""
    if given.report is not None:
        check_ending(given.report)
    if given.baseline is None:
        return None
    baseline = read_result(given.baseline)
    refuse_other(baseline, kind=kind, dataset=dataset, sha256=sha256, metrics=metrics)
    return baseline


async def finish(
    options: Options, given: Given, result: Result, *, baseline: Result | None, texts: Mapping[str, str]
) -> None:
    """Keeps the result and shows it. Exits with 4 where it is worse than its baseline. `texts` are those of the queries."""
    comparison = None if baseline is None else compare(baseline, result, tolerance=given.tolerance)
    if given.output is not None:
        await asyncio.to_thread(write_result, given.output, result)
        err.print(f"written to {escape(str(given.output))}", soft_wrap=True)
    if given.report is not None:
        runs = [result] if baseline is None else [baseline, result]
        page = await asyncio.to_thread(make_page, runs, texts=texts, has_plots=has_plots(given.report))
        await asyncio.to_thread(write_page, given.report, page)
        err.print(f"written to {escape(str(given.report))}", soft_wrap=True)
    if options.as_json:
        show_json(result if comparison is None else add_fields(result, comparison=msgspec.to_builtins(comparison)))
    else:
        show_result(result)
        if comparison is not None:
            show_comparison(comparison, texts)
    if comparison is not None and comparison.worse:
        sys.exit(EXIT_WORSE)


def show_comparison(comparison: Comparison, texts: Mapping[str, str]) -> None:
    """What changed, and of what got worse each query."""
    table = Table("metric", "before", "now", "difference", "p", "queries", "", box=box.SIMPLE, pad_edge=False)
    for change in comparison.metrics:
        found = change.difference
        table.add_row(
            change.metric,
            f"{found.theirs:.3f}",
            f"{found.ours:.3f}",
            f"{found.difference.mean:+.3f} ({found.difference.low:+.3f} {found.difference.high:+.3f})",
            f"{found.p:.4f}",
            f"+{found.better} -{found.worse}",
            "[red]worse[/]" if change.is_worse else "",
        )
    out.print(f"against [bold]{escape(comparison.before)}[/], tolerance {comparison.tolerance:g}")
    out.print(table)
    for path, (before, after) in comparison.settings.items():
        out.print(f"[yellow]{escape(path)}[/]: {escape(str(before))} before, {escape(str(after))} now", soft_wrap=True)
    for change in comparison.worse:
        err.print(
            f"[red]{change.metric} fell by {-change.difference.difference.mean:.3f}[/], in {len(change.fell)} queries:"
        )
        for query in change.fell[:_QUERIES_SHOWN]:
            about = f" [dim]{escape(query.category)}[/]" if query.category else ""
            text = escape(_short(texts.get(query.id, "")))
            err.print(f"  {query.before:.3f} to {query.after:.3f}  {escape(query.id)}{about}  {text}", soft_wrap=True)
        if len(change.fell) > _QUERIES_SHOWN:
            err.print(f"  and {len(change.fell) - _QUERIES_SHOWN} more; --json has them all")


def show_result(result: Result) -> None:
    """A table of means with what chance may have done to them, and by category."""
    count = len(result.queries)
    out.print(f"[bold]{escape(result.label)}[/] over {escape(result.dataset.name)}: {count} queries")
    table = Table("metric", "mean", "95 of 100 resamplings", box=box.SIMPLE)
    for metric, found in result.overall.items():
        table.add_row(metric, f"{found.mean:.3f}", f"{found.low:.3f} to {found.high:.3f}")
    out.print(table)
    if result.categories:
        by_category = Table("", *(escape(category) for category in result.categories), box=box.SIMPLE)
        asked = Counter(query.category for query in result.queries)
        by_category.add_row("queries", *(str(asked[category]) for category in result.categories))
        for metric in result.overall:
            cells = (scores.get(metric) for scores in result.categories.values())
            by_category.add_row(metric, *("" if each is None else f"{each.mean:.3f}" for each in cells))
        out.print(by_category)
    if result.latency is not None:
        spent = result.latency
        out.print(f"[dim]{spent.count} calls: p50 {spent.p50:g} ms, p95 {spent.p95:g} ms, p99 {spent.p99:g} ms[/]")
    if result.tokens is not None:
        out.print(f"[dim]an answer costs {result.tokens.mean:.0f} tokens[/]")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_SHOWN else line[: _TEXT_SHOWN - 1] + "…"
