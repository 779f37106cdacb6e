"""Documents in, passages out."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diptych.console import EXIT_FAILED, EXIT_USAGE, Options, command, err, out, show_json
from diptych.files import SourceFile, select_files
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import DocumentIn, Hit, IngestResult

# A batch is one job: small enough for a lively progress bar and for any body limit, large enough to fill the model.
_BATCH_FILES_MAX = 32
_BATCH_BYTES_MAX = 2_000_000
_STATUSES = ("created", "replaced", "unchanged", "failed")


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--collection", "-c", default="default", show_default=True, help="Where the documents go; made if missing."
)
@click.pass_obj
@command
async def ingest(options: Options, paths: tuple[str, ...], collection: str) -> None:
    """Ingest files, folders (recursive) and globs: Markdown, HTML and plain text.

    A document is named by its path below the folder given, so ingesting again replaces what changed and skips the rest.
    Exits with 1 when a document failed.
    """
    try:
        selection = select_files(paths)
    except FileNotFoundError as error:
        err.print(f"[red]Error:[/red] there is no file, folder or match for {escape(str(error))}")
        sys.exit(EXIT_USAGE)
    async with options.retrieval() as client:
        results = await ingest_files(client, collection, selection.files, quiet=options.as_json)
    counts = Counter(dict.fromkeys(_STATUSES, 0)) + Counter(result.status for result in results)
    summary: dict[str, Any] = {status: counts[status] for status in _STATUSES}
    failed = [result for result in results if result.status == "failed"]
    if options.as_json:
        show_json({"collection": collection, **summary, "skipped": len(selection.skipped), "failures": failed})
    else:
        for result in failed:
            err.print(f"[red]failed[/red] {escape(result.id)}: {escape(result.error or '')}")
        line = ", ".join(f"{count} {status}" for status, count in summary.items())
        out.print(f"{escape(collection)}: {line}; {len(selection.skipped)} skipped (unknown kind)")
    if failed:
        sys.exit(EXIT_FAILED)


async def ingest_files(
    client: RetrievalClient, collection: str, files: Sequence[SourceFile], *, quiet: bool
) -> list[IngestResult]:
    """Ingests in batches behind a progress bar, and returns when everything is searchable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[IngestResult] = []
    with Progress(*columns, console=err, disable=quiet) as progress:
        task = progress.add_task(f"Ingesting into {collection}", total=len(files))
        for batch in _batches(files):
            documents = [_document(file) for file in batch]
            answer = await client.ingest(collection, documents, wait=True)
            if answer.results is None:  # it took longer than the server waits: ask until it has ended
                answer = await client.ingest(collection, documents, wait=True)
            results += answer.results or []
            progress.advance(task, len(batch))
    return results


def _document(file: SourceFile) -> DocumentIn:
    return DocumentIn(
        id=file.document_id, content=file.path.read_bytes(), content_type=file.content_type, uri=file.document_id
    )


def _batches(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        file_bytes = file.path.stat().st_size
        if batch and (len(batch) == _BATCH_FILES_MAX or size + file_bytes > _BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file_bytes
    if batch:
        yield batch


@click.command()
@click.argument("query")
@click.option("--collection", "-c", "collections", multiple=True, help="Repeat for several; all when left out.")
@click.option("--mode", type=click.Choice(["hybrid", "dense", "lexical"]), default="hybrid", show_default=True)
@click.option("--limit", "-n", default=5, show_default=True)
@click.option("--explain", is_flag=True, help="Show how the search was done and what each stage took.")
@click.pass_obj
@command
async def search(
    options: Options,
    query: str,
    collections: tuple[str, ...],
    mode: Any,
    limit: int,
    explain: bool,  # noqa: FBT001 - click passes flags by name
) -> None:
    """Find the passages that answer QUERY."""
    async with options.retrieval() as client:
        answer = await client.search(
            query, collections=list(collections) or None, mode=mode, limit=limit, explain=explain
        )
    if options.as_json:
        show_json(answer)
        return
    for rank, hit in enumerate(answer.hits, start=1):
        print_hit(rank, hit)
    if not answer.hits:
        out.print("No passages found.")
    if answer.plan:
        out.print(f"[dim]{answer.plan.mode}, {answer.took_ms} ms: {answer.plan.stages_ms}[/dim]")


def print_hit(rank: int, hit: Hit) -> None:
    """A passage with its source and what each leg said of it."""
    legs = [
        f"{name} {score:.3f} (rank {place})"
        for name, score, place in (
            ("dense", hit.scores.dense, hit.scores.dense_rank),
            ("lexical", hit.scores.lexical, hit.scores.lexical_rank),
        )
        if score is not None
    ]
    place = " > ".join(dict.fromkeys(part for part in (hit.title, *hit.headings) if part))
    out.print(
        f"[bold]{rank}. {escape(place or hit.document_id)}[/]  [green]{hit.score:.3f}[/]  [dim]{', '.join(legs)}[/]"
    )
    out.print(f"   [cyan]{escape(f'{hit.collection}/{hit.document_id}')}[/] characters {hit.start}-{hit.end}")
    out.print(f"   {escape(_excerpt(hit.text))}\n")


def _excerpt(text: str, length: int = 240) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
