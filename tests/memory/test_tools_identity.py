"""Whose memory a tool reads and writes: two users of one tenant, and two tenants, never see each other's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import ResourceTemplateReference

from memory.agents.identity import LOCAL_USER, user_of
from shared.errors import Forbidden, InvalidFields
from shared.keys import KeyFile, Principal, Scope
from shared.mcp.catalogue import Caller
from shared.memory_messages import AppendRequest, SessionSpec, TurnIn
from tests.agents import Agent, agent_at, text_of
from tests.harness import RunningMemory, make_key, running_memory

LISBON = "Ada lives in Lisbon."
SECRET = "The vault opens with 4711."


def caller(*, named: str | None = None, key_id: str | None = "k1", of: str | None = None) -> Caller:
    async def progress(_done: float, _total: float | None, _note: str) -> None:
        return None

    principal = Principal(tenant="acme", scopes=frozenset(), key_id=key_id, user_id=of)
    return Caller(principal=principal, bearer=None, named_user=named, progress=progress)


class TestWhoItIs:
    def test_a_key_that_belongs_to_a_user_has_the_last_word(self) -> None:
        assert user_of(caller(named="eve", of="ada"), "bob") == "ada"

    def test_the_clients_configuration_comes_before_the_servers(self) -> None:
        assert user_of(caller(named="ada"), "bob") == "ada"
        assert user_of(caller(), "bob") == "bob"

    def test_a_server_without_keys_has_one_user(self) -> None:
        assert user_of(caller(key_id=None), None) == LOCAL_USER
        assert user_of(caller(key_id=None), "bob") == "bob"

    def test_a_key_of_nobody_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(Forbidden, match=r"Bind the key to a user, send the header Diptych-User .* or set mcp_user"):
            user_of(caller(), None)

    @pytest.mark.parametrize("name", ["", "a\tb", "x" * 257, "a\udcff"])
    def test_a_name_that_cannot_be_one_is_refused(self, name: str) -> None:
        with pytest.raises(InvalidFields, match="Diptych-User"):
            user_of(caller(named=name), "bob")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    # The first key closes the server, so it is made before.
    await make_key(tmp_path, "acme")
    async with running_memory(tmp_path) as running:
        yield running
        assert (await running.service.check()).findings == []


class Agents:
    """ada and eve of one tenant, and another tenant's ada."""

    ada: Agent
    eve: Agent
    other_ada: Agent


@pytest.fixture
async def agents(tmp_path: Path, running: RunningMemory) -> AsyncIterator[Agents]:
    acme, other = await make_key(tmp_path, "acme"), await make_key(tmp_path, "other")
    async with AsyncExitStack() as stack:
        found = Agents()
        found.ada = await stack.enter_async_context(agent_at(running.url, key=acme, user="ada"))
        found.eve = await stack.enter_async_context(agent_at(running.url, key=acme, user="eve"))
        found.other_ada = await stack.enter_async_context(agent_at(running.url, key=other, user="ada"))
        yield found


@pytest.fixture
async def of_ada(agents: Agents) -> dict[str, Any]:
    """The ids of what ada wrote: a statement, an instruction, and two messages in the session monday."""
    fact = await agents.ada.ask("add_memory", text=LISBON, key="home")
    standing = await agents.ada.ask("add_memory", text="Always answer in French.", kind="instruction")
    messages = [{"role": "user", "content": SECRET, "id": "m1"}, {"role": "assistant", "content": "Noted.", "id": "m2"}]
    await agents.ada.ask("record_messages", session_id="monday", messages=messages)
    return {"fact": fact["memory"]["id"], "instruction": standing["memory"]["id"], "turn": "turn:monday#1"}


@pytest.fixture(params=["eve", "other_ada"])
def stranger(request: pytest.FixtureRequest, agents: Agents, of_ada: dict[str, Any]) -> Agent:
    del of_ada
    found: Agent = getattr(agents, request.param)
    return found


async def test_a_stranger_finds_nothing(stranger: Agent) -> None:
    for arguments in ({}, {"query": "vault Lisbon"}, {"kinds": ["summary", "message"]}):
        assert "no memories yet" in await stranger.told("search_memories", **arguments)
    context = await stranger.ask("get_context", task="open the vault in Lisbon")
    assert set(context) == {"now", "hint"}
    assert "none yet" in await stranger.read("memory://profile")
    assert [each.name for each in (await stranger.client.list_resources()).resources] == ["profile"]
    assert SECRET not in await stranger.prompt("recall", topic="vault")
    assert LISBON not in await stranger.prompt("review_memories", older_than_days="0")


async def test_a_strangers_ids_are_missing_and_delete_nothing(
    stranger: Agent, agents: Agents, of_ada: dict[str, Any]
) -> None:
    ids = [*of_ada.values(), "turns:monday#1-2"]
    deleted = await stranger.ask("delete_memories", ids=ids)
    assert (deleted["deleted"], deleted["missing"]) == (0, ids)
    assert "earlier_versions" not in deleted
    assert len((await agents.ada.ask("search_memories"))["memories"]) == 4


async def test_a_stranger_changes_and_reads_nothing_by_id(
    stranger: Agent, agents: Agents, of_ada: dict[str, Any]
) -> None:
    assert "there is no memory" in await stranger.refused("update_memory", id=of_ada["fact"], text="Ada lives in Faro.")
    for uri in (f"memory://{of_ada['fact']}", "memory://turn%3Amonday%231", "session://monday"):
        with pytest.raises(MCPError, match="there is no"):
            await stranger.read(uri)
    added = await stranger.ask("add_memory", text="Eve lives in Faro.", key="home")
    assert (added["status"], "replaced" in added) == ("created", False)
    first, *_ = (await agents.ada.ask("search_memories", query="lives"))["memories"]
    assert first["text"] == LISBON


