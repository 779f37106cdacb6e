"""Snapshots of running services, and putting one back."""

import asyncio
from pathlib import Path

import click
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from diptych.console import Options, command, json_option, out, show_json
from shared.snapshots import restore as restore_snapshot


@click.command()
@click.option("--list", "only_list", is_flag=True, help="List the snapshots there are, and make none.")
@json_option
@click.pass_obj
@command
async def snapshot(options: Options, only_list: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Copy everything both services know into folders on their machine, while they run.

    Each service answers where its copy is; `diptych restore` puts it back. Needs the scope admin where keys exist.
    """
    async with options.retrieval() as retrieval, options.memory() as memory:
        if only_list:
            listed = await asyncio.gather(retrieval.snapshots(), memory.snapshots())
            found = [each for page in listed for each in page.items]
        else:
            found = list(await asyncio.gather(retrieval.create_snapshot(), memory.create_snapshot()))
    if options.as_json:
        show_json(found)
        return
    table = Table("service", "size", "path")
    for each in found:
        table.add_row(each.service, decimal(each.bytes), escape(each.path))
    out.print(table)


@click.command()
@click.argument("snapshots", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--replace", is_flag=True, help="Where the service has data already, keep that beside and take its place."
)
@json_option
@click.pass_obj
@command
async def restore(options: Options, snapshots: tuple[Path, ...], replace: bool) -> None:  # noqa: FBT001 - as above
    """Put snapshots back into the data directory. The services must be stopped; indexes are rebuilt at the next start.

    Afterwards `diptych check` compares everything with what was restored.
    """
    restored = [
        await asyncio.to_thread(restore_snapshot, path, options.data_dir, replace=replace) for path in snapshots
    ]
    if options.as_json:
        show_json(restored)
        return
    for manifest in restored:
        out.print(f"{manifest.service}: restored as of {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC")
    out.print("Start the services, then `diptych check` compares every index with what was restored.")
