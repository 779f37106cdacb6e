"""retrieval's tools over MCP, with the official client, in both eras of the protocol."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import MCPError

from retrieval.agents.catalogue import CATALOGUE
from shared.mcp.schemas import schema_of
from shared.retrieval_messages import Chunking, CollectionSpec
from shared.tokens import estimate_tokens
from tests.agents import ERAS, Agent, Era, agent_at, text_of
from tests.harness import RunningRetrieval, running_retrieval

KEYS = "Keys are rotated every ninety days by whoever is on call."
BEES = "Bees keep honey for the winter."
READING = ["search_documents", "get_document", "list_collections"]
WRITING = ["add_documents", "delete_documents"]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as found:
        yield found
        assert (await found.service.check()).findings == []


@pytest.fixture(params=ERAS)
async def agent(request: pytest.FixtureRequest, running: RunningRetrieval) -> AsyncIterator[Agent]:
    era: Era = request.param
    async with agent_at(running.url, era=era) as connected:
        yield connected


@pytest.fixture
async def stocked(running: RunningRetrieval) -> RunningRetrieval:
    """Two collections of small passages."""
    for name in ("guides", "tickets"):
        await running.client.put_collection(
            name, CollectionSpec(chunking=Chunking(max_tokens=32), description=f"All {name}")
        )
    await running.client.ingest(
        "guides",
        [
            {
                "id": "ops-12",
                "title": "Key rotation",
                "text": KEYS,
                "metadata": {"year": 2023, "tags": ["ops", "keys"]},
            },
            {"id": "farm", "title": "Farm", "text": BEES, "metadata": {"year": 2024, "done": True}},
            {"id": "both", "title": "Guide", "text": "The lamp in the hall is green."},
        ],
    )
    await running.client.ingest(
        "tickets",
        [
            {
                "id": "both",
                "title": "Ticket",
                "text": "The lamp in the hall is broken.",
                "metadata": {"year": "unknown"},
            },
            {"id": "t#7", "title": "Odd", "text": "An id with a number sign."},
        ],
    )
    return running


def hits_of(answer: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


class TestCatalogue:
    async def test_an_agent_sees_every_tool_with_all_that_a_host_asks_for(self, agent: Agent) -> None:
        tools = (await agent.client.list_tools()).tools

        assert [tool.name for tool in tools] == READING + WRITING
        for tool in tools:
            assert tool.title
            assert tool.description
            assert tool.input_schema["additionalProperties"] is False
            assert tool.output_schema is not None
            hints = tool.annotations
            assert hints is not None
            assert None not in (
                hints.read_only_hint,
                hints.destructive_hint,
                hints.idempotent_hint,
                hints.open_world_hint,
            )
            assert hints.read_only_hint is (tool.name in READING)
            assert hints.destructive_hint is (tool.name == "delete_documents")

    def test_it_costs_a_prompt_little(self) -> None:
        costs = {
            tool.name: estimate_tokens(
                msgspec.json.encode(
                    {"name": tool.name, "description": tool.description, "inputSchema": schema_of(tool.arguments)}
                ).decode()
            )
            for tool in CATALOGUE.tools
        }
        print(f"tokens of the catalogue: {sum(costs.values())} ({costs})")  # noqa: T201 - the number to report

        assert sum(costs.values()) <= 1200
        assert len(CATALOGUE.instructions) <= 600

    async def test_an_unknown_tool_is_the_clients_mistake(self, agent: Agent) -> None:
        with pytest.raises(MCPError, match="search_documents"):
            await agent.call("search")

    @pytest.mark.parametrize(
        ("tool", "arguments", "advice"),
        [
            ("search_documents", {}, "query"),
            ("search_documents", {"query": ""}, "query"),
            ("search_documents", {"query": " "}, "white space"),
            ("search_documents", {"query": "a", "text": "b"}, "given twice"),
            ("search_documents", {"query": "a", "limit": 51}, "limit"),
            ("search_documents", {"query": "a", "limit": "many"}, "limit"),
            ("search_documents", {"query": "a", "mode": "dense"}, "mode"),
            ("search_documents", {"query": "a", "max_tokens": 199}, "max_tokens"),
            ("search_documents", {"query": "a", "cursor": "3-0123456789abcdef"}, "cursor"),
            ("search_documents", {"query": "a", "tenant": "other"}, "search_documents takes: query, collection, limit"),
            ("search_documents", {"query": "a", "filter": "year"}, "filter"),
            ("get_document", {}, "ids"),
            ("get_document", {"ids": []}, "ids"),
            ("get_document", {"ids": [f"d{number}" for number in range(11)]}, "ids"),
            ("get_document", {"ids": [7]}, "ids"),
            ("get_document", {"ids": ["a"], "start": -1}, "start"),
            ("list_collections", {"limit": 3}, "no arguments"),
            ("add_documents", {"documents": []}, "documents"),
            ("add_documents", {"documents": [{"text": ""}]}, "documents[0].text"),
            ("add_documents", {"documents": [{"text": "a", "url": "b"}]}, "url"),
            ("add_documents", {"documents": [{"id": "a", "text": "a"}, {"id": "a", "text": "b"}]}, "stands twice"),
            ("add_documents", {"documents": [{"text": "a", "metadata": {"a": "b" * 20_000}}]}, "documents[0].metadata"),
            ("delete_documents", {"ids": [str(number) for number in range(101)]}, "ids"),
            ("delete_documents", {"ids": ["a"], "filter": {}}, "delete_documents takes: ids, collection"),
        ],
    )
    async def test_what_is_wrong_is_named_with_what_to_do(
        self, running: RunningRetrieval, tool: str, arguments: dict[str, Any], advice: str
    ) -> None:
        async with agent_at(running.url) as agent:
            result = await agent.call(tool, **arguments)

        assert result.is_error, text_of(result)
        assert advice in text_of(result)
        assert "$." not in text_of(result)


class TestSearch:
    @pytest.mark.usefixtures("stocked")
    async def test_hits_are_passages_on_both_channels(self, agent: Agent) -> None:
        result = await agent.call("search_documents", query="rotated keys", limit=1)

        assert not result.is_error
        text, facts = text_of(result), result.structured_content
        assert facts["hits"] == [
            {
                "id": "ops-12#0",
                "title": "Key rotation",
                "text": KEYS,
                "score": facts["hits"][0]["score"],
                "uri": "doc://guides/ops-12",
            }
        ]
        assert facts["more"] is True
        assert text == (
            f"1 passage for 'rotated keys' (hybrid)\n\n"
            f"[1] Key rotation (id ops-12#0, score {facts['hits'][0]['score']:g}, doc://guides/ops-12)\n{KEYS}\n\n"
            f"More: repeat with cursor='{facts['next_cursor']}'.\n\n{facts['hint']}"
        )
        assert facts["hint"] == 'Whole document: get_document(ids=["ops-12"]).'

    @pytest.mark.parametrize("alias", ["q", "text"])
    async def test_guessed_names_are_taken(self, stocked: RunningRetrieval, alias: str) -> None:
        async with agent_at(stocked.url) as agent:
            for limit in ("k", "top_k", "n_results"):
                assert hits_of(await agent.ask("search_documents", **{alias: "rotated keys", limit: 1})) == ["ops-12#0"]

    @pytest.mark.parametrize("max_tokens", [200, 400, 4000])
    async def test_pages_join_within_their_budgets(
        self, stocked: RunningRetrieval, agent: Agent, max_tokens: int
    ) -> None:
        whole = await stocked.client.search("the lamp of the keys", collection="guides", limit=50)

        seen: list[str] = []
        cursor = None
        for _ in range(10):
            result = await agent.call(
                "search_documents",
                query="the lamp of the keys",
                collection="guides",
                limit=2,
                max_tokens=max_tokens,
                cursor=cursor,
            )
            assert not result.is_error, text_of(result)
            seen += hits_of(result.structured_content)
            assert estimate_tokens(text_of(result)) <= max_tokens
            cursor = result.structured_content.get("next_cursor")
            assert result.structured_content["more"] is (cursor is not None)
            if cursor is None:
                break

        assert seen == [
            f"{hit.document_id}#{hit.start}" if hit.document_id != "both" else "guides/both#0" for hit in whole.hits
        ]

    @pytest.mark.usefixtures("stocked")
    async def test_past_the_last_page_there_is_said_to_be_nothing(self, agent: Agent) -> None:
        first = await agent.ask("search_documents", query="lamp", limit=1)
        _, _, digest = first["next_cursor"].partition("-")

        result = await agent.call("search_documents", query="lamp", cursor=f"500-{digest}")

        assert result.structured_content["hits"] == []
        assert text_of(result).startswith("No more passages for 'lamp'")

    @pytest.mark.parametrize(
        ("conditions", "found"),
        [
            ({"year": 2023}, ["ops-12"]),
            ({"year": {"gt": 2023}}, ["farm"]),
            ({"year": {"gte": 2023, "lt": 2024}}, ["ops-12"]),
            ({"year": {"$lte": 2023}}, ["ops-12"]),
            ({"year": {"in": [2023, 2024]}}, ["farm", "ops-12"]),
            ({"year": {"ne": 2023}}, ["both", "farm"]),
            ({"tags": {"contains": "ops"}}, ["ops-12"]),
            ({"year": 2024, "done": True}, ["farm"]),
        ],
    )
    async def test_filters_mean_what_they_say(
        self, stocked: RunningRetrieval, conditions: dict[str, Any], found: list[str]
    ) -> None:
        async with agent_at(stocked.url) as agent:
            answer = await agent.ask("search_documents", query="anything", collection="guides", filter=conditions)

        assert sorted(hit["uri"].removeprefix("doc://guides/") for hit in answer["hits"]) == found

    @pytest.mark.parametrize(
        ("conditions", "advice"),
        [
            ({"yeer": 2023}, "filter.yeer: no document in guides has this field. Fields: done (boolean), "),
            ({"year": {"greater": 1}}, "filter.year: there is no operator 'greater'; the operators are eq, ne, in, gt"),
            ({"year": {}}, "filter.year: give a value or an operator: eq, ne"),
            ({"year": [2023]}, 'filter.year: for one of several values write {"in": [...]}'),
            ({"$or": [{"year": 1}]}, "filter.$or: name a field here"),
            ({"year": "2023"}, "filter.year: holds number, so eq text '2023' never fits"),
            ({"year": {"gt": "2023"}}, "filter.year: holds number, so gt text '2023' never fits"),
            ({"year": {"in": [2023, "x"]}}, "filter.year: holds number, so in text 'x' never fits"),
            ({"year": {"in": 2023}}, "filter.year.in: must be a list of values"),
            ({"year": {"gt": True}}, "filter.year.gt: must be text or a number"),
            (
                {"year": {"eq": [1]}},
                "filter.year.eq: a list is not compared as a whole; use contains for an element, in for",
            ),
            ({"year": {"eq": {"a": 1}}}, "filter.year.eq: "),
            ({"a": {"b": 1}}, "for a field inside another write 'a.b'"),
            ({"tags": "ops"}, "filter.tags: holds list of text; ask with {'contains': value}"),
            ({"tags": {"contains": 3}}, "filter.tags: holds list of text, so contains number 3 never fits"),
        ],
    )
    async def test_filters_that_cannot_match_are_refused_with_what_can(
        self, stocked: RunningRetrieval, conditions: dict[str, Any], advice: str
    ) -> None:
        async with agent_at(stocked.url) as agent:
            text = await agent.refused("search_documents", query="a", collection="guides", filter=conditions)

        assert advice in text

    @pytest.mark.usefixtures("stocked")
    async def test_an_empty_answer_counts_what_is_outside_and_gives_none_of_it(self, agent: Agent) -> None:
        result = await agent.call(
            "search_documents", query="bees", collection="guides", mode="keyword", filter={"year": {"lt": 2024}}
        )

        assert result.structured_content == {
            "hits": [],
            "more": False,
            "hint": "1 without the filter; 1 with mode='hybrid', which also finds other words for it.",
        }
        assert text_of(result) == (
            'No passages for \'bees\' in guides (filter {"year":{"lt":2024}}, keyword). '
            "1 without the filter; 1 with mode='hybrid', which also finds other words for it."
        )

    @pytest.mark.usefixtures("stocked")
    async def test_a_collection_that_is_not_there_is_answered_with_those_that_are(self, agent: Agent) -> None:
        text = await agent.refused("search_documents", query="a", collection="guide")

        assert text == "No collection named 'guide'. Collections: guides, tickets."

    async def test_without_any_collection_it_says_how_to_begin(self, agent: Agent) -> None:
        assert "add_documents makes one" in await agent.told("search_documents", query="a")
        assert (await agent.ask("list_collections")) == {"collections": [], "hint": "add_documents makes a collection."}

    @pytest.mark.usefixtures("stocked")
    async def test_metadata_comes_when_asked_for(self, agent: Agent) -> None:
        concise = await agent.ask("search_documents", query="rotated keys", limit=1)
        detailed = await agent.call("search_documents", query="rotated keys", limit=1, detail="detailed")

        assert "metadata" not in concise["hits"][0]
        assert detailed.structured_content["hits"][0]["metadata"] == {"year": 2023, "tags": ["ops", "keys"]}
        assert 'metadata: {"year":2023,"tags":["ops","keys"]}' in text_of(detailed)


class TestNames:
    @pytest.mark.usefixtures("stocked")
    async def test_every_hit_can_be_read_by_its_id(self, agent: Agent) -> None:
        found = await agent.ask("search_documents", query="the lamp and an id with a number sign", limit=50)

        assert sorted(hits_of(found)) == ["farm#0", "guides/both#0", "ops-12#0", "t#7#0", "tickets/both#0"]
        for hit in found["hits"]:
            read = await agent.ask("get_document", ids=[hit["id"]])
            (document,) = read["documents"]
            assert document["uri"] == hit["uri"]
            assert document["text"].startswith(hit["text"])

    @pytest.mark.usefixtures("stocked")
    async def test_an_id_in_two_collections_is_asked_about(self, agent: Agent) -> None:
        assert await agent.refused("get_document", id="both") == (
            "ids: 'both' is in 2 collections; say which: guides/both, tickets/both"
        )
        assert (await agent.ask("get_document", id="doc://tickets/both"))["documents"][0]["id"] == "tickets/both"


class TestGetDocument:
    @pytest.mark.usefixtures("running")
    async def test_a_long_document_is_read_on_to_its_end(self, agent: Agent) -> None:
        text = " ".join(f"Line {number} of the tale." for number in range(600))
        await agent.ask("add_documents", documents=[{"id": "tale", "title": "Tale", "text": text}])

        read, start = "", 0
        for _ in range(20):
            result = await agent.call("get_document", ids=["tale"], start=start, max_tokens=1000)
            (document,) = result.structured_content["documents"]
            assert estimate_tokens(text_of(result)) <= 1000
            assert document["start"] == start
            assert document["length"] == len(text)
            assert document["text"] == text[document["start"] : document["end"]]
            read += document["text"]
            if "next_start" not in document:
                break
            start = document["next_start"]
            assert f'get_document(ids=["tale"], start={start})' in text_of(result)

        assert read == text

    async def test_a_passage_begins_where_the_hit_does(self, running: RunningRetrieval, agent: Agent) -> None:
        await running.client.put_collection("long", CollectionSpec(chunking=Chunking(max_tokens=32)))
        text = "\n\n".join(
            f"# Part {number}\n\nOn animal number {number} and its {number} legs." for number in range(30)
        )
        await agent.ask("add_documents", documents=[{"id": "zoo", "text": text}])

        found = await agent.ask("search_documents", query="animal number 17", mode="keyword", limit=1, max_tokens=200)
        (document,) = (await agent.ask("get_document", ids=hits_of(found)))["documents"]

        assert found["hits"][0]["id"] == f"zoo#{document['start']}"
        assert document["start"] > 0
        assert document["text"] == text[document["start"] :]

    @pytest.mark.usefixtures("stocked")
    async def test_what_is_missing_is_named_and_the_rest_is_given(self, agent: Agent) -> None:
        result = await agent.call("get_document", ids=["ops-12", "none", "ops-12", "guides/none", "ops-12#900"])

        facts = result.structured_content
        assert [(each["id"], each["start"], each["text"]) for each in facts["documents"]] == [
            ("ops-12", 0, KEYS),
            ("ops-12", len(KEYS), ""),
        ]
        assert facts["missing"] == ["none", "guides/none"]
        assert "Not found: none, guides/none." in text_of(result)


class TestListCollections:
    @pytest.mark.usefixtures("stocked")
    async def test_it_tells_what_there_is_and_what_to_filter_by(self, agent: Agent) -> None:
        result = await agent.call("list_collections")

        assert result.structured_content == {
            "collections": [
                {
                    "name": "guides",
                    "documents": 3,
                    "description": "All guides",
                    "filter_fields": {"done": "boolean", "tags": "list of text", "year": "number"},
                },
                {"name": "tickets", "documents": 2, "description": "All tickets", "filter_fields": {"year": "text"}},
            ]
        }
        assert text_of(result) == (
            "2 collections\n"
            "- guides: 3 documents. All guides. Filter by done (boolean), tags (list of text), year (number)\n"
            "- tickets: 2 documents. All tickets. Filter by year (text)"
        )

    async def test_of_very_many_it_tells_some_and_says_so(self, running: RunningRetrieval, agent: Agent) -> None:
        for number in range(60):
            await running.client.put_collection(f"c{number:02}", CollectionSpec(description="long " * 100))

        result = await agent.call("list_collections")
        refused = await agent.refused("search_documents", query="a", collection="none")

        facts = result.structured_content
        shown = len(facts["collections"])
        assert 20 < shown < 60
        assert (
            facts["hint"]
            == f"There are more collections than these {shown}; a search without a collection looks in all of them."
        )
        assert facts["hint"] in text_of(result)
        assert estimate_tokens(text_of(result)) < 4100
        assert refused.endswith("c18, c19, and more (list_collections).")


class TestAddDocuments:
    async def test_what_is_added_is_searchable_and_never_overwritten(
        self, running: RunningRetrieval, agent: Agent
    ) -> None:
        first = await agent.ask(
            "add_documents", documents=[{"id": "a", "text": KEYS}, {"title": "Of bees", "text": BEES}]
        )
        found = await agent.ask("search_documents", query="rotated keys", mode="keyword")
        again = await agent.call(
            "add_documents", documents=[{"id": "a", "text": "changed"}, {"title": "Of bees", "text": BEES}]
        )

        bees = first["added"][1]
        assert bees.startswith("of-bees-")
        assert first == {"collection": "documents", "added": ["a", bees], "skipped": [], "searchable": True}
        assert hits_of(found) == ["a#0"]
        assert again.structured_content == {
            "collection": "documents",
            "added": [],
            "skipped": ["a", bees],
            "searchable": True,
            "hint": "What is there is never overwritten; to replace it, delete it first.",
        }
        assert f"Skipped, already there: a, {bees}." in text_of(again)
        assert (await running.client.document("documents", "a")).text == KEYS

    async def test_the_same_document_without_an_id_is_stored_once(self, agent: Agent) -> None:
        answers = [await agent.ask("add_documents", documents=[{"text": BEES}, {"text": BEES}]) for _ in range(2)]

        assert answers[0]["added"] == answers[1]["skipped"]
        assert len(answers[0]["added"]) == 1

    async def test_without_a_collection_it_goes_to_the_only_one(self, running: RunningRetrieval, agent: Agent) -> None:
        await running.client.put_collection("only")
        only = await agent.ask("add_documents", documents=[{"text": BEES}])
        made = await agent.ask("add_documents", documents={"text": KEYS}, collection="other")
        third = await agent.ask("add_documents", documents=[{"text": KEYS}])

        assert [answer["collection"] for answer in (only, made, third)] == ["only", "other", "documents"]
        assert made["hint"] == "The collection 'other' is new. Collections: only, other."

    @pytest.mark.usefixtures("running")
    async def test_an_agent_that_asks_hears_how_far_it_is(self, agent: Agent) -> None:
        heard: list[tuple[float, float | None, str | None]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))

        documents = [{"id": str(number), "text": f"Number {number}."} for number in range(20)]
        result = await agent.client.call_tool("add_documents", {"documents": documents}, progress_callback=hear)

        assert not result.is_error
        assert heard
        assert heard == sorted(heard)
        assert {total for _, total, _ in heard} == {20}


class TestDeleteDocuments:
    @pytest.mark.usefixtures("stocked")
    async def test_whole_documents_go_and_what_was_not_there_is_named(self, agent: Agent) -> None:
        answer = await agent.call("delete_documents", ids=["ops-12", "t#7", "none", "tickets/both"])

        assert answer.structured_content == {
            "deleted": ["ops-12", "t#7", "tickets/both"],
            "missing": ["none"],
            "hint": "search_documents finds the ids that there are.",
        }
        assert "Not found: none." in text_of(answer)
        left = await agent.ask("search_documents", query="anything", limit=50)
        assert sorted(hits_of(left)) == ["both#0", "farm#0"]

    @pytest.mark.usefixtures("stocked")
    async def test_a_passage_is_not_taken_for_its_document(self, agent: Agent) -> None:
        answer = await agent.ask("delete_documents", id="ops-12#0")

        assert (answer["deleted"], answer["missing"]) == ([], ["ops-12#0"])
        assert answer["hint"] == "ops-12#0 is a passage; whole documents are deleted: ops-12."

    async def test_in_a_collection_only_what_is_there_goes(self, stocked: RunningRetrieval, agent: Agent) -> None:
        answer = await agent.ask("delete_documents", ids=["both", "farm"], collection="tickets")

        assert (answer["deleted"], answer["missing"]) == (["both"], ["farm"])
        assert (await stocked.client.document("guides", "both")).id == "both"
        assert "No collection named 'x'" in await agent.refused("delete_documents", ids=["a"], collection="x")


async def test_a_host_may_have_it_read_only(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, mcp_read_only=True) as running, agent_at(running.url) as agent:
        assert await agent.tools() == READING
        with pytest.raises(MCPError, match="unknown tool"):
            await agent.call("add_documents", documents=[{"text": BEES}])
