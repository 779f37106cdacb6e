"""API keys, in the file that both services read. Needs no running service."""

import sys
from typing import NoReturn

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from diptych.console import EXIT_FAILED, EXIT_USAGE, Options, add_fields, err, json_option, out, show_json
from shared.keys import DEFAULT_TENANT, SCOPES, SCOPES_DEFAULT, KeyFile, Scope


@click.group()
def keys() -> None:
    """Make, list and revoke API keys.

    The first key closes the server: from then on every request needs one, even if all are revoked.
    """


@keys.command()
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose data the key opens.")
@click.option("--user", "user_id", help="Bind the key to one user: of memory it reaches theirs alone.")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Repeat for several. By default reading and writing in both services.",
)
@json_option
@click.pass_obj
def create(options: Options, tenant: str, user_id: str | None, name: str, scopes: tuple[Scope, ...]) -> None:
    """Make a key and print it. It is shown this once; only its hash is kept."""
    chosen = scopes or SCOPES_DEFAULT
    if user_id is not None and "admin" in chosen:
        _refuse("--scope admin is for the whole tenant; leave it out, or make the key without --user")
    try:
        info, token = _file(options).create(tenant=tenant, name=name, scopes=chosen, user_id=user_id)
    except msgspec.ValidationError:
        _refuse(
            "--tenant: 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first; "
            "--user: 1 to 256 characters, no control characters"
        )
    if options.as_json:
        show_json(add_fields(info, key=token))
        return
    whose = f"tenant {info.tenant}" + ("" if info.user_id is None else f", user {escape(info.user_id)}")
    err.print(f"Key {info.id} for {whose}: {', '.join(info.scopes)}. Keep it; it is not shown again.")
    click.echo(token)


@keys.command(name="list")
@json_option
@click.pass_obj
def list_keys(options: Options) -> None:
    """List keys, without their secrets."""
    found = _file(options).list()
    if options.as_json:
        show_json({"items": found})
        return
    table = Table("id", "tenant", "user", "name", "scopes", "created", "revoked")
    for key in found:
        user, name, scopes = escape(key.user_id or ""), escape(key.name), " ".join(key.scopes)
        table.add_row(key.id, key.tenant, user, name, scopes, key.created_at, key.revoked_at or "")
    out.print(table)


@keys.command()
@click.argument("key_id")
@json_option
@click.pass_obj
def revoke(options: Options, key_id: str) -> None:
    """Revoke a key. Running services refuse it from the next request on."""
    if not _file(options).revoke(key_id):
        err.print(f"[red]Error:[/red] there is no active key {escape(repr(key_id))}")
        sys.exit(EXIT_FAILED)
    if options.as_json:
        show_json({"revoked": key_id})
    else:
        err.print(f"Revoked {key_id}.")


def _refuse(message: str) -> NoReturn:
    err.print(f"[red]Error:[/red] {message}")
    sys.exit(EXIT_USAGE)


def _file(options: Options) -> KeyFile:
    return KeyFile(options.keys_file)
