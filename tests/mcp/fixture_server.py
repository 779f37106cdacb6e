"""A server with everything that the protocol's conformance suite asks for by name, behind the hosting of the real services.

The services offer no images, no sampling and no questions to the user, so most of the suite would have nothing to test with
them. What is shown with this one is that the hosting (ASGI, headers, streams, the doors before it) carries all of the protocol.
The names and the texts are the suite's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import mcp_types as types
import msgspec
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ServerEvent,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

from shared.mcp.addresses import match

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
PAUSE_S: Final = 0.05
TEMPLATE: Final = "test://template/{id}/data"

Context = ServerRequestContext[Any, Any]
Result = types.CallToolResult | types.InputRequiredResult
Run = Callable[[Context, types.CallToolRequestParams], Awaitable[Result]]

NO_ARGUMENTS: Final[dict[str, Any]] = {"type": "object", "properties": {}}
# Every keyword of the newest JSON Schema that must pass unchanged.
SCHEMA_2020_12: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
WITH_HEADER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "query": {"type": "string"}},
    "required": ["region"],
}


def text(said: str) -> types.TextContent:
    return types.TextContent(type="text", text=said)


def image() -> types.ImageContent:
    return types.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, said: str, media_type: str = "text/plain") -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=media_type, text=said)
    return types.EmbeddedResource(type="resource", resource=resource)


def content(*blocks: types.ContentBlock) -> Run:
    async def run(_context: Context, _params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=list(blocks))

    return run


async def failing(_context: Context, _params: types.CallToolRequestParams) -> Result:
    said = text("This tool intentionally returns an error for testing")
    return types.CallToolResult(content=[said], is_error=True)


async def logging(context: Context, _params: types.CallToolRequestParams) -> Result:
    for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log_message(context, said)
        await asyncio.sleep(PAUSE_S)
    return types.CallToolResult(content=[text("Tool with logging executed successfully")])


async def log_message(context: Context, said: str) -> None:
    # Deprecated in the newest revision, and part of every other.
    await context.session.send_log_message("info", said, related_request_id=context.request_id)


async def progressing(context: Context, _params: types.CallToolRequestParams) -> Result:
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100, f"{done} of 100")
        await asyncio.sleep(PAUSE_S)
    return types.CallToolResult(content=[text("Done.")])


async def demanding(context: Context, _params: types.CallToolRequestParams) -> Result:
    if not context.session.check_client_capability(types.ClientCapabilities(sampling=types.SamplingCapability())):
        data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs sampling", data)
    return types.CallToolResult(content=[text("The client has sampling.")])


def asking(message: str, field: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def sampling(question: str, tokens_max: int) -> types.CreateMessageRequest:
    messages = [types.SamplingMessage(role="user", content=text(question))]
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=messages, max_tokens=tokens_max))


WHO: Final = {"user_name": asking("What is your name?", "name")}
CAPITAL: Final = {"capital_question": sampling("What is the capital of France?", 100)}
ROOTS: Final[dict[str, types.InputRequest]] = {"client_roots": types.ListRootsRequest()}
CONFIRM: Final = {"confirm": asking("Please confirm", "ok", "boolean")}


def needing(
    requests: Mapping[str, types.InputRequest], answer: Callable[[Mapping[str, Any]], str], state: str | None = None
) -> Run:
    """Asks until everything that it needs was answered, and with a state until that came back as it was."""

    async def run(_context: Context, params: types.CallToolRequestParams) -> Result:
        given = answered(params.input_responses)
        if not requests.keys() <= given.keys() or params.request_state != state:
            return types.InputRequiredResult(input_requests=dict(requests), request_state=state)
        return types.CallToolResult(content=[text(answer(given))])

    return run


def answered(responses: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the user agreed to say, by its name; an answer without anything in it is none."""
    found = {}
    for name, response in (responses or {}).items():
        if isinstance(response, types.ElicitResult):
            if response.action == "accept" and response.content:
                found[name] = response.content
        else:
            found[name] = response
    return found


