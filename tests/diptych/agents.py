"""Two small services with an MCP server each, whose tools do what tests of the relay need."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import NotFound, invalid
from shared.mcp.catalogue import (
    Caller,
    Catalogue,
    Prompt,
    PromptArgument,
    ResourceInfo,
    ResourceKind,
    ResourcePage,
    Told,
    Tool,
)
from shared.mcp.hosting import mount
from shared.messages import Answer, Request
from shared.server import SERVICE, build_app, make_server
from tests.harness import serving
from tests.shared.probe import ProbeSettings


@dataclass(slots=True)
class Seen:
    """What a service was asked, and what happened to it."""

    callers: list[Caller] = field(default_factory=list)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


class Sought(Request, frozen=True, kw_only=True):
    query: str


class Found(Answer, frozen=True, kw_only=True):
    found: str


async def _find(seen: Seen, caller: Caller, sought: Sought) -> Told:
    seen.callers.append(caller)
    if sought.query == "nothing":
        raise invalid("$.query", "nothing is not a query; ask for something")
    await caller.progress(1, 2, "half")
    return Told(f"found {sought.query}", Found(found=sought.query))


async def _wait(seen: Seen, _caller: Caller, _sought: Sought) -> Told:
    seen.entered.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        seen.cancelled.set()
        raise
    raise AssertionError


def catalogue(name: str, *, tool: str, scheme: str) -> Catalogue:
    async def read(_seen: Seen, _caller: Caller, values: Mapping[str, str]) -> str:
        if values["id"] == "none":
            raise NotFound(f"there is no {scheme} 'none'")
        return f"{name} has {values['id']}"

    async def listed(_seen: Seen, _caller: Caller, cursor: str | None) -> ResourcePage:
        number = int(cursor or 1)
        info = ResourceInfo(
            uri=f"{scheme}://{number}", name=str(number), title="One", description="One.", media_type="text/plain"
        )
        return ResourcePage(items=[info], next_cursor=None if number == 2 else str(number + 1))

    async def completions(_seen: Seen, _caller: Caller, typed: str, _known: Mapping[str, str]) -> list[str]:
        return [f"{typed}-of-{name}"]

    async def write(_seen: Seen, _caller: Caller, values: Mapping[str, str]) -> str:
        return f"{name} on {values['topic']}"

    hints: dict[str, Any] = {"is_read_only": True, "is_destructive": False, "is_idempotent": True}
    shown: dict[str, Any] = {"title": "One", "description": "One."}
    return Catalogue(
        name=name,
        title=name,
        instructions=f"How {name} is used.",
        tools=(
            Tool(name=tool, arguments=Sought, answers=Found, run=_find, scope="retrieval:read", **shown, **hints),
            Tool(
                name=f"{tool}_slowly",
                arguments=Sought,
                answers=Found,
                run=_wait,
                scope="retrieval:read",
                **shown,
                **hints,
            ),
        ),
        resources=(
            ResourceKind(
                uri_template=f"{scheme}://{{id}}",
                name=scheme,
                media_type="text/plain",
                scope="retrieval:read",
                read=read,
                listed=listed,
                completions={"id": completions},
                **shown,
            ),
        ),
        prompts=(
            Prompt(
                name=f"{tool}_all",
                arguments=(
                    PromptArgument(name="topic", description="Of what", is_required=True, complete=completions),
                ),
                scope="retrieval:read",
                write=write,
                **shown,
            ),
        ),
    )


FINDER = catalogue("retrieval", tool="find", scheme="doc")
KEEPER = catalogue("memory", tool="keep", scheme="memory")


@asynccontextmanager
async def running(data_dir: Path, offered: Catalogue, seen: Seen | None = None, *, port: int = 0) -> AsyncIterator[str]:
    """A service that offers this, and its address."""
    server = await asyncio.to_thread(make_server, ProbeSettings(data_dir=data_dir), "9.9")
    app = build_app(server, ())
    app[SERVICE] = seen or Seen()
    mount(app, offered)
    async with serving(app, port) as url:
        yield url
