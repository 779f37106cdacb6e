"""The two tools of OpenAI's connectors, in exactly their shapes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agents import ERAS, Agent, Era, agent_at, text_of
from tests.harness import RunningRetrieval, running_retrieval


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as found:
        await found.client.ingest(
            "guides",
            [
                {
                    "id": "keys",
                    "title": "Key rotation",
                    "text": "Keys are rotated.\n\nEvery ninety days.",
                    "uri": "https://wiki.example/keys",
                    "metadata": {"team": "ops"},
                },
                {"id": "bees", "text": "Bees keep honey.", "uri": "file:///bees"},
                {"id": "long", "text": '"Quoted" lines.\n' * 6000},
            ],
        )
        yield found


@pytest.fixture(params=ERAS)
async def agent(request: pytest.FixtureRequest, running: RunningRetrieval) -> AsyncIterator[Agent]:
    era: Era = request.param
    async with agent_at(running.url, era=era, path="/mcp/openai") as connected:
        yield connected


async def test_there_are_two_tools_and_nothing_else(agent: Agent) -> None:
    tools = (await agent.client.list_tools()).tools

    assert [(tool.name, list(tool.input_schema["properties"])) for tool in tools] == [
        ("search", ["query"]),
        ("fetch", ["id"]),
    ]


async def test_search_finds_documents_and_fetch_gives_them(agent: Agent) -> None:
    found = await agent.call("search", query="rotated keys every ninety days")
    fetched = await agent.call("fetch", id="keys")

    assert json.loads(text_of(found)) == found.structured_content
    assert list(found.structured_content) == ["results"]
    assert found.structured_content["results"][0] == {
        "id": "keys",
        "title": "Key rotation",
        "url": "https://wiki.example/keys",
    }
    # An address that a person's browser cannot open is replaced by ours.
    assert found.structured_content["results"][1]["url"] in {"doc://guides/bees", "doc://guides/long"}
    assert json.loads(text_of(fetched)) == fetched.structured_content
    assert fetched.structured_content == {
        "id": "keys",
        "title": "Key rotation",
        "text": "Keys are rotated.\n\nEvery ninety days.",
        "url": "https://wiki.example/keys",
        "metadata": {"team": "ops"},
    }


async def test_a_long_document_says_how_much_of_it_is_there(agent: Agent) -> None:
    fetched = await agent.call("fetch", id="long")

    assert len(text_of(fetched)) <= 40_000
    facts = fetched.structured_content
    assert facts["text"].endswith("…")
    assert facts["metadata"] == {"characters": 96_000, "characters_shown": len(facts["text"]) - 1}
    assert len(facts["text"]) > 25_000


async def test_nothing_found_is_an_empty_list_and_a_missing_document_an_error(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running, agent_at(running.url, path="/mcp/openai") as agent:
        assert await agent.ask("search", query="anything") == {"results": []}
        assert await agent.refused("fetch", id="none") == "there is no document 'none'; search finds the ids"
