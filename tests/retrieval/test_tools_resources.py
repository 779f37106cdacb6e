"""What people pick in their client: resources with suggestions for their names, and prompts."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import MCPError
from mcp.types import PromptReference, ResourceTemplateReference

from tests.agents import ERAS, Agent, Era, agent_at
from tests.harness import RunningRetrieval, running_retrieval

DOCUMENT = ResourceTemplateReference(uri="doc://{collection}/{document_id}")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as found:
        await found.client.ingest(
            "a guide", [{"id": "how/to", "title": "How", "text": "# How\n\nLike this.", "metadata": {"year": 2024}}]
        )
        await found.client.ingest(
            "tickets", [{"id": f"t{number}", "text": f"Ticket {number}."} for number in range(120)]
        )
        yield found


@pytest.fixture(params=ERAS)
async def agent(request: pytest.FixtureRequest, running: RunningRetrieval) -> AsyncIterator[Agent]:
    era: Era = request.param
    async with agent_at(running.url, era=era) as connected:
        yield connected


async def test_collections_are_listed_and_tell_what_they_hold(agent: Agent) -> None:
    listed = (await agent.client.list_resources()).resources
    templates = (await agent.client.list_resource_templates()).resource_templates

    assert [(each.uri, each.name, each.description) for each in listed] == [
        ("collection://a%20guide", "a guide", "1 document"),
        ("collection://tickets", "tickets", "120 documents"),
    ]
    assert [each.uri_template for each in templates] == ["collection://{name}", "doc://{collection}/{document_id}"]
    assert json.loads(await agent.read("collection://a%20guide")) == {
        "name": "a guide",
        "description": "",
        "documents": 1,
        "passages": 1,
        "model": "hash",
        "language": "en",
        "filter_fields": {"year": "number"},
    }


async def test_a_document_is_read_by_the_address_that_hits_have(agent: Agent) -> None:
    found = await agent.ask("search_documents", query="like this", collection="a guide")

    assert found["hits"][0]["uri"] == "doc://a%20guide/how%2Fto"
    assert await agent.read("doc://a%20guide/how%2Fto") == "# How\n\nLike this."


@pytest.mark.parametrize(
    "uri", ["doc://a%20guide/none", "doc://none/t1", "collection://none", "doc://tickets", "file:///a"]
)
async def test_what_is_not_there_is_said_to_be_missing(agent: Agent, uri: str) -> None:
    with pytest.raises(MCPError, match="there is no"):
        await agent.read(uri)


async def test_names_are_suggested_as_they_are_typed(agent: Agent) -> None:
    async def suggested(name: str, value: str, **known: str) -> list[str]:
        return (await agent.client.complete(DOCUMENT, {"name": name, "value": value}, known)).completion.values

    assert await suggested("collection", "") == ["a guide", "tickets"]
    assert await suggested("collection", "tick") == ["tickets"]
    assert await suggested("collection", "tickets") == ["tickets"]
    assert await suggested("collection", "tickets2") == []
    assert await suggested("document_id", "t11", collection="tickets") == ["t11", *(f"t11{n}" for n in range(10))]
    assert await suggested("document_id", "h", collection="a guide") == ["how/to"]
    assert await suggested("document_id", "t", collection="none") == []
    assert await suggested("document_id", "t") == []


async def test_more_than_can_be_suggested_is_said_to_be_more(agent: Agent) -> None:
    answer = await agent.client.complete(DOCUMENT, {"name": "document_id", "value": ""}, {"collection": "tickets"})

    assert len(answer.completion.values) == 100
    assert answer.completion.has_more is True


async def test_prompts_say_what_to_do_with_the_tools(agent: Agent) -> None:
    assert [prompt.name for prompt in (await agent.client.list_prompts()).prompts] == [
        "answer_with_sources",
        "compare_documents",
    ]
    anywhere = await agent.prompt("answer_with_sources", question="Why?")
    within = await agent.prompt("answer_with_sources", question="Why?", collection="tickets")
    compared = await agent.prompt("compare_documents", ids="t1, t2", question="Which is worse?")

    assert "Why?" in anywhere
    assert "search_documents" in anywhere
    assert 'search_documents with collection="tickets"' in within
    assert 'get_document(ids=["t1", "t2"])' in compared
    assert "Which is worse?" in compared
    reference = PromptReference(name="answer_with_sources")
    answer = await agent.client.complete(reference, {"name": "collection", "value": "t"})
    assert answer.completion.values == ["tickets"]


async def test_a_prompt_about_nothing_is_refused(agent: Agent) -> None:
    with pytest.raises(MCPError, match=r"No collection named 'none'. Collections: a guide, tickets."):
        await agent.prompt("answer_with_sources", question="Why?", collection="none")
    with pytest.raises(MCPError, match="not found: t900"):
        await agent.prompt("compare_documents", ids="t1,t900", question="Why?")
    with pytest.raises(MCPError, match="2 to 10 ids"):
        await agent.prompt("compare_documents", ids="t1, ,", question="Why?")
