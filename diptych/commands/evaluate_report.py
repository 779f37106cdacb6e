"""Results side by side, for people."""

import asyncio
from pathlib import Path

import click
from rich.markup import escape

from diptych.commands.evaluate import evaluate
from diptych.console import Options, command, err
from diptych.evaluation.pages import as_markdown, check_ending, has_plots, write_page
from diptych.evaluation.reports import make_page
from diptych.evaluation.results import read_result

_FILE = click.Path(path_type=Path, dir_okay=False)


@evaluate.command("report")
@click.argument("paths", nargs=-1, required=True, type=_FILE, metavar="RESULT...")
@click.option("--output", "-o", type=_FILE, metavar="FILE", help="An .html file with plots, or an .md file.")
@click.pass_obj
@command
async def evaluate_report(_options: Options, paths: tuple[Path, ...], output: Path | None) -> None:
    """Compare results: the first of each dataset with the others. Without --output, Markdown on standard output."""
    if output is not None:
        check_ending(output)
    results = [await asyncio.to_thread(read_result, path) for path in paths]
    if output is None:
        click.echo(as_markdown(make_page(results, has_plots=False)))
        return
    page = await asyncio.to_thread(make_page, results, has_plots=has_plots(output))
    await asyncio.to_thread(write_page, output, page)
    err.print(f"written to {escape(str(output))}", soft_wrap=True)