async def in_rounds(_context: Context, params: types.CallToolRequestParams) -> Result:
    given = answered(params.input_responses)
    if params.request_state == "two" and "step2" in given:
        return types.CallToolResult(content=[text(f"You like {given['step2'].get('color')}.")])
    if params.request_state in {"one", "two"} and ("step1" in given or params.request_state == "two"):
        question = asking("Step 2: What is your favorite color?", "color")
        return types.InputRequiredResult(input_requests={"step2": question}, request_state="two")
    question = asking("Step 1: What is your name?", "name")
    return types.InputRequiredResult(input_requests={"step1": question}, request_state="one")


async def as_the_client_can(context: Context, _params: types.CallToolRequestParams) -> Result:
    """Asks only in the ways that the client says it has."""
    requests: dict[str, types.InputRequest] = {}
    if context.session.check_client_capability(types.ClientCapabilities(elicitation=types.ElicitationCapability())):
        requests |= WHO
    if context.session.check_client_capability(types.ClientCapabilities(sampling=types.SamplingCapability())):
        requests |= CAPITAL
    if not requests:
        return types.CallToolResult(content=[text("There is nobody to ask.")])
    return types.InputRequiredResult(input_requests=requests)


def said(given: Mapping[str, Any]) -> str:
    return f"state-ok {given}"


def greeting(given: Mapping[str, Any]) -> str:
    return f"Hello, {given['user_name'].get('name')}!"


TOOLS: Final[Mapping[str, Run]] = {
    "test_simple_text": content(text("This is a simple text response for testing.")),
    "test_image_content": content(image()),
    "test_audio_content": content(types.AudioContent(type="audio", data=WAV, mime_type="audio/wav")),
    "test_embedded_resource": content(embedded("test://embedded-resource", "This is an embedded resource content.")),
    "test_multiple_content_types": content(
        text("Multiple content types test:"),
        image(),
        embedded("test://mixed-content-resource", '{"test":"data","value":123}', "application/json"),
    ),
    "test_tool_with_logging": logging,
    "test_logging_tool": logging,
    "test_error_handling": failing,
    "test_tool_with_progress": progressing,
    "test_reconnection": content(text("Reconnection test completed")),
    "test_missing_capability": demanding,
    "test_streaming_elicitation": needing(WHO, greeting),
    "json_schema_2020_12_tool": content(text("ok")),
    "test_header": content(text("The header fits.")),
    "test_input_required_result_elicitation": needing(WHO, greeting),
    "test_input_required_result_sampling": needing(CAPITAL, said),
    "test_input_required_result_list_roots": needing(ROOTS, said),
    "test_input_required_result_request_state": needing(CONFIRM, said, "waiting"),
    "test_input_required_result_multiple_inputs": needing(
        {**WHO, "greeting": sampling("Generate a greeting", 50), **ROOTS}, said, "waiting"
    ),
    "test_input_required_result_multi_round": in_rounds,
    "test_input_required_result_tampered_state": needing(CONFIRM, said, "waiting"),
    "test_input_required_result_capabilities": as_the_client_can,
}
SCHEMAS: Final = {"json_schema_2020_12_tool": SCHEMA_2020_12, "test_header": WITH_HEADER}
TRIGGERS: Final[Mapping[str, Callable[[], ServerEvent]]] = {
    "test_trigger_tool_change": ToolsListChanged,
    "test_trigger_prompt_change": PromptsListChanged,
}


def prompt(*blocks: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=each) for each in blocks])


PROMPTS: Final[Mapping[str, tuple[str, ...]]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}
RESOURCES: Final = {
    "test://static-text": "text/plain",
    "test://static-binary": "image/png",
    "test://watched-resource": "text/plain",
}


