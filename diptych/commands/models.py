"""Changing the embedding model of a collection."""

import sys

import click
from rich.markup import escape

from diptych.commands.jobs import follow
from diptych.console import EXIT_FAILED, Options, command, err, json_option, out, show_json
from shared.retrieval_messages import Collection, Job


@click.command()
@click.argument("collection")
@click.option("--model", "-m", help="The new model: one that the service was started with.")
@click.option("--no-flip", is_flag=True, help="Only make it ready; `diptych flip` makes it serve.")
@click.option(
    "--discard", is_flag=True, help="Let go of the model that stands beside the serving one, and its vectors."
)
@json_option
@click.pass_obj
@command
async def reindex(
    options: Options,
    collection: str,
    model: str | None,
    no_flip: bool,  # noqa: FBT001 - click passes flags by name
    discard: bool,  # noqa: FBT001 - as above
) -> None:
    """Change the model of COLLECTION while it is searched and written to. The old one stays beside the new one, to go back.

    Waits, and prints how much of their ten best hits the two have in common. Stopping the command does not stop the job.
    Exits with 1 when the new model could not be made ready.
    """
    if discard == (model is not None) or (discard and no_flip):
        raise click.UsageError("give either --model or --discard")
    async with options.retrieval() as client:
        if model is None:
            _show_collection(options, await client.discard_reindex(collection))
            return
        job = await client.reindex(collection, model, flip=not no_flip)
        job = await follow(client, job.id, options)
        found = await client.collection(collection)
    if not options.as_json:
        _show_job(job, found)
    if job.status != "succeeded":
        sys.exit(EXIT_FAILED)


@click.command()
@click.argument("collection")
@json_option
@click.pass_obj
@command
async def flip(options: Options, collection: str) -> None:
    """Let the model serve COLLECTION that stands beside the serving one. A second time changes it back."""
    async with options.retrieval() as client:
        _show_collection(options, await client.flip(collection))


def _show_collection(options: Options, collection: Collection) -> None:
    if options.as_json:
        show_json(collection)
        return
    beside = collection.reindex
    rest = f", beside it {beside.model} ({beside.status})" if beside else ", none beside it"
    out.print(escape(f"{collection.name}: served by {collection.model}{rest}"), soft_wrap=True)


def _show_job(job: Job, collection: Collection) -> None:
    name, reindex = escape(job.collection), job.reindex
    if reindex is None or job.status != "succeeded":
        reason = f": {reindex.error}" if reindex and reindex.error else ""
        err.print(f"[red]{job.status}[/red] {name}{escape(reason)}", soft_wrap=True)
        return
    overlap = "" if reindex.overlap_at_10 is None else f"; overlap@10 of the two models {reindex.overlap_at_10:.2f}"
    out.print(f"{name}: {job.done} chunks{overlap}", soft_wrap=True)
    if collection.model == reindex.model:
        other = f"; `diptych flip {name}` goes back to {escape(collection.reindex.model)}" if collection.reindex else ""
        out.print(f"Served by {escape(collection.model)} now{other}", soft_wrap=True)
    else:
        out.print(f"Ready. `diptych flip {name}` lets it serve", soft_wrap=True)