async def test_another_users_session_is_no_session(agents: Agents, of_ada: dict[str, Any]) -> None:
    del of_ada
    eve = agents.eve
    for tool, arguments in (
        ("get_session", {}),
        ("get_context", {"task": "vault"}),
        ("search_memories", {"query": "vault"}),
        ("record_messages", {"messages": [{"role": "user", "content": "mine now"}]}),
    ):
        assert "there is no session 'monday'" in await eve.refused(tool, session_id="monday", **arguments)
    assert (await agents.ada.ask("get_session", session_id="monday"))["messages_in_all"] == 2


async def test_another_tenants_session_of_the_same_name_is_another(agents: Agents, of_ada: dict[str, Any]) -> None:
    del of_ada
    await agents.other_ada.ask("record_messages", session_id="monday", messages=[{"role": "user", "content": "else"}])
    assert (await agents.other_ada.ask("get_session", session_id="monday"))["messages_in_all"] == 1
    assert (await agents.ada.ask("get_session", session_id="monday"))["messages_in_all"] == 2


async def test_a_session_of_nobody_or_without_messages_is_not_taken_over(
    running: RunningMemory, agents: Agents
) -> None:
    await running.service.append("acme", "open", AppendRequest(turns=[TurnIn(role="user", content="hello")]))
    await running.service.put_session("acme", "empty", SessionSpec(user_id="eve"))
    message = [{"role": "user", "content": "mine"}]
    for session_id in ("open", "empty"):
        assert "no session" in await agents.ada.refused("record_messages", session_id=session_id, messages=message)
        assert "no session" in await agents.ada.refused("get_session", session_id=session_id)
    assert (await running.service.session("acme", "empty")).user_id == "eve"


async def test_completion_knows_the_users_own_sessions_alone(agents: Agents, of_ada: dict[str, Any]) -> None:
    del of_ada
    reference = ResourceTemplateReference(type="ref/resource", uri="session://{session_id}")
    for agent, expected in ((agents.ada, ["monday"]), (agents.eve, []), (agents.other_ada, [])):
        for typed in ("", "mon", "monday"):
            result = await agent.client.complete(reference, {"name": "session_id", "value": typed})
            assert result.completion.values == expected


async def test_without_a_user_every_tool_says_what_to_do(tmp_path: Path, running: RunningMemory) -> None:
    key = await make_key(tmp_path, "acme")
    async with agent_at(running.url, key=key) as nobody:
        for tool, arguments in (
            ("get_context", {"task": "x"}),
            ("search_memories", {}),
            ("add_memory", {"text": "x"}),
            ("update_memory", {"id": "x", "text": "y"}),
            ("delete_memories", {"ids": ["x"]}),
            ("record_messages", {"session_id": "x", "messages": [{"role": "user", "content": "x"}]}),
            ("get_session", {"session_id": "x"}),
        ):
            assert "set mcp_user" in await nobody.refused(tool, **arguments)
        assert [each.name for each in (await nobody.client.list_resources()).resources] == ["profile"]
        with pytest.raises(MCPError, match="set mcp_user"):
            await nobody.read("memory://profile")


async def test_a_key_of_a_user_reaches_theirs_alone_whatever_the_client_says(
    running: RunningMemory, agents: Agents, of_ada: dict[str, Any]
) -> None:
    file = await asyncio.to_thread(KeyFile, running.settings.keys_file)
    scopes: tuple[Scope, ...] = ("memory:read", "memory:write")
    _, key = await asyncio.to_thread(file.create, tenant="acme", name="ada's", scopes=scopes, user_id="ada")
    async with agent_at(running.url, key=key, user="eve") as agent:
        found = (await agent.ask("search_memories"))["memories"]
        assert {each["id"] for each in found} >= set(of_ada.values())
        await agent.ask("add_memory", text="Ada likes tea.", kind="preference")
        assert "Ada likes tea." in await agent.read("memory://profile")
        assert (await agent.ask("get_session", session_id="monday"))["messages_in_all"] == 2
        assert (await agent.ask("delete_memories", ids=[of_ada["turn"]]))["messages"] == 1
    assert "no memories yet" in await agents.eve.told("search_memories")


async def test_of_two_users_who_begin_a_session_at_once_one_gets_it(agents: Agents) -> None:
    for number in range(10):
        name = f"race {number}"
        message = [{"role": "user", "content": "mine"}]
        results = await asyncio.gather(
            *(each.call("record_messages", session_id=name, messages=message) for each in (agents.ada, agents.eve))
        )
        losers = [text_of(result) for result in results if result.is_error]
        assert len(losers) == 1
        # Found out before the write, or in its transaction.
        assert "choose another session_id" in losers[0] or "the id is taken; use another" in losers[0]


async def test_the_setting_names_the_user_of_a_server(tmp_path: Path) -> None:
    async with running_memory(tmp_path, mcp_user="ada") as running, agent_at(running.url) as agent:
        await agent.ask("add_memory", text=LISBON)
        assert [fact.text for fact in (await running.client.facts("ada")).items] == [LISBON]
        async with agent_at(running.url, user="eve") as eve:
            assert "no memories yet" in await eve.told("search_memories")
