"""What is known of users, and what waits for somebody to approve it."""

import click
from rich.markup import escape
from rich.table import Table

from diptych.console import Options, command, json_option, out, show_json
from shared.fact_messages import FactPatch, FactRecord


@click.group()
def facts() -> None:
    """List facts, and approve or reject those that wait for it."""


@facts.command(name="list")
@click.option("--user", "user_id", help="Whose facts; only what waits for approval is listed for all.")
@click.option(
    "--status",
    type=click.Choice(["active", "pending", "rejected"]),
    help="By default `active` with --user, else `pending`.",
)
@click.option("--key", help="Only those of this key.")
@click.option("--history", is_flag=True, help="With superseded and expired ones.")
@click.option("--cursor", help="The next page, as the last one named it.")
@click.option("--limit", "-n", default=100, show_default=True, help="How many to show.")
@json_option
@click.pass_obj
@command
async def list_facts(
    options: Options,
    user_id: str | None,
    status: str | None,
    key: str | None,
    history: bool,  # noqa: FBT001 - click passes flags by name
    cursor: str | None,
    limit: int,
) -> None:
    """List what holds now of a user, or what waits for approval.

    Listing without --user needs the scope memory:approve where keys exist.
    """
    async with options.memory() as client:
        page = await client.facts(
            user_id,
            status=status or ("active" if user_id else "pending"),
            key=key,
            include_superseded=history,
            include_expired=history,
            cursor=cursor,
            limit=limit,
        )
    if options.as_json:
        show_json(page)
        return
    table = Table("id", "user", "kind", "key", "text", "from", "to", "origin")
    for fact in page.items:
        until = f"{fact.valid_to:%Y-%m-%d}" if fact.valid_to else ""
        cells = (fact.id, fact.user_id, fact.kind, fact.key or "", fact.text)
        table.add_row(*map(escape, cells), f"{fact.valid_from:%Y-%m-%d}", until, escape(fact.origin))
    out.print(table)
    if page.next_cursor:
        out.print(f"There are more: --cursor {escape(page.next_cursor)}")


@facts.command()
@click.argument("fact_ids", metavar="FACT...", nargs=-1, required=True)
@json_option
@click.pass_obj
@command
async def approve(options: Options, fact_ids: tuple[str, ...]) -> None:
    """Let facts hold that wait for approval. Needs the scope memory:approve where keys exist."""
    await _decide(options, fact_ids, FactPatch(status="active"))


@facts.command()
@click.argument("fact_ids", metavar="FACT...", nargs=-1, required=True)
@json_option
@click.pass_obj
@command
async def reject(options: Options, fact_ids: tuple[str, ...]) -> None:
    """Refuse facts for good, as if they had never been true. Needs the scope memory:approve where keys exist."""
    await _decide(options, fact_ids, FactPatch(status="rejected"))


async def _decide(options: Options, fact_ids: tuple[str, ...], patch: FactPatch) -> None:
    decided: list[FactRecord] = []
    async with options.memory() as client:
        for fact_id in fact_ids:
            decided.append(fact := await client.change_fact(fact_id, patch))
            if not options.as_json:
                out.print(f"{fact.status}: {escape(fact.text)}")
    if options.as_json:
        show_json({"items": decided})
