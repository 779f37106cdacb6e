"""An agent's client for tests: the official SDK's, over HTTP, with a key and a user of its configuration."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent, TextResourceContents

from shared.mcp.hosting import MCP_PATH
from shared.mcp.protocol import USER_HEADER
from tests.harness import WAIT_S

# The client imports these two when it needs them, and they read files: not on an event loop that is watched.
for _name in ("httpcore2", "jsonschema"):
    import_module(_name)

# The newest revision, and the one with a handshake.
Era = Literal["auto", "legacy"]
ERAS: tuple[Era, ...] = ("auto", "legacy")


@dataclass(frozen=True, slots=True)
class Agent:
    client: Client

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        return await self.client.call_tool(tool, arguments)

    async def ask(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a call that succeeds."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, text_of(result)
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def told(self, tool: str, **arguments: Any) -> str:
        """The text of a call that succeeds."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, text_of(result)
        return text_of(result)

    async def refused(self, tool: str, **arguments: Any) -> str:
        """The advice of a call that fails."""
        result = await self.call(tool, **arguments)
        assert result.is_error, text_of(result)
        return text_of(result)

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools()).tools]

    async def read(self, uri: str) -> str:
        (contents,) = (await self.client.read_resource(uri)).contents
        assert isinstance(contents, TextResourceContents)
        return contents.text

    async def prompt(self, name: str, **arguments: str) -> str:
        (message,) = (await self.client.get_prompt(name, arguments)).messages
        assert isinstance(message.content, TextContent)
        return message.content.text


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


@asynccontextmanager
async def agent_at(
    url: str, *, key: str | None = None, user: str | None = None, era: Era = "auto", path: str = MCP_PATH
) -> AsyncIterator[Agent]:
    headers = {
        name: value
        for name, value in (("Authorization", key and f"Bearer {key}"), (USER_HEADER, user))
        if value is not None
    }
    opened: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    closing = asyncio.Event()

    async def hold() -> None:
        # Nothing is verified on the way to a port of this machine, so no file of certificates is read either.
        async with (
            httpx2.AsyncClient(headers=headers, timeout=WAIT_S, verify=False) as http,
            Client(streamable_http_client(f"{url}{path}", http_client=http), mode=era) as client,
        ):
            opened.set_result(client)
            await closing.wait()

    # A cancel scope must be left by the task that entered it, and pytest sets up and tears down in two.
    task = asyncio.create_task(hold())
    try:
        either: set[asyncio.Future[Any]] = {task, opened}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        yield Agent(opened.result() if opened.done() else await _failed(task))
    finally:
        closing.set()
        await task


async def _failed(task: asyncio.Task[None]) -> Client:
    await task
    raise AssertionError("a client that could not be opened says why")
