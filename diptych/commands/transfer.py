"""A memory out into a file, and in again."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any, Final

import click
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from diptych.console import EXIT_FAILED, Options, command, err, json_option, out, show_json
from diptych.memory_client import MemoryClient
from shared.memory_records import (
    ExportedFact,
    ExportedFeedback,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
    ImportCounts,
)
from shared.memory_stream import NDJSON, MemoryStreamReader
from shared.wire import MSGPACK

_PART_BYTES: Final = 256 * 1024
_STANDARD: Final = Path("-")
_NAMES: Final = {
    ExportedSession: "sessions",
    ExportedTurn: "turns",
    ExportedSpan: "spans",
    ExportedFact: "facts",
    ExportedFeedback: "feedback",
}
_COLUMNS: Final = (
    TextColumn("{task.description}"),
    BarColumn(),
    DownloadColumn(),
    TransferSpeedColumn(),
    TimeElapsedColumn(),
)


@click.command("export")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--user", "user_id", help="Whose memory.")
@click.option("--all", "everything", is_flag=True, help="The whole tenant's; needs the scope admin where keys exist.")
@click.option(
    "--vectors", is_flag=True, help="With the vectors, so that an import with the same model need not make them."
)
@json_option
@click.pass_obj
@command
async def export_memory(
    options: Options,
    path: Path,
    user_id: str | None,
    everything: bool,  # noqa: FBT001 - click passes flags by name
    vectors: bool,  # noqa: FBT001 - as above
) -> None:
    """Write a memory into the file PATH: sessions with their turns and spans, facts, and feedback. `-` is standard output.

    A name that ends in .msgpack is written as MessagePack, any other as lines of JSON. The file appears when it is whole.
    """
    whose: dict[str, Any] = {"user_id": user_id, "everything": everything, "vectors": vectors}
    async with options.memory() as client:
        if path == _STANDARD:
            await _export(client, sys.stdout.buffer, NDJSON, quiet=True, **whose)
            return
        part = path.with_name(f"{path.name}.part")
        try:
            with part.open("wb") as file:
                counts = await _export(client, file, _media(path), quiet=options.as_json, **whose)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    if options.as_json:
        show_json({"path": str(path), **counts})
        return
    out.print(f"{escape(str(path))}: {', '.join(f'{count} {name}' for name, count in counts.items())}")


@click.command("import")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True, allow_dash=True))
@json_option
@click.pass_obj
@command
async def import_memory(options: Options, path: Path) -> None:
    """Take in what `diptych export` wrote into the file PATH. `-` is standard input, as lines of JSON.

    A file with anything wrong in it changes nothing. What is there already is left as it is, so repeating an import is
    safe; a session or fact that is there and differs is refused by itself. Exits with 1 when one was.
    """
    with (
        click.open_file(str(path), "rb") as file,
        Progress(*_COLUMNS, console=err, disable=options.as_json) as progress,
    ):
        total = None if path == _STANDARD else (await asyncio.to_thread(path.stat)).st_size
        task = progress.add_task("Importing", total=total)

        async def parts() -> AsyncIterator[bytes]:
            while part := await asyncio.to_thread(file.read, _PART_BYTES):
                yield part
                progress.advance(task, len(part))
            progress.update(task, description="Writing")

        async with options.memory() as client:
            report = await client.import_bytes(parts(), media=_media(path))
    if options.as_json:
        show_json(report)
    else:
        for name in _NAMES.values():
            out.print(f"{name}: {_counted(getattr(report, name))}")
        for conflict in report.conflicts:
            err.print(
                f"[yellow]{conflict.type} {escape(conflict.id)}[/] (record {conflict.record}): {escape(conflict.message)}"
            )
    if report.conflicts:
        sys.exit(EXIT_FAILED)


async def _export(client: MemoryClient, file: IO[bytes], media: str, *, quiet: bool, **whose: Any) -> dict[str, int]:
    """How many records of each kind. Raises Malformed where the stream was cut off."""
    counts = dict.fromkeys(_NAMES.values(), 0)
    reader = MemoryStreamReader(media)
    with Progress(*_COLUMNS, console=err, disable=quiet) as progress:
        task = progress.add_task("Exporting", total=None)
        async with aclosing(client.export_bytes(media=media, **whose)) as parts:
            async for part in parts:
                for _, record in reader.feed(part):
                    if type(record) in _NAMES:
                        counts[_NAMES[type(record)]] += 1
                await asyncio.to_thread(file.write, part)
                progress.advance(task, len(part))
    reader.close()
    return counts


def _media(path: Path) -> str:
    return MSGPACK if path.suffix == ".msgpack" else NDJSON


def _counted(counts: ImportCounts) -> str:
    return f"{counts.created} created, {counts.unchanged} unchanged, {counts.refused} refused"
