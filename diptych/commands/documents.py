"""Documents in and out."""

import asyncio
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from diptych.commands.search import filter_option
from diptych.console import EXIT_FAILED, EXIT_USAGE, Options, command, err, json_option, out, show_json
from diptych.files import SourceFile, select_files
from shared.errors import InvalidFields, TooLarge
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import DocumentIn, ItemError, Job

# A batch is one job: small enough for a lively progress bar and for any body limit, large enough to fill the model.
_BATCH_FILES_MAX = 32
_BATCH_BYTES_MAX = 2_000_000
_PLACE = re.compile(r"\$\.documents\[(\d+)\]")
_STATUSES = ("created", "replaced", "unchanged", "failed")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--collection", "-c", default="default", show_default=True, help="Where the documents go; made if missing."
)
@json_option
@click.pass_obj
@command
async def ingest(options: Options, paths: tuple[str, ...], collection: str) -> None:
    """Ingest files, folders (recursive) and globs: PDF, Word, PowerPoint, Excel, HTML, Markdown, CSV, JSON, source code
    and plain text.

    A document is named by its path below the folder given, so ingesting again replaces what changed and skips the rest.
    What cannot be read fails by itself, with its reason, and the rest goes on. Exits with 1 when a document failed.
    """
    try:
        selection = select_files(paths)
    except FileNotFoundError as error:
        err.print(f"[red]Error:[/red] there is no file, folder or match for {escape(str(error))}")
        sys.exit(EXIT_USAGE)
    async with options.retrieval() as client:
        ingested = await ingest_files(client, collection, selection.files, quiet=options.as_json)
    summary, failures = ingested.summary, ingested.failures
    if options.as_json:
        show_json({"collection": collection, **summary, "skipped": len(selection.skipped), "failures": failures})
    else:
        _print_failures(failures)
        line = ", ".join(f"{count} {status}" for status, count in summary.items())
        out.print(f"{escape(collection)}: {line}; {len(selection.skipped)} skipped (unknown kind)")
    if failures:
        sys.exit(EXIT_FAILED)


@dataclass(frozen=True, slots=True)
class Ingested:
    """`refused` are the documents that the server would not take: no reason to leave out the others."""

    jobs: list[Job] = field(default_factory=list)
    refused: list[ItemError] = field(default_factory=list)

    @property
    def summary(self) -> dict[str, int]:
        counts = {status: sum(getattr(job, status) for job in self.jobs) for status in _STATUSES}
        return counts | {"failed": counts["failed"] + len(self.refused)}

    @property
    def failures(self) -> list[ItemError]:
        return self.refused + [error for job in self.jobs for error in job.errors]


async def ingest_files(
    client: RetrievalClient, collection: str, files: Sequence[SourceFile], *, quiet: bool
) -> Ingested:
    """Ingests in batches, a job each, behind a progress bar. Returns when everything is searchable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    ingested = Ingested()
    with Progress(*columns, console=err, disable=quiet) as progress:
        task = progress.add_task(f"Ingesting into {escape(collection)}", total=len(files))
        ended = 0
        for batch in _batches(files):
            documents = await asyncio.to_thread(_documents, batch, ingested.refused)
            job = await _job_of(client, collection, documents, ingested.refused)
            if job is not None:
                ingested.jobs.append(await _ended(client, job, partial(_show_progress, progress, task, ended)))
            ended += len(batch)
            progress.update(task, completed=ended)
    return ingested


async def _job_of(
    client: RetrievalClient, collection: str, documents: list[DocumentIn], refused: list[ItemError]
) -> Job | None:
    """A server takes all of a batch or nothing of it: what it refuses is set aside, and the rest sent again."""
    while documents:
        try:
            return await _send(client, collection, documents)
        except InvalidFields as error:
            documents = _set_aside(documents, error, refused)
        except TooLarge as error:
            # Only a file that is alone in its batch can be.
            refused += [ItemError(id=document.id or "", message=error.detail) for document in documents]
            return None
    return None


async def _send(client: RetrievalClient, collection: str, documents: list[DocumentIn]) -> Job:
    """A large file is alone in its batch, and goes as an upload: their limit is above that of other bodies."""
    first = documents[0]
    if len(documents) == 1 and len(first.content or b"") > _BATCH_BYTES_MAX:
        file = (first.uri or first.id or "", first.content or b"")
        return (await client.upload(collection, [file], document_id=first.id, wait=False)).job
    return (await client.ingest(collection, documents, wait=False)).job


async def _ended(client: RetrievalClient, job: Job, on_progress: Callable[[Job], None]) -> Job:
    async with aclosing(client.job_events(job.id)) as events:
        async for event in events:
            if event.job is not None:
                on_progress(event.job)
            if event.kind == "done" and event.job is not None:
                return event.job
    raise AssertionError("a stream of events goes on until the job has ended")


def _show_progress(progress: Progress, task: TaskID, ended: int, job: Job) -> None:
    """`ended` documents were done before this job."""
    progress.update(task, completed=ended + job.done)


def _set_aside(documents: list[DocumentIn], error: InvalidFields, refused: list[ItemError]) -> list[DocumentIn]:
    """The documents that `error` does not name; those that it does go to `refused`. Raises it when it names none."""
    named = {int(place[1]): each.message for each in error.errors if (place := _PLACE.match(each.path))}
    if not named:
        raise error
    refused += [ItemError(id=documents[index].id or "", message=message) for index, message in named.items()]
    return [document for index, document in enumerate(documents) if index not in named]


def _documents(files: Sequence[SourceFile], refused: list[ItemError]) -> list[DocumentIn]:
    """Blocking. Files that this machine does not let us read go to `refused`."""
    documents = []
    for file in files:
        try:
            content = file.path.read_bytes()
        except OSError as error:
            refused.append(ItemError(id=file.document_id, message=f"cannot be read here: {error.strerror or error}"))
            continue
        documents.append(
            DocumentIn(id=file.document_id, content=content, content_type=file.content_type, uri=file.document_id)
        )
    return documents


def _print_failures(failures: Sequence[ItemError]) -> None:
    if not failures:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold red")
    table.add_column("failed", overflow="fold")
    table.add_column("why", overflow="fold")
    for failure in failures:
        table.add_row(escape(failure.id), escape(failure.message))
    err.print(table)


def _batches(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        file_bytes = _size(file)
        if batch and (len(batch) == _BATCH_FILES_MAX or size + file_bytes > _BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file_bytes
    if batch:
        yield batch


def _size(file: SourceFile) -> int:
    try:
        return file.path.stat().st_size
    except OSError:  # reading it says why
        return 0


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--collection", "-c", required=True, help="Whose documents.")
@filter_option
@json_option
@click.pass_obj
@command
async def delete(options: Options, ids: tuple[str, ...], collection: str, conditions: dict[str, Any] | None) -> None:
    """Delete documents by their IDs, or all that a filter matches."""
    async with options.retrieval() as client:
        answer = await client.delete_documents(collection, ids or None, filter=conditions)
    if options.as_json:
        show_json(answer)
    else:
        out.print(f"{escape(collection)}: {answer.deleted} deleted")
