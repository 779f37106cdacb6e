"""The services as one MCP server on standard input and output, for clients that start their servers themselves."""

import asyncio
import os
import signal

import click

from diptych.console import EXIT_FAILED, Options, command, err
from diptych.embedded import embedded_pair


@click.command()
@click.argument("which", type=click.Choice(["retrieval", "memory", "both"]), metavar="retrieval|memory|both")
@click.option(
    "--user",
    envvar="DIPTYCH_MCP_USER",
    help="Whose memories these are; a key that belongs to a user has the last word.",
)
@click.option(
    "--embedded",
    is_flag=True,
    help="Start both services for this client alone, on the data in --data-dir, and end them with it.",
)
@click.pass_obj
@command
async def mcp(options: Options, which: str, user: str | None, *, embedded: bool) -> None:
    """Serve the tools of a service, or of both, over standard input and output.

    For clients that start their MCP servers themselves. The services are those that run at --retrieval-url and --memory-url;
    docs/MCP.md has the configuration of the common clients.
    """
    # At once, as SIGTERM does: whoever reads standard input cannot be interrupted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not embedded:
        await _serve(options, which, user, {"retrieval": options.retrieval_url, "memory": options.memory_url})
        return
    async with embedded_pair(options) as pair:
        serving = asyncio.create_task(_serve(options, which, user, pair.urls, pair.ready))
        ended = asyncio.create_task(pair.process.wait())
        await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            # A client starts its server again when it has ended, but not when it only fails. The thread that reads standard
            # input lets nothing but this end the process.
            err.print("[red]Error:[/red] the services that were started here have ended; the lines above say why")
            os._exit(EXIT_FAILED)
        ended.cancel()
        await serving


async def _serve(
    options: Options, which: str, user: str | None, urls: dict[str, str], ready: asyncio.Task[None] | None = None
) -> None:
    # The SDK takes half a second to import, which no other command should wait for.
    from diptych.mcp_relay import serve_stdio  # noqa: PLC0415
    from diptych.mcp_upstream import Upstream  # noqa: PLC0415

    names = ("retrieval", "memory") if which == "both" else (which,)
    await serve_stdio(
        [
            Upstream(name, urls[name], api_key=options.api_key, user=user, timeout_s=options.timeout_s, ready=ready)
            for name in names
        ]
    )
