"""A service as a process: parse flags, read settings, listen, drain on a signal, leave with an honest exit code."""

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import click
import structlog
import uvloop
from aiohttp import web

from shared.errors import SettingsError
from shared.logs import configure_logs
from shared.server import SERVER, Server
from shared.settings import ServiceSettings, SettingsT, load_settings
from shared.tasks import ended

EXIT_SETTINGS: Final = 2
# aiohttp's access log would repeat ours; keep-alive outlives most clients' own 15 s pools.
_KEEPALIVE_TIMEOUT_S: Final = 75.0
_CANCEL_TIMEOUT_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.02
_READY_POLL_S: Final = 0.1

log = structlog.get_logger()


def service_command(kind: type[SettingsT], build: Callable[[SettingsT], web.Application]) -> click.Command:
    """The command line of a service: a flag for every setting, and nothing else."""

    def run(**flags: Any) -> None:
        try:
            settings = load_settings(kind, flags)
            configure_logs(service=kind.service, level=settings.log_level, style=settings.log_format)
            uvloop.run(serve(build(settings), settings))
        except SettingsError as error:
            click.echo(f"{kind.service}: {error}", err=True)
            sys.exit(EXIT_SETTINGS)

    options = [
        click.Option([f"--{name.replace('_', '-')}"], help=_help(field.description, field.default), metavar="VALUE")
        for name, field in kind.model_fields.items()
    ]
    return click.Command(
        kind.service,
        callback=run,
        params=list(options),
        help=f"Run the {kind.service} service. Every flag is also an environment variable (docs/OPERATIONS.md).",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )


def _help(description: str | None, default: Any) -> str:
    return f"{description} [default: {default}]" if default is not None else str(description)


async def serve(app: web.Application, settings: ServiceSettings) -> None:
    """Runs until SIGINT or SIGTERM; then stops being ready, lets requests finish within drain_timeout_s, and closes."""
    server = app[SERVER]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop.set)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        # Requests have been waited for before: what is left is only told to end.
        shutdown_timeout=_CANCEL_TIMEOUT_S,
        keepalive_timeout=_KEEPALIVE_TIMEOUT_S,
        # A client that goes away cancels its own work.
        handler_cancellation=True,
    )
    try:
        await runner.setup()
        await _listen(runner, settings)
        log.info("listening", url=address_of(runner), open=server.authenticator.is_open)
        settling = asyncio.create_task(_settled(server), name="settle")
        await server.stop.wait()
        await ended(settling)
        log.info("draining", requests=server.in_flight)
        server.draining = True
        await _stop_listening(runner)
        await _drained(server, settings.drain_timeout_s)
    finally:
        await runner.cleanup()
    log.info("stopped")
    if server.fatal is not None:
        raise server.fatal


async def _listen(runner: web.AppRunner, settings: ServiceSettings) -> None:
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


async def _settled(server: Server) -> None:
    """Once all is loaded, the garbage collector no longer looks at what will stay, which it went over time and again while
    everything waited for up to a tenth of a second (docs/ARCHITECTURE.md)."""
    while await server.readiness():  # noqa: ASYNC110 - it is looked up, and nobody tells of it
        await asyncio.sleep(_READY_POLL_S)
    gc.freeze()
    log.info("settled", objects=gc.get_freeze_count())


async def _stop_listening(runner: web.AppRunner) -> None:
    for site in list(runner.sites):
        await site.stop()


async def _drained(server: Server, timeout_s: float) -> None:
    """Until no request is in flight, or the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while server.in_flight:  # noqa: ASYNC110 - an event would be set and cleared on every request
                await asyncio.sleep(_DRAIN_POLL_S)


def address_of(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
