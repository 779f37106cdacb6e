"""One MCP server over standard input and output that stands for running services.

It forwards and adds nothing: tools, answers and errors are the services' own, as are keys and limits. Of two services it makes
one, by name: whoever listed a tool, a prompt or a scheme of addresses answers for it. Both revisions of the protocol come out,
whichever the client speaks; towards the services it is always the newest.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from diptych import __version__
from diptych.mcp_upstream import Upstream
from shared.mcp.protocol import NOT_FOUND_IS_INVALID_SINCE, RESOURCE_NOT_FOUND

# A client is waiting for its first answer meanwhile, some of them for ten seconds at most.
_INTRODUCTION_TIMEOUT_S: Final = 5.0

Context = ServerRequestContext[Any, Any]
PageT = TypeVar("PageT", bound=types.PaginatedResult)


async def serve_stdio(upstreams: Sequence[Upstream]) -> None:
    """Until standard input closes."""
    async with AsyncExitStack() as opened:
        for upstream in upstreams:
            await opened.enter_async_context(upstream)
        server = await Relay(upstreams).introduced()
        read, write = await opened.enter_async_context(stdio_server())
        await server.run(read, write, server.create_initialization_options())


class Relay:
    """`upstreams` in the order in which their tools are listed."""

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self._upstreams = upstreams
        # Who answers for "tool search_documents", "prompt recall", "scheme memory".
        self._owners: dict[str, Upstream] = {}
        names = [upstream.name for upstream in upstreams]
        self.server: Server[Any] = Server(
            names[0] if len(names) == 1 else "diptych",
            version=__version__,
            title=f"Diptych {' and '.join(names)}",
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
        )

    async def introduced(self) -> Server[Any]:
        """The server, with the instructions of those services that are there by now."""

        async def instructions(upstream: Upstream) -> str:
            try:
                async with asyncio.timeout(_INTRODUCTION_TIMEOUT_S):
                    found: str = (await upstream.introduction()).get("instructions") or ""
            except (MCPError, TimeoutError):
                return ""
            return found

        said = await asyncio.gather(*(instructions(upstream) for upstream in self._upstreams))
        self.server.instructions = "\n\n".join(each for each in said if each) or None
        return self.server

    async def _list_tools(self, _: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        answers = await self._all(types.ListToolsRequest(params=params), types.ListToolsResult)
        for upstream, answer in answers:
            self._owners.update({f"tool {tool.name}": upstream for tool in answer.tools})
        merged = [tool for _, answer in answers for tool in answer.tools]
        return self._merged(answers).model_copy(update={"tools": merged})

    async def _list_prompts(self, _: Context, params: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
        answers = await self._all(types.ListPromptsRequest(params=params), types.ListPromptsResult)
        for upstream, answer in answers:
            self._owners.update({f"prompt {prompt.name}": upstream for prompt in answer.prompts})
        merged = [prompt for _, answer in answers for prompt in answer.prompts]
        return self._merged(answers).model_copy(update={"prompts": merged})

    async def _list_templates(
        self, _: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        request = types.ListResourceTemplatesRequest(params=params)
        answers = await self._all(request, types.ListResourceTemplatesResult)
        for upstream, answer in answers:
            self._owners.update({_scheme(each.uri_template): upstream for each in answer.resource_templates})
        merged = [each for _, answer in answers for each in answer.resource_templates]
        return self._merged(answers).model_copy(update={"resource_templates": merged})

    async def _list_resources(
        self, _: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """One service after another; a cursor says which, and where in it."""
        index, inner = self._place(params.cursor if params else None)
        upstream = self._upstreams[index]
        request = types.ListResourcesRequest(params=types.PaginatedRequestParams(cursor=inner))
        page: types.ListResourcesResult = await upstream.ask(request, types.ListResourcesResult)
        self._owners.update({_scheme(str(each.uri)): upstream for each in page.resources})
        following = None
        if page.next_cursor is not None:
            following = f"{index}:{page.next_cursor}"
        elif index + 1 < len(self._upstreams):
            following = f"{index + 1}:"
        return page.model_copy(update={"next_cursor": following})

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            upstream = await self._owner(f"tool {params.name}", context)
            progress = context.session.report_progress if context.meta and "progress_token" in context.meta else None
            return await upstream.ask(types.CallToolRequest(params=params), types.CallToolResult, progress)
        except MCPError as error:
            if error.code != types.CONNECTION_CLOSED:
                raise
            # Hosts show a model what a tool says, and seldom what the protocol says.
            return types.CallToolResult(content=[types.TextContent(type="text", text=error.message)], is_error=True)

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        upstream = await self._owner(_scheme(str(params.uri)), context)
        try:
            return await upstream.ask(types.ReadResourceRequest(params=params), types.ReadResourceResult)
        except MCPError as error:
            is_missing = error.code == types.INVALID_PARAMS and isinstance(error.data, dict) and "uri" in error.data
            if is_missing and context.protocol_version < NOT_FOUND_IS_INVALID_SINCE:
                raise MCPError(RESOURCE_NOT_FOUND, error.message, error.data) from error
            raise

    async def _get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        upstream = await self._owner(f"prompt {params.name}", context)
        return await upstream.ask(types.GetPromptRequest(params=params), types.GetPromptResult)

    async def _complete(self, context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        ref = params.ref
        key = f"prompt {ref.name}" if isinstance(ref, types.PromptReference) else _scheme(str(ref.uri))
        upstream = await self._owner(key, context)
        return await upstream.ask(types.CompleteRequest(params=params), types.CompleteResult)

    async def _owner(self, key: str, context: Context) -> Upstream:
        """Raises MCPError."""
        if len(self._upstreams) == 1:
            return self._upstreams[0]
        if key not in self._owners:
            # Not listed yet, or by a service that was away.
            await asyncio.gather(
                self._list_tools(context, None), self._list_prompts(context, None), self._list_templates(context, None)
            )
        found = self._owners.get(key)
        if found is None:
            await self._require_all()
            kind, _, name = key.partition(" ")
            there = sorted(known.partition(" ")[2] for known in self._owners if known.startswith(f"{kind} "))
            raise MCPError(types.INVALID_PARAMS, f"unknown {kind} {name!r}; there are {', '.join(there)}")
        return found

    async def _require_all(self) -> None:
        """Raises MCPError where a service is away: what was asked for may be its own."""
        await asyncio.gather(*(upstream.introduction() for upstream in self._upstreams))

    async def _all(self, request: types.Request[Any, Any], kind: type[PageT]) -> list[tuple[Upstream, PageT]]:
        """The lists of those services that are there. Raises MCPError when none is."""
        asked = (upstream.ask(request, kind) for upstream in self._upstreams)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: list[tuple[Upstream, PageT]] = []
        errors: list[BaseException] = []
        for upstream, answer in zip(self._upstreams, answers, strict=True):
            if isinstance(answer, BaseException):
                errors.append(answer)
            else:
                found.append((upstream, answer))
        for error in errors:
            if not found or not isinstance(error, MCPError) or error.code != types.CONNECTION_CLOSED:
                raise error
        return found

    def _merged(self, answers: list[tuple[Upstream, PageT]]) -> PageT:
        """The first answer, to be kept for as long as each of them; not at all where a service was away."""
        _, first = answers[0]
        lifetimes = [getattr(answer, "ttl_ms", None) or 0 for _, answer in answers]
        is_whole = len(answers) == len(self._upstreams)
        return first.model_copy(update={"ttl_ms": min(lifetimes) if is_whole else 0})

    def _place(self, cursor: str | None) -> tuple[int, str | None]:
        index, _, inner = (cursor or "0:").partition(":")
        if not (index.isascii() and index.isdigit() and int(index) < len(self._upstreams)):
            raise MCPError(types.INVALID_PARAMS, "this cursor is not from an earlier answer; leave it out to start")
        return int(index), inner or None


def _scheme(uri: str) -> str:
    return f"scheme {uri.partition(':')[0]}"
