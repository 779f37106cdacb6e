"""Running the services: both under one supervisor, or one by itself."""

import os
import signal
import sys
import threading
import time
from functools import partial
from typing import Final

import click
from rich.markup import escape

from diptych.console import Options, command, json_option, out, show_json
from diptych.supervisor import Supervisor

_READY_TIMEOUT_S: Final = 180.0
# Not 0: the services must be found where they were told to be.
_PORT: Final = click.IntRange(1, 65535)
# What follows is the service's own: its flags, its help.
_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command()
@click.option("--host", envvar="DIPTYCH_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--retrieval-port",
    envvar="DIPTYCH_RETRIEVAL_PORT",
    type=_PORT,
    default=7801,
    show_default=True,
    help="Where retrieval listens.",
)
@click.option(
    "--memory-port",
    envvar="DIPTYCH_MEMORY_PORT",
    type=_PORT,
    default=7802,
    show_default=True,
    help="Where memory listens.",
)
@click.option("--model", envvar="DIPTYCH_RETRIEVAL_MODEL", help="Embedding model; all-MiniLM-L6-v2 by default.")
@click.option(
    "--until-stdin-closes",
    is_flag=True,
    help="Stop when standard input closes, too: for whoever starts this and may die without a word.",
)
@json_option
@click.pass_obj
@command
async def up(
    options: Options, host: str, *, retrieval_port: int, memory_port: int, model: str | None, until_stdin_closes: bool
) -> None:
    """Start both services and stay until Ctrl-C.

    Every other setting is an environment variable (docs/OPERATIONS.md). Exits with 1 when a service dies.
    """
    if until_stdin_closes:
        threading.Thread(target=_stop_with_stdin, name="stdin", daemon=True).start()
    environment = _environment(options)
    if model:
        environment["DIPTYCH_RETRIEVAL_MODEL"] = model
    started = time.perf_counter()
    async with Supervisor(
        host=host, retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
    ) as supervisor:
        await supervisor.wait_ready(_READY_TIMEOUT_S)
        seconds = round(time.perf_counter() - started, 2)
        await supervisor.run(partial(_announce, options, supervisor, seconds))


def _stop_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _announce(options: Options, supervisor: Supervisor, seconds: float) -> None:
    if options.as_json:
        urls = {"retrieval": supervisor.retrieval_url, "memory": supervisor.memory_url}
        show_json({**urls, "ready_s": seconds, "pids": supervisor.pids})
        return
    out.print(f"[bold green]Ready[/] in {seconds} s, data in {escape(str(options.data_dir))}. Ctrl-C stops both.")
    out.print(f"  retrieval  {supervisor.retrieval_url}")
    out.print(f"  memory     {supervisor.memory_url}")


@click.command(context_settings=_PASS_ON)
@click.pass_context
def retrieval(context: click.Context) -> None:
    """Run the retrieval service alone; `diptych retrieval --help` lists its settings."""
    _replace_process("retrieval", context)


@click.command(context_settings=_PASS_ON)
@click.pass_context
def memory(context: click.Context) -> None:
    """Run the memory service alone; `diptych memory --help` lists its settings."""
    _replace_process("memory", context)


def _environment(options: Options) -> dict[str, str]:
    """What was said before the command, for the services it starts."""
    environment = {"DIPTYCH_DATA_DIR": str(options.data_dir)}
    if options.keys_path:
        environment["DIPTYCH_KEYS_PATH"] = str(options.keys_path)
    return environment


def _replace_process(name: str, context: click.Context) -> None:
    """The service takes this process over, so that signals and the exit code are its own."""
    options: Options = context.obj
    os.environ.update(_environment(options))
    os.execv(sys.executable, [sys.executable, "-m", name, *context.args])  # noqa: S606 - our own module
