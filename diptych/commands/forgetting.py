"""What is erased from memory, and who had it erased."""

import sys
from typing import Final

import click
from rich.markup import escape
from rich.table import Table

from diptych.console import EXIT_FAILED, Options, command, err, json_option, out, read_moment, show_json
from shared.memory_messages import EraseReport

_PAGE_MAX: Final = 1000


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--user", "user_id", help="All of this user's memory.")
@click.option("--session", "session_id", help="This session, or the turns of it that IDs name.")
@click.option("--before", help="Only what was said before this time (RFC 3339, with a zone).")
@click.option("--erase", is_flag=True, help="Erase it, and not only count it. Asks first.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
@command
async def forget(
    options: Options,
    ids: tuple[str, ...],
    user_id: str | None,
    session_id: str | None,
    before: str | None,
    erase: bool,  # noqa: FBT001 - click passes flags by name
    yes: bool,  # noqa: FBT001 - as above
) -> None:
    """Count what memory holds of a user, a session, before a time or by ID, and with --erase forget it for good.

    IDs are of turns where a session is named, else of facts. Everything made from the turns goes with them: vectors, facts
    that came from nothing else, and what summaries said of them. Exits with 1 when a second look still found something.
    """
    moment = None if before is None else read_moment("--before", before)
    async with options.memory() as client:

        async def asked(*, dry_run: bool) -> EraseReport:
            return await client.forget(
                user_id=user_id, session_id=session_id, ids=ids or None, before=moment, dry_run=dry_run
            )

        report = await asked(dry_run=True)
        if erase:
            if not yes:
                click.confirm(f"Erase {_counts(report)}? This cannot be undone", abort=True, err=True)
            report = await asked(dry_run=False)
    if options.as_json:
        show_json(report)
    elif report.dry_run:
        out.print(f"would erase {_counts(report)}; --erase does it")
    else:
        out.print(f"erased {_counts(report)}")
    if erase and not report.verified:
        err.print("[red]not verified:[/] a second look still found something; see the service's log")
        sys.exit(EXIT_FAILED)


@click.command()
@click.option("--user", "user_id", help="Only what named this user.")
@click.option("--session", "session_id", help="Only what named this session.")
@json_option
@click.pass_obj
@command
async def audit(options: Options, user_id: str | None, session_id: str | None) -> None:
    """List who had how much erased, and when; never what. Needs the scope admin where keys exist."""
    async with options.memory() as client:
        page = await client.audit(user_id=user_id, session_id=session_id, limit=_PAGE_MAX)
        entries = page.items
        while page.next_cursor is not None:
            page = await client.audit(user_id=user_id, session_id=session_id, cursor=page.next_cursor, limit=_PAGE_MAX)
            entries += page.items
    if options.as_json:
        show_json(entries)
        return
    table = Table("at", "action", "key", "erased", "verified")
    for entry in entries:
        verified = "yes" if entry.report.verified else "no"
        table.add_row(
            f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.action, escape(entry.key_id or ""), _counts(entry.report), verified
        )
    out.print(table)


def _counts(report: EraseReport) -> str:
    return (
        f"{report.turns} turns, {report.facts} facts, {report.vectors} vectors, {report.feedback} judged queries, "
        f"{report.sessions} whole sessions ({report.spans_remade} spans made anew)"
    )
