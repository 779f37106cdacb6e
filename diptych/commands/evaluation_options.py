"""The options that every evaluation takes, and what is done with its result."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from rich.markup import escape
from rich.table import Table

from diptych.console import Options, err, json_option, out, show_json
from diptych.evaluation.results import Result, write_result
from diptych.evaluation.services import Services, running_services, started_services

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_KEPT: Final = click.Path(path_type=Path, file_okay=False)
_NUMBERS: Final = ("mean", "95 of 100 resamplings")
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


async def finish(options: Options, given: Given, result: Result) -> None:
    """Keeps the result, and shows it."""
    if given.output is not None:
        await asyncio.to_thread(write_result, given.output, result)
        err.print(f"written to {escape(str(given.output))}", soft_wrap=True)
    if options.as_json:
        show_json(result)
    else:
        show_result(result)


def show_result(result: Result) -> None:
    """A table of means with what chance may have done to them, and by category."""
    count = len(result.queries)
    out.print(f"[bold]{escape(result.label)}[/] over {escape(result.dataset.name)}: {count} queries")
    table = Table("metric", *_NUMBERS)
    for metric, found in result.overall.items():
        table.add_row(metric, f"{found.mean:.3f}", f"{found.low:.3f} to {found.high:.3f}")
    out.print(table)
    if result.categories:
        metrics = list(result.overall)
        by_category = Table("category", "queries", *metrics)
        for category, scores in result.categories.items():
            asked = sum(query.category == category for query in result.queries)
            cells = (f"{scores[metric].mean:.3f}" if metric in scores else "" for metric in metrics)
            by_category.add_row(escape(category), str(asked), *cells)
        out.print(by_category)
    if result.latency is not None:
        spent = result.latency
        out.print(f"[dim]{spent.count} calls: p50 {spent.p50:g} ms, p95 {spent.p95:g} ms, p99 {spent.p99:g} ms[/]")
    if result.tokens is not None:
        out.print(f"[dim]an answer costs {result.tokens.mean:.0f} tokens[/]")
