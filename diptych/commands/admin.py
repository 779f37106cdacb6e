"""Looking at running services."""

import asyncio
import sys

import click
from rich.markup import escape
from rich.table import Table

from diptych.console import EXIT_FAILED, Options, command, json_option, out, show_json


@click.command()
@json_option
@click.pass_obj
@command
async def check(options: Options) -> None:
    """Compare every projection of both services with the truth. Exits with 1 when something differs.

    Needs the scope admin where keys exist.
    """
    async with options.retrieval() as retrieval, options.memory() as memory:
        found = await asyncio.gather(retrieval.check(), memory.check())
    reports = dict(zip(("retrieval", "memory"), found, strict=True))
    if options.as_json:
        show_json(reports)
    else:
        for name, report in reports.items():
            counted = ", ".join(f"{count} {what}" for what, count in report.checked.items())
            state = "[green]clean[/]" if report.clean else f"[red]{len(report.findings)} findings[/]"
            out.print(f"{name}: {state} ({counted})")
            for finding in report.findings:
                out.print(f"  {escape(finding.where)}: {escape(finding.problem)}")
    if not all(report.clean for report in found):
        sys.exit(EXIT_FAILED)


@click.command()
@click.argument("collection")
@json_option
@click.pass_obj
@command
async def rebuild(options: Options, collection: str) -> None:
    """Make the indexes of COLLECTION anew from the database, while searches go on."""
    async with options.retrieval() as retrieval:
        rebuilt = await retrieval.rebuild(collection)
    if options.as_json:
        show_json(rebuilt)
        return
    out.print(f"{escape(rebuilt.collection)}: {rebuilt.chunks} chunks, up to change {rebuilt.sequence}")


@click.command()
@json_option
@click.pass_obj
@command
async def info(options: Options) -> None:
    """Versions, the model and limits of both services."""
    async with options.retrieval() as retrieval, options.memory() as memory:
        found = await asyncio.gather(retrieval.info(), memory.info())
    if options.as_json:
        show_json({each.service: each for each in found})
        return
    table = Table("service", "what", "value")
    for each in found:
        table.add_row(each.service, "version", each.version)
        for name, value in each.details.items():
            table.add_row("", name, escape(str(value)))
    out.print(table)
