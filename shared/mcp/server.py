"""A catalogue as an MCP server, with the official SDK's low-level server.

The low-level one, because it leaves schemas, strict arguments and errors to us. What an agent can mend (a wrong argument, an
unknown collection) is an answer with `isError`, whose text says what to do; what only a client can (an unknown tool, a cursor
that was not ours) is a protocol error. Lists depend on the caller's key alone, and their order never changes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import mcp_types as types
import msgspec
import structlog
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from prometheus_client import CollectorRegistry, Counter, Histogram

from shared.errors import Internal, NotFound, ServiceError, Unavailable
from shared.mcp import icon
from shared.mcp.addresses import match, variables_of
from shared.mcp.arguments import arguments_of
from shared.mcp.catalogue import Caller, Catalogue, Prompt, PromptArgument, ResourceKind, ResourcePage, Told, Tool
from shared.mcp.protocol import NOT_FOUND_IS_INVALID_SINCE, RESOURCE_NOT_FOUND
from shared.mcp.schemas import explained, schema_of
from shared.metrics import SECONDS_BUCKETS

# Where the host of the server leaves who is asking.
CALLER_OF: Final = "diptych.caller"
# What these say changes with a release; resources with the data.
_LISTS_TTL_MS: Final = 300_000
_RESOURCES_TTL_MS: Final = 60_000
_COMPLETIONS_MAX: Final = 100  # the protocol's own
_ERROR_CHARACTERS_MAX: Final = 2_000

log = structlog.get_logger()

Context = ServerRequestContext[Any, Any]
AnswerT = TypeVar("AnswerT")


class Calls:
    """What is counted of calls, the same names in both services."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.count = Counter("diptych_mcp_calls", "Tool calls answered.", ["tool", "status"], registry=registry)
        self.seconds = Histogram(
            "diptych_mcp_call_seconds",
            "Time from a tool call's arguments to its answer.",
            ["tool"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )


class AgentServer:
    """One catalogue over one service. `service` is asked for at each call: it is made when the process has started."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        version: str,
        service: Callable[[], object],
        calls: Calls,
        timeout_s: float,
        is_read_only: bool,
    ) -> None:
        self._catalogue = catalogue
        self._service = service
        self._calls = calls
        self._timeout_s = timeout_s
        self._tools = {tool.name: tool for tool in catalogue.tools if tool.is_read_only or not is_read_only}
        self._listed = {name: _described(tool, catalogue.glossary) for name, tool in self._tools.items()}
        self._prompts = {prompt.name: prompt for prompt in catalogue.prompts if prompt.is_read_only or not is_read_only}
        self.server: Server[Any] = Server(
            catalogue.name,
            version=version,
            title=catalogue.title,
            instructions=catalogue.instructions,
            icons=[types.Icon(src=icon.ADDRESS, mime_type=icon.MEDIA_TYPE, sizes=["any"])],
            cache_hints={
                "tools/list": CacheHint(_LISTS_TTL_MS, "private"),
                "prompts/list": CacheHint(_LISTS_TTL_MS, "private"),
                "resources/templates/list": CacheHint(_LISTS_TTL_MS, "private"),
                "resources/list": CacheHint(_RESOURCES_TTL_MS, "private"),
                "resources/read": CacheHint(_RESOURCES_TTL_MS, "private"),
            },
            # No tool has a header for an argument; without this each call would list the tools first to find that out.
            get_tool_input_schema=lambda _name: None,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources if catalogue.resources else None,
            on_list_resource_templates=self._list_templates if catalogue.resources else None,
            on_read_resource=self._read_resource if catalogue.resources else None,
            on_list_prompts=self._list_prompts if catalogue.prompts else None,
            on_get_prompt=self._get_prompt if catalogue.prompts else None,
            on_completion=self._complete if catalogue.prompts or catalogue.resources else None,
        )

    async def _list_tools(self, context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        _refuse_cursor(params)
        caller = _caller(context)
        return types.ListToolsResult(
            tools=[self._listed[name] for name, tool in self._tools.items() if caller.principal.may(tool.scope)]
        )

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        tool = self._tools.get(params.name)
        if tool is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown tool {params.name!r}; there are {', '.join(self._tools)}")
        caller, started = _caller(context), time.perf_counter()
        status = "cancelled"
        try:
            caller.principal.require(tool.scope)
            arguments = arguments_of(tool, params.arguments or {})
            told = await self._in_time(tool.run(self._service(), caller, arguments))
            status = "ok"
        except ServiceError as error:
            status = error.code
            return types.CallToolResult(content=[_text(_advice(error))], is_error=True)
        except Exception as error:
            status = Internal.code
            log.exception("tool_failed", tool=tool.name)
            raise MCPError(types.INTERNAL_ERROR, "an internal error; the server's log has it") from error
        finally:
            self._count(tool, status, time.perf_counter() - started, caller)
        return types.CallToolResult(content=[_text(told.text)], structured_content=_plain(told))

    def _count(self, tool: Tool, status: str, elapsed_s: float, caller: Caller) -> None:
        self._calls.count.labels(tool.name, status).inc()
        self._calls.seconds.labels(tool.name).observe(elapsed_s)
        log.info(
            "tool",
            tool=tool.name,
            status=status,
            ms=round(elapsed_s * 1000, 2),
            tenant=caller.principal.tenant,
            key_id=caller.principal.key_id,
        )

    async def _list_resources(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourcesResult:
        """Kinds one after another; a cursor says which kind, and where in it."""
        caller = _caller(context)
        kinds = [kind for kind in self._catalogue.resources if kind.listed and caller.principal.may(kind.scope)]
        position, inner = _place(params.cursor if params else None)
        if position > len(kinds):
            raise MCPError(types.INVALID_PARAMS, "this cursor is not from an earlier answer; leave it out to start")
        items: list[types.Resource] = []
        following: str | None = None
        for index, kind in list(enumerate(kinds))[position:]:
            page = await self._page(kind, caller, inner)
            items += [
                types.Resource(
                    uri=each.uri,
                    name=each.name,
                    title=each.title,
                    description=each.description,
                    mime_type=each.media_type,
                )
                for each in page.items
            ]
            inner = None
            if page.next_cursor is not None:
                following = f"{index}:{page.next_cursor}"
                break
        return types.ListResourcesResult(resources=items, next_cursor=following)

    async def _page(self, kind: ResourceKind, caller: Caller, cursor: str | None) -> ResourcePage:
        if kind.listed is None:
            return ResourcePage(items=[])
        return await self._answered(kind.listed(self._service(), caller, cursor))

    async def _list_templates(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        _refuse_cursor(params)
        caller = _caller(context)
        return types.ListResourceTemplatesResult(
            resource_templates=[
                types.ResourceTemplate(
                    uri_template=kind.uri_template,
                    name=kind.name,
                    title=kind.title,
                    description=kind.description,
                    mime_type=kind.media_type,
                )
                for kind in self._catalogue.resources
                if variables_of(kind.uri_template) and caller.principal.may(kind.scope)
            ]
        )

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        caller, uri = _caller(context), str(params.uri)
        for kind in self._catalogue.resources:
            values = match(kind.uri_template, uri)
            if values is not None:
                break
        else:
            raise _no_resource(context, uri, f"there is no resource {uri!r}")
        try:
            caller.principal.require(kind.scope)
            text = await self._in_time(kind.read(self._service(), caller, values))
        except NotFound as error:
            raise _no_resource(context, uri, error.detail) from error
        except ServiceError as error:
            raise _protocol_error(error) from error
        contents = types.TextResourceContents(uri=uri, mime_type=kind.media_type, text=text)
        return types.ReadResourceResult(contents=[contents])

    async def _list_prompts(
        self, context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListPromptsResult:
        _refuse_cursor(params)
        caller = _caller(context)
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=prompt.name,
                    title=prompt.title,
                    description=prompt.description,
                    arguments=[
                        types.PromptArgument(name=each.name, description=each.description, required=each.is_required)
                        for each in prompt.arguments
                    ],
                )
                for prompt in self._prompts.values()
                if caller.principal.may(prompt.scope)
            ]
        )

    async def _get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        prompt, caller = self._prompt(params.name), _caller(context)
        given = params.arguments or {}
        known = {each.name for each in prompt.arguments}
        missing = [each.name for each in prompt.arguments if each.is_required and not given.get(each.name)]
        if missing or not given.keys() <= known:
            raise MCPError(
                types.INVALID_PARAMS,
                f"{prompt.name} takes {_signature(prompt.arguments)}; "
                + (f"{', '.join(missing)} is missing" if missing else f"not {', '.join(sorted(given.keys() - known))}"),
            )
        try:
            caller.principal.require(prompt.scope)
            text = await self._in_time(prompt.write(self._service(), caller, given))
        except ServiceError as error:
            raise _protocol_error(error) from error
        return types.GetPromptResult(
            description=prompt.description, messages=[types.PromptMessage(role="user", content=_text(text))]
        )

    async def _complete(self, context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        """Nothing to suggest is an empty answer, also where the caller may not see what there is."""
        caller, name = _caller(context), params.argument.name
        if isinstance(params.ref, types.PromptReference):
            prompt = self._prompt(params.ref.name)
            scope = prompt.scope
            complete = next((each.complete for each in prompt.arguments if each.name == name), None)
        else:
            kind = self._kind(str(params.ref.uri))
            scope, complete = kind.scope, kind.completions.get(name)
        values: list[str] = []
        if complete is not None and caller.principal.may(scope):
            known = (params.context.arguments if params.context else None) or {}
            values = await self._answered(complete(self._service(), caller, params.argument.value, known))
        shown = values[:_COMPLETIONS_MAX]
        return types.CompleteResult(
            completion=types.Completion(values=shown, total=len(values), has_more=len(values) > len(shown))
        )

    def _prompt(self, name: str) -> Prompt:
        prompt = self._prompts.get(name)
        if prompt is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown prompt {name!r}; there are {', '.join(self._prompts)}")
        return prompt

    def _kind(self, template: str) -> ResourceKind:
        kind = next((each for each in self._catalogue.resources if each.uri_template == template), None)
        if kind is None:
            templates = ", ".join(each.uri_template for each in self._catalogue.resources)
            raise MCPError(types.INVALID_PARAMS, f"unknown resource template {template!r}; there are {templates}")
        return kind

    async def _in_time(self, work: Awaitable[AnswerT]) -> AnswerT:
        """Raises Unavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except TimeoutError as error:
            raise Unavailable(
                f"not done within {self._timeout_s:g} s; try again with less", retry_after_s=1.0
            ) from error

    async def _answered(self, work: Awaitable[AnswerT]) -> AnswerT:
        try:
            return await self._in_time(work)
        except ServiceError as error:
            raise _protocol_error(error) from error


def _described(tool: Tool, glossary: Mapping[str, str]) -> types.Tool:
    def meaning_of(field: str) -> str | None:
        return glossary.get(f"{tool.name}.{field}") or glossary.get(field)

    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=schema_of(tool.arguments),
        output_schema=explained(schema_of(tool.answers), meaning_of),
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.is_read_only,
            destructive_hint=tool.is_destructive,
            idempotent_hint=tool.is_idempotent,
            open_world_hint=tool.is_open_world,
        ),
    )


