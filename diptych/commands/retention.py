"""What memory keeps at most of every session of a tenant."""

import click

from diptych.console import Options, command, json_option, out, show_json
from shared.errors import invalid
from shared.forgetting_messages import TenantRetention


@click.group()
def retention() -> None:
    """Show and set what is kept at most of every session. Needs the scope admin where keys exist."""


@retention.command()
@json_option
@click.pass_obj
@command
async def get(options: Options) -> None:
    """Show what is kept at most. A session may keep less."""
    async with options.memory() as client:
        _show(options, await client.retention())


@retention.command(name="set")
@click.option("--days", "days_max", type=int, help="Turns of so many last days are kept.")
@click.option("--turns", "turns_max", type=int, help="So many newest turns of a session are kept.")
@click.option("--forever", is_flag=True, help="Keep everything.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
@command
async def put(
    options: Options,
    days_max: int | None,
    turns_max: int | None,
    forever: bool,  # noqa: FBT001 - click passes flags by name
    yes: bool,  # noqa: FBT001 - as above
) -> None:
    """Set what is kept at most, in place of the limits before; what is past them is erased soon after. Asks first."""
    is_limited = days_max is not None or turns_max is not None
    if forever == is_limited:
        raise invalid("--forever", "give --days, --turns or both, or --forever alone")
    if is_limited and not yes:
        limits = _limits(days_max, turns_max)
        click.confirm(f"Keep {limits}, and erase the rest for good", abort=True, err=True)
    async with options.memory() as client:
        _show(options, await client.put_retention(days_max=days_max, turns_max=turns_max))


def _show(options: Options, kept: TenantRetention) -> None:
    if options.as_json:
        show_json(kept)
    else:
        out.print(f"kept: {_limits(kept.days_max, kept.turns_max)}")


def _limits(days_max: int | None, turns_max: int | None) -> str:
    parts = []
    if days_max is not None:
        parts.append(f"turns of the last {days_max} days")
    if turns_max is not None:
        parts.append(f"the newest {turns_max} turns of a session")
    return ", of these ".join(parts) or "everything, for ever"
