"""All benchmarks by one command: `python -m benchmarks list`, `run NAME...`, `quick`, `all`.

Results are written to benchmarks/results, from which the numbers and plots of the README and of docs/EVALUATION.md are made
(benchmarks/readme.py); quick ones to benchmarks/results/quick, which only shows them.
"""

import sys

import click

from benchmarks.readme import ROOT, write_pages
from benchmarks.registry import SUITES, suites_named
from benchmarks.report import err, table_of
from benchmarks.running import read_runs, results_dir, run_suites, table_of_runs
from diptych.console import command, out


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Measure the speed of both services, and of others beside them."""


@main.command(name="list")
def list_suites() -> None:
    """Every benchmark: what it measures, and about how long it takes; where it was run here, how long it took."""
    runs, quick = (read_runs(results_dir(is_quick=is_quick)) for is_quick in (False, True))
    rows = [
        (
            suite.name,
            suite.measures,
            f"{runs[suite.name].seconds / 60:.1f} min" if suite.name in runs else f"about {suite.minutes:g} min",
            f"{quick[suite.name].seconds:.0f} s" if suite.name in quick else f"about {60 * suite.quick_minutes:.0f} s",
        )
        for suite in SUITES
    ]
    out.print(table_of(("name", "measures", "in full", "quickly"), rows, texts=2, wraps=1))


@main.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--quick", "is_quick", is_flag=True, help="On little data; the committed results stay as they are.")
@command
async def run(names: tuple[str, ...], *, is_quick: bool) -> None:
    """Run the benchmarks NAME..., each in full."""
    await _run(names, is_quick=is_quick)


@main.command()
@click.option("--without", multiple=True, metavar="NAME", help="Leave this one out; may be repeated.")
@command
async def quick(without: tuple[str, ...]) -> None:
    """Run every benchmark on little data, in a few minutes. Other systems are left out, and no number is kept for the README."""
    suites_named(without)
    names = tuple(suite.name for suite in SUITES if suite.name not in without and not suite.has_peers)
    await _run(names, is_quick=True)


@main.command(name="all")
@click.option("--without", multiple=True, metavar="NAME", help="Leave this one out; may be repeated.")
@command
async def run_all(without: tuple[str, ...]) -> None:
    """Run every benchmark in full, and write their numbers into the README and docs/EVALUATION.md."""
    suites_named(without)
    await _run(tuple(suite.name for suite in SUITES if suite.name not in without), is_quick=False)


async def _run(names: tuple[str, ...], *, is_quick: bool) -> None:
    runs = await run_suites(suites_named(names), is_quick=is_quick)
    out.print(table_of_runs(runs))
    if not is_quick:
        for path in write_pages():
            err.print(f"written: {path.relative_to(ROOT)}")
    if any(each.ended != "done" for each in runs):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