def _caller(context: Context) -> Caller:
    if context.request is None:
        raise MCPError(types.INVALID_REQUEST, "this server is asked over HTTP")
    found: Caller = context.request.scope[CALLER_OF](context.session.report_progress)
    return found


def _refuse_cursor(params: types.PaginatedRequestParams | None) -> None:
    if params is not None and params.cursor is not None:
        raise MCPError(types.INVALID_PARAMS, "this list has one page; leave the cursor out")


def _place(cursor: str | None) -> tuple[int, str | None]:
    index, _, inner = (cursor or "0:").partition(":")
    if not (index.isascii() and index.isdigit() and len(index) <= 2):  # noqa: PLR2004 - there are a few kinds
        raise MCPError(types.INVALID_PARAMS, "this cursor is not from an earlier answer; leave it out to start")
    return int(index), inner or None


def _signature(arguments: tuple[PromptArgument, ...]) -> str:
    return ", ".join(each.name if each.is_required else f"{each.name} (may be left out)" for each in arguments)


def _no_resource(context: Context, uri: str, message: str) -> MCPError:
    is_invalid = context.protocol_version >= NOT_FOUND_IS_INVALID_SINCE
    return MCPError(types.INVALID_PARAMS if is_invalid else RESOURCE_NOT_FOUND, message, {"uri": uri})


def _protocol_error(error: ServiceError) -> MCPError:
    code = types.INVALID_PARAMS if error.status < Internal.status else types.INTERNAL_ERROR
    return MCPError(code, _advice(error))


def _advice(error: ServiceError) -> str:
    """Short enough that no host cuts it."""
    text = str(error).replace("$.", "")
    if error.retry_after_s is not None:
        text += f"\nTry again after {error.retry_after_s:g} s."
    return text if len(text) <= _ERROR_CHARACTERS_MAX else text[: _ERROR_CHARACTERS_MAX - 1] + "…"


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)


def _plain(told: Told) -> Any:
    """As over HTTP: times as text, nothing that is null."""
    return msgspec.to_builtins(told.facts)
