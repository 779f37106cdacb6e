"""What every command shares: where the services are, how results are shown, and what failures mean to a shell."""

import asyncio
import dataclasses
import functools
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from diptych.memory_client import MemoryClient
from shared.errors import DiptychError, ServiceError, SettingsError, Unavailable, invalid
from shared.retrieval_client import RetrievalClient
from shared.wire import JSON, encode

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_WORSE = 4

Parameters = ParamSpec("Parameters")
ResultT = TypeVar("ResultT")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `diptych` itself, before the command."""

    retrieval_url: str
    memory_url: str
    api_key: str | None
    data_dir: Path
    keys_path: Path | None
    as_json: bool
    timeout_s: float

    @property
    def keys_file(self) -> Path:
        return (self.keys_path or self.data_dir / "keys.db").expanduser()

    def retrieval(self) -> RetrievalClient:
        return RetrievalClient(self.retrieval_url, api_key=self.api_key, timeout_s=self.timeout_s, reconnects=False)

    def memory(self) -> MemoryClient:
        return MemoryClient(self.memory_url, api_key=self.api_key, timeout_s=self.timeout_s, reconnects=False)


def _turn_on_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's own
    if value:
        context.obj = dataclasses.replace(context.obj, as_json=True)


# `diptych --json search` and `diptych search --json` are the same; people write both.
json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_turn_on_json,
    help="Print one JSON document instead of text for people.",
)


def command(
    function: Callable[Parameters, Awaitable[ResultT]],
) -> Callable[Parameters, ResultT]:
    """Runs an async command, and turns errors into a readable line and an exit code."""

    @functools.wraps(function)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> ResultT:
        try:
            return asyncio.run(_as_coroutine(function(*arguments, **options)))
        except DiptychError as error:
            err.print(f"[red]Error:[/red] {escape(_readable(error))}", soft_wrap=True)
            sys.exit(_exit_code(error))
        except asyncio.CancelledError:  # SIGTERM while services started here were not ready yet
            sys.exit(EXIT_FAILED)

    return run


async def _as_coroutine(awaitable: Awaitable[ResultT]) -> ResultT:
    return await awaitable


def show_json(value: Any) -> None:
    """One JSON document, the same fields as on the wire."""
    click.echo(encode(value, JSON).decode())


def read_moment(option: str, text: str) -> datetime:
    """Raises InvalidFields that names the option."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(option, f"{text!r} is not a time; write it as 2026-03-01T10:00:00+01:00") from error
    if moment.tzinfo is None:
        raise invalid(option, f"{text!r} has no zone; write it as 2026-03-01T10:00:00+01:00")
    return moment


def add_fields(message: msgspec.Struct, **fields: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(message), **fields}


def _readable(error: DiptychError) -> str:
    text = str(error)
    if isinstance(error, Unavailable) and "cannot be reached" in text:
        return f"{text}\nIs it running? `diptych up` starts both services."
    return text


def _exit_code(error: DiptychError) -> int:
    if isinstance(error, SettingsError):
        return EXIT_USAGE
    if isinstance(error, Unavailable):
        return EXIT_UNREACHABLE
    return EXIT_USAGE if isinstance(error, ServiceError) and error.status == 422 else EXIT_FAILED  # noqa: PLR2004
