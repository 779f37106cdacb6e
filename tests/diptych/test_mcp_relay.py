"""One MCP server that stands for running services: everything passes unchanged, and what is away says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from diptych.mcp_relay import Relay
from diptych.mcp_upstream import Upstream
from diptych.ports import free_ports
from tests.diptych.agents import FINDER, KEEPER, Seen, running
from tests.harness import WAIT_S, make_key

ERAS = ("auto", "legacy")
# Nothing listens there.
NOWHERE = "http://127.0.0.1:9"

# The SDK's client loads certificates when it is made.
pytestmark = pytest.mark.blocking
both_eras = pytest.mark.parametrize("era", ERAS)


@asynccontextmanager
async def relay(
    era: str, *urls: tuple[str, str], key: str | None = None, user: str | None = None
) -> AsyncIterator[Client]:
    async with AsyncExitStack() as opened:
        upstreams = [
            await opened.enter_async_context(Upstream(name, url, api_key=key, user=user, timeout_s=WAIT_S))
            for name, url in urls
        ]
        server = await Relay(upstreams).introduced()
        yield await opened.enter_async_context(Client(server, mode=era))


@asynccontextmanager
async def pair(tmp_path: Path, era: str) -> AsyncIterator[Client]:
    async with (
        running(tmp_path / "one", FINDER) as retrieval,
        running(tmp_path / "two", KEEPER) as memory,
        relay(era, ("retrieval", retrieval), ("memory", memory)) as client,
    ):
        yield client


def text_of(answer: types.CallToolResult) -> str:
    (part,) = answer.content
    assert isinstance(part, types.TextContent)
    return part.text


async def test_what_one_service_says_comes_out_unchanged(tmp_path: Path) -> None:
    async with (
        running(tmp_path, FINDER) as url,
        Client(url + "/mcp") as direct,
        relay("auto", ("retrieval", url)) as client,
    ):
        assert client.instructions == direct.instructions
        assert (await client.list_tools()).tools == (await direct.list_tools()).tools
        assert (await client.list_tools()).ttl_ms == (await direct.list_tools()).ttl_ms
        for arguments in ({"query": "x"}, {"query": "nothing"}, {"quarry": "x"}):
            relayed = await client.call_tool("find", arguments)
            asked = await direct.call_tool("find", arguments)
            assert (relayed.content, relayed.structured_content, relayed.is_error) == (
                asked.content,
                asked.structured_content,
                asked.is_error,
            )
        errors = []
        for each in (client, direct):
            with pytest.raises(MCPError) as raised:
                await each.call_tool("seek", {})
            errors.append(raised.value.error)
        assert errors[0] == errors[1]


class TestTwoServices:
    @both_eras
    async def test_are_one_server_whose_lists_have_an_order(self, tmp_path: Path, era: str) -> None:
        async with pair(tmp_path, era) as client:
            assert client.server_info is not None
            assert client.server_info.name == "diptych"
            assert client.instructions == "How retrieval is used.\n\nHow memory is used."
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert tools == ["find", "find_slowly", "keep", "keep_slowly"]
            prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
            assert prompts == ["find_all", "keep_all"]
            templates = (await client.list_resource_templates()).resource_templates
            assert [template.uri_template for template in templates] == ["doc://{id}", "memory://{id}"]

    @both_eras
    async def test_each_answers_for_what_it_listed(self, tmp_path: Path, era: str) -> None:
        async with pair(tmp_path, era) as client:
            assert (await client.call_tool("find", {"query": "a"})).structured_content == {"found": "a"}
            assert (await client.call_tool("keep", {"query": "b"})).structured_content == {"found": "b"}
            prompt = await client.get_prompt("keep_all", {"topic": "tea"})
            assert isinstance(prompt.messages[0].content, types.TextContent)
            assert prompt.messages[0].content.text == "memory on tea"
            for uri, said in (("doc://7", "retrieval has 7"), ("memory://8", "memory has 8")):
                (contents,) = (await client.read_resource(uri)).contents
                assert isinstance(contents, types.TextResourceContents)
                assert contents.text == said
            for ref, variable, said in (
                (types.ResourceTemplateReference(type="ref/resource", uri="memory://{id}"), "id", "x-of-memory"),
                (types.PromptReference(type="ref/prompt", name="find_all"), "topic", "x-of-retrieval"),
            ):
                found = await client.complete(ref, {"name": variable, "value": "x"})
                assert found.completion.values == [said]

    @both_eras
    async def test_their_resources_are_listed_page_by_page(self, tmp_path: Path, era: str) -> None:
        async with pair(tmp_path, era) as client:
            listed: list[str] = []
            cursor = None
            while True:
                page = await client.list_resources(cursor=cursor)
                listed += [str(each.uri) for each in page.resources]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert listed == ["doc://1", "doc://2", "memory://1", "memory://2"]
            with pytest.raises(MCPError, match="leave it out"):
                await client.list_resources(cursor="2:")

    @both_eras
    async def test_a_name_that_neither_has_is_refused_with_those_that_there_are(self, tmp_path: Path, era: str) -> None:
        async with pair(tmp_path, era) as client:
            with pytest.raises(MCPError, match="unknown tool 'seek'; there are find, find_slowly, keep") as raised:
                await client.call_tool("seek", {})
            assert raised.value.code == types.INVALID_PARAMS
            with pytest.raises(MCPError, match="unknown scheme 'http'; there are doc, memory"):
                await client.read_resource("http://x")

    @pytest.mark.parametrize(("era", "code"), [("auto", types.INVALID_PARAMS), ("legacy", -32002)])
    async def test_a_resource_that_is_not_there_has_the_code_of_the_revision(
        self, tmp_path: Path, era: str, code: int
    ) -> None:
        async with pair(tmp_path, era) as client:
            with pytest.raises(MCPError, match="there is no memory 'none'") as raised:
                await client.read_resource("memory://none")
            assert raised.value.code == code
            assert raised.value.data == {"uri": "memory://none"}

    @both_eras
    async def test_one_that_is_away_leaves_the_other_at_work(self, tmp_path: Path, era: str) -> None:
        async with (
            running(tmp_path, KEEPER) as memory,
            relay(era, ("retrieval", NOWHERE), ("memory", memory)) as client,
        ):
            listed = await client.list_tools(cache_mode="bypass")
            assert [tool.name for tool in listed.tools] == ["keep", "keep_slowly"]
            # Nobody should remember half a list.
            assert listed.ttl_ms == 0
            assert (await client.call_tool("keep", {"query": "b"})).structured_content == {"found": "b"}
            answer = await client.call_tool("find", {"query": "a"})
            assert answer.is_error
            assert text_of(answer).startswith("retrieval cannot be reached at http://127.0.0.1:9, and nothing was done")


class TestACall:
    @both_eras
    async def test_that_is_given_up_ends_in_the_service(self, tmp_path: Path, era: str) -> None:
        seen = Seen()
        async with running(tmp_path, FINDER, seen) as url, relay(era, ("retrieval", url)) as client:
            task = asyncio.create_task(client.call_tool("find_slowly", {"query": "a"}))
            async with asyncio.timeout(WAIT_S):
                await seen.entered.wait()
                task.cancel()
                await seen.cancelled.wait()
            assert (await client.call_tool("find", {"query": "a"})).structured_content == {"found": "a"}

    async def test_is_made_with_the_configured_key_for_the_configured_user(self, tmp_path: Path) -> None:
        key = await make_key(tmp_path, "acme")
        seen = Seen()
        async with (
            running(tmp_path, FINDER, seen) as url,
            relay("auto", ("retrieval", url), key=key, user="ada") as client,
        ):
            await client.call_tool("find", {"query": "a"})
        (caller,) = seen.callers
        assert (caller.principal.tenant, caller.bearer, caller.named_user) == ("acme", key, "ada")

    async def test_with_a_key_that_is_refused_says_where_keys_are_set(self, tmp_path: Path) -> None:
        await make_key(tmp_path, "acme")
        async with running(tmp_path, FINDER) as url, relay("auto", ("retrieval", url), key="wrong") as client:
            answer = await client.call_tool("find", {"query": "a"})
        assert answer.is_error
        assert text_of(answer).startswith("retrieval refused this: ")
        assert "DIPTYCH_API_KEY" in text_of(answer)

    @both_eras
    async def test_works_again_when_the_service_is_back(self, tmp_path: Path, era: str) -> None:
        (port,) = free_ports(1)
        async with relay(era, ("retrieval", f"http://127.0.0.1:{port}")) as client:
            for _ in range(2):
                answer = await client.call_tool("find", {"query": "a"})
                assert answer.is_error
                assert "`diptych up` starts both services" in text_of(answer)
                with pytest.raises(MCPError, match="cannot be reached"):
                    await client.list_tools(cache_mode="bypass")
                async with running(tmp_path, FINDER, port=port):
                    again = await client.call_tool("find", {"query": "a"})
                    assert again.structured_content == {"found": "a"}

    @both_eras
    async def test_says_so_when_the_service_ends_while_it_works(self, tmp_path: Path, era: str) -> None:
        seen = Seen()
        async with AsyncExitStack() as service:
            url = await service.enter_async_context(running(tmp_path, FINDER, seen))
            async with relay(era, ("retrieval", url)) as client:
                task: asyncio.Task[Any] = asyncio.create_task(client.call_tool("find_slowly", {"query": "a"}))
                async with asyncio.timeout(WAIT_S):
                    await seen.entered.wait()
                    await service.aclose()
                    answer = await task
                assert answer.is_error
                assert "went away while it worked" in text_of(answer)

    async def test_to_what_is_no_diptych_service_names_the_address(self, tmp_path: Path) -> None:
        async with running(tmp_path, FINDER) as url, relay("auto", ("retrieval", url + "/elsewhere")) as client:
            answer = await client.call_tool("find", {"query": "a"})
        assert answer.is_error
        assert "POST /elsewhere/mcp" in text_of(answer)
