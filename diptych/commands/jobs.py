"""Ingest jobs: what they have done, and what to do about them."""

import sys
from contextlib import aclosing

import click
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from diptych.console import EXIT_FAILED, Options, command, err, json_option, out, show_json
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import ItemError, Job, JobEvent

_STATUSES = ("queued", "running", "succeeded", "failed", "cancelled")


@click.group()
def jobs() -> None:
    """List, follow, cancel and retry ingest jobs."""


@jobs.command("list")
@click.option("--status", type=click.Choice(_STATUSES), help="Only jobs of this status.")
@click.option("--limit", "-n", default=20, show_default=True, help="How many to show, newest first.")
@json_option
@click.pass_obj
@command
async def list_jobs(options: Options, status: str | None, limit: int) -> None:
    """Show jobs, newest first."""
    async with options.retrieval() as client:
        page = await client.jobs(status=status, limit=limit)  # type: ignore[arg-type]  # click has checked it
    if options.as_json:
        show_json(page)
        return
    table = Table("job", "collection", "status", "done", "failed", "kept to retry", "started")
    for job in page.items:
        table.add_row(
            job.id,
            escape(job.collection),
            job.status,
            f"{job.done}/{job.total}",
            str(job.failed),
            str(job.dead),
            f"{job.created_at:%Y-%m-%d %H:%M:%S}",
        )
    out.print(table if page.items else "No jobs.")


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
@command
async def show(options: Options, job_id: str) -> None:
    """Show one job and what failed in it."""
    async with options.retrieval() as client:
        job = await client.job(job_id)
    _show(options, job)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
@command
async def cancel(options: Options, job_id: str) -> None:
    """Stop a job. What it has stored stays."""
    async with options.retrieval() as client:
        job = await client.cancel_job(job_id)
    _show(options, job)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
@command
async def retry(options: Options, job_id: str) -> None:
    """Queue a job's failed documents again, as far as they are kept."""
    async with options.retrieval() as client:
        job = await client.retry_job(job_id)
    _show(options, job)


@jobs.command()
@click.argument("job_id", metavar="JOB")
@json_option
@click.pass_obj
@command
async def watch(options: Options, job_id: str) -> None:
    """Follow a job until it ends. Exits with 1 when a document failed. With --json, one event a line."""
    async with options.retrieval() as client:
        job = await follow(client, job_id, options)
    if not options.as_json:
        _show(options, job)
    if job.failed:
        sys.exit(EXIT_FAILED)


async def follow(client: RetrievalClient, job_id: str, options: Options) -> Job:
    """The job when it has ended; until then a bar and each failure as it comes, or the events as JSON."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=options.as_json) as progress:
        task = progress.add_task("Waiting", total=None)
        async with aclosing(client.job_events(job_id)) as events:
            async for event in events:
                if options.as_json:
                    show_json(event)
                if event.job is not None:
                    progress.update(task, total=event.job.total, completed=event.job.done, description=_work(event))
                if event.kind == "done" and event.job is not None:
                    return event.job
                if event.item is not None and not options.as_json:
                    print_failure(event.item)
    raise AssertionError("a stream of events goes on until the job has ended")


def print_failure(item: ItemError) -> None:
    err.print(f"[red]failed[/red] {escape(item.id)}: {escape(item.message)}")


def _work(event: JobEvent) -> str:
    if not event.chunks_in_work or event.job is None:
        return event.job.status.capitalize() if event.job else ""
    return f"Embedding {event.chunks_embedded}/{event.chunks_in_work} chunks"


def _show(options: Options, job: Job) -> None:
    if options.as_json:
        show_json(job)
        return
    for error in job.errors:
        print_failure(error)
    kept = f", {job.dead} of them kept: `diptych jobs retry {job.id}` queues them again" if job.dead else ""
    out.print(
        f"{job.id} ({escape(job.collection)}): {job.status}, {job.done} of {job.total} documents, {job.chunks} chunks; "
        f"{job.created} created, {job.replaced} replaced, {job.unchanged} unchanged, {job.failed} failed{kept}",
        soft_wrap=True,
    )