class Fixture:
    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        lists: dict[Any, CacheHint] = {
            f"{name}/list": CacheHint(1000, "private")
            for name in ("tools", "prompts", "resources", "resources/templates")
        }
        self.server: Server[Any] = Server(
            "fixture",
            version="1",
            title="Fixture",
            cache_hints={**lists, "resources/read": CacheHint(1000, "private")},
            get_tool_input_schema=lambda name: SCHEMAS.get(name, NO_ARGUMENTS),
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_subscribe_resource=self._take_note,
            on_unsubscribe_resource=self._take_note,
            on_subscriptions_listen=ListenHandler(self._bus),
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
            on_completion=self._complete,
            on_set_logging_level=self._take_note,
        )
        self.server.middleware.append(
            RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="fixture")
        )

    async def _list_tools(self, _context: Context, _params: Any) -> types.ListToolsResult:
        names = [*TOOLS, *TRIGGERS]
        return types.ListToolsResult(
            tools=[
                types.Tool(name=name, description=name, input_schema=SCHEMAS.get(name, NO_ARGUMENTS)) for name in names
            ]
        )

    async def _call_tool(self, context: Context, params: types.CallToolRequestParams) -> Result:
        if event := TRIGGERS.get(params.name):
            await self._bus.publish(event())
            return types.CallToolResult(content=[text("Changed.")])
        run = TOOLS.get(params.name)
        if run is None:
            raise MCPError(types.INVALID_PARAMS, f"unknown tool {params.name!r}")
        return await run(context, params)

    async def _list_resources(self, _context: Context, _params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(
            resources=[
                types.Resource(uri=uri, name=uri.removeprefix("test://"), description="For tests", mime_type=media_type)
                for uri, media_type in RESOURCES.items()
            ]
        )

    async def _list_templates(self, _context: Context, _params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(uri_template=TEMPLATE, name="template", mime_type="application/json")
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        found: types.TextResourceContents | types.BlobResourceContents
        if uri == "test://static-binary":
            found = types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)
        elif values := match(TEMPLATE, uri):
            said = {"id": values["id"], "templateTest": True, "data": f"Data for ID: {values['id']}"}
            body = msgspec.json.encode(said).decode()
            found = types.TextResourceContents(uri=uri, mime_type="application/json", text=body)
        elif uri in RESOURCES:
            body = "This is the content of the static text resource."
            found = types.TextResourceContents(uri=uri, mime_type="text/plain", text=body)
        else:
            code = types.INVALID_PARAMS if context.protocol_version >= "2026-07-28" else -32002
            raise MCPError(code, f"there is no resource {uri!r}", {"uri": uri})
        return types.ReadResourceResult(contents=[found])

    async def _list_prompts(self, _context: Context, _params: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=name,
                    description=name,
                    arguments=[types.PromptArgument(name=each, description=each, required=True) for each in arguments],
                )
                for name, arguments in PROMPTS.items()
            ]
        )

    async def _get_prompt(
        self, _context: Context, params: types.GetPromptRequestParams
    ) -> types.GetPromptResult | types.InputRequiredResult:
        given = params.arguments or {}
        match params.name:
            case "test_simple_prompt":
                return prompt(text("This is a simple prompt for testing."))
            case "test_prompt_with_arguments":
                return prompt(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))
            case "test_prompt_with_embedded_resource":
                resource = embedded(given["resourceUri"], "Embedded resource content for testing.")
                return prompt(resource, text("Please process the embedded resource above."))
            case "test_prompt_with_image":
                return prompt(image(), text("Please analyze the image above."))
            case "test_input_required_result_prompt":
                context = answered(params.input_responses).get("user_context")
                if context is None:
                    question = asking("What context should the prompt use?", "context")
                    return types.InputRequiredResult(input_requests={"user_context": question})
                return prompt(text(f"In the context of {context.get('context')}."))
            case name:
                raise MCPError(types.INVALID_PARAMS, f"unknown prompt {name!r}")

    async def _complete(self, _context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
        values = [each for each in ("paris", "park", "party") if each.startswith(params.argument.value)]
        return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))

    async def _take_note(self, _context: Context, _params: Any) -> types.EmptyResult:
        return types.EmptyResult()
