"""Running the services: both under one supervisor, or one by itself."""

import os
import sys
import time
from typing import Final

import click

from diptych.console import Options, command, out, show_json
from diptych.supervisor import Supervisor

_READY_TIMEOUT_S: Final = 180.0
# What follows is the service's own: its flags, its help.
_PASS_ON: Final = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command()
@click.option("--host", envvar="DIPTYCH_HOST", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--retrieval-port", envvar="DIPTYCH_RETRIEVAL_PORT", default=7801, show_default=True)
@click.option("--memory-port", envvar="DIPTYCH_MEMORY_PORT", default=7802, show_default=True)
@click.option("--model", envvar="DIPTYCH_RETRIEVAL_MODEL", help="Embedding model; all-MiniLM-L6-v2 by default.")
@click.pass_obj
@command
async def up(options: Options, host: str, retrieval_port: int, memory_port: int, model: str | None) -> None:
    """Start both services and stay until Ctrl-C.

    Every other setting is an environment variable (docs/OPERATIONS.md). Exits with 1 when a service dies.
    """
    environment = {"DIPTYCH_DATA_DIR": str(options.data_dir)}
    if model:
        environment["DIPTYCH_RETRIEVAL_MODEL"] = model
    started = time.perf_counter()
    async with Supervisor(
        host=host, retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
    ) as supervisor:
        await supervisor.wait_ready(_READY_TIMEOUT_S)
        seconds = round(time.perf_counter() - started, 2)
        if options.as_json:
            urls = {"retrieval": supervisor.retrieval_url, "memory": supervisor.memory_url}
            show_json({**urls, "ready_s": seconds, "pids": supervisor.pids})
        else:
            out.print(f"[bold green]Ready[/] in {seconds} s, data in {options.data_dir}. Ctrl-C stops both.")
            out.print(f"  retrieval  {supervisor.retrieval_url}")
            out.print(f"  memory     {supervisor.memory_url}")
        await supervisor.run()


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


def _replace_process(name: str, context: click.Context) -> None:
    """The service takes this process over, so that signals and the exit code are its own."""
    options: Options = context.obj
    os.environ.setdefault("DIPTYCH_DATA_DIR", str(options.data_dir))
    os.execv(sys.executable, [sys.executable, "-m", name, *context.args])  # noqa: S606 - our own module
