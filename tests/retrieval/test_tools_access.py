"""Who may do what with retrieval's tools: a key reaches its own tenant, and what its scopes allow. And who goes away."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp.types import ResourceTemplateReference

from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from shared.vectors import Float32Array
from tests.agents import ERAS, Era, agent_at, text_of
from tests.harness import WAIT_S, make_key, raw_session, running_retrieval, until
from tests.retrieval.test_batcher import GatedEmbedder

SECRET = "The launch codes are kept in the blue cabinet."


@pytest.mark.parametrize("era", ERAS)
async def test_nothing_of_another_tenant_is_seen_in_any_way(tmp_path: Path, era: Era) -> None:
    theirs, ours = await make_key(tmp_path, "theirs"), await make_key(tmp_path, "ours")
    async with running_retrieval(tmp_path, key=theirs) as running:
        await running.client.ingest("vault", [{"id": "codes", "text": SECRET, "metadata": {"level": 9}}])
        async with (
            agent_at(running.url, key=theirs, era=era) as owner,
            agent_at(running.url, key=ours, era=era) as other,
        ):
            await other.ask("add_documents", documents=[{"id": "own", "text": "Bees keep honey."}], collection="hive")

            assert [each["id"] for each in (await owner.ask("search_documents", query="launch codes"))["hits"]] == [
                "codes#0"
            ]
            told = [
                await other.told("search_documents", query="launch codes", limit=50),
                await other.told("search_documents", query="launch codes", mode="keyword"),
                await other.refused("search_documents", query="launch codes", collection="vault"),
                await other.refused("search_documents", query="launch codes", filter={"level": 9}),
                await other.told("get_document", ids=["vault/codes", "doc://vault/codes"]),
                await other.told("list_collections"),
                await other.told("delete_documents", ids=["codes", "vault/codes", "codes#0"]),
                await other.refused("delete_documents", ids=["codes"], collection="vault"),
            ]
            shown = " ".join(told).replace("'vault'", "").replace("vault/codes", "").replace("launch codes", "")
            for word in ("cabinet", "vault", "level ("):
                assert word not in shown
            for uri in ("doc://vault/codes", "collection://vault"):
                with pytest.raises(MCPError, match="there is no"):
                    await other.read(uri)
            assert [each.name for each in (await other.client.list_resources()).resources] == ["hive"]
            reference = ResourceTemplateReference(uri="doc://{collection}/{document_id}")
            for name, known in (("collection", {}), ("document_id", {"collection": "vault"})):
                suggested = await other.client.complete(reference, {"name": name, "value": ""}, known)
                assert set(suggested.completion.values) <= {"hive"}

            # The same id in both is no conflict, and none is told of the other's.
            assert (await other.ask("add_documents", documents=[{"id": "codes", "text": "Ours."}]))["added"] == [
                "codes"
            ]
            assert (await other.ask("get_document", id="codes"))["documents"][0]["text"] == "Ours."
            assert (await owner.ask("get_document", id="codes"))["documents"][0]["text"] == SECRET


@pytest.mark.parametrize("path", ["/mcp", "/mcp/openai"])
async def test_a_key_sees_the_tools_of_its_scopes(tmp_path: Path, path: str) -> None:
    reading = await make_key(tmp_path, "ours", "retrieval:read")
    nothing = await make_key(tmp_path, "ours", "memory:read")
    async with running_retrieval(tmp_path, key=reading) as running:
        async with agent_at(running.url, key=reading, path=path) as agent:
            tools = await agent.tools()
            assert tools == (
                ["search", "fetch"] if path != "/mcp" else ["search_documents", "get_document", "list_collections"]
            )
            if path == "/mcp":
                refused = await agent.refused("add_documents", documents=[{"text": "a"}])
                assert "lacks the scope 'retrieval:write'" in refused
        async with agent_at(running.url, key=nothing, path=path) as agent:
            assert await agent.tools() == []


class SlowQueries(HashEmbedder):
    """Thinks about a query until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        if kind == "query" and "slow" in texts[0]:
            self.begun.set()
            assert self.go_on.wait(WAIT_S)
        return super().embed(texts, kind)


async def _asked_by_sdk(url: str) -> None:
    async with agent_at(url) as agent:
        await agent.call("search_documents", query="slow bees")


async def _asked_by_older_client(url: str) -> None:
    """Of the revisions with a handshake: there a call is given up by going away."""
    call = {"name": "search_documents", "arguments": {"query": "slow bees"}}
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    async with (
        raw_session(url) as session,
        session.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}, headers=headers
        ) as response,
    ):
        await response.read()


@pytest.mark.parametrize("ask", [_asked_by_sdk, _asked_by_older_client])
async def test_an_agent_that_gives_up_waiting_ends_its_search_and_no_other(
    tmp_path: Path, ask: Callable[[str], Coroutine[Any, Any, None]]
) -> None:
    embedder = SlowQueries()
    async with running_retrieval(tmp_path, embedder=embedder) as running, agent_at(running.url) as agent:
        await agent.ask("add_documents", documents=[{"id": "bees", "text": "Bees keep honey."}])
        searching = asyncio.create_task(ask(running.url))
        assert await asyncio.to_thread(embedder.begun.wait, WAIT_S)

        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching

        # The model is still busy, and the search is over all the same.
        counted = partial(
            running.server.metrics.registry.get_sample_value,
            "diptych_mcp_calls_total",
            {"tool": "search_documents", "status": "cancelled"},
        )

        async def is_counted() -> bool:
            return counted() == 1

        await until(is_counted)
        embedder.go_on.set()
        assert (await agent.ask("search_documents", query="bees"))["hits"]


async def test_what_was_accepted_is_stored_also_when_nobody_waits(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    class SlowDocuments(HashEmbedder):
        def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
            if kind == "document":
                begun.set()
                assert go_on.wait(WAIT_S)
            return super().embed(texts, kind)

    documents = [{"id": "bees", "text": "Bees keep honey."}]
    async with running_retrieval(tmp_path, embedder=SlowDocuments()) as running, agent_at(running.url) as agent:
        adding = asyncio.create_task(agent.call("add_documents", documents=documents))
        assert await asyncio.to_thread(begun.wait, WAIT_S)
        adding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adding
        go_on.set()

        again = await agent.ask("add_documents", documents=documents)

        assert again["searchable"] is True
        assert again["skipped"] == ["bees"]


async def test_what_takes_longer_than_an_answer_may_goes_on_by_itself(tmp_path: Path) -> None:
    go_on = threading.Event()

    class SlowDocuments(HashEmbedder):
        def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
            if kind == "document":
                assert go_on.wait(WAIT_S)
            return super().embed(texts, kind)

    async with (
        running_retrieval(tmp_path, embedder=SlowDocuments(), ingest_wait_timeout_s=0.2) as running,
        agent_at(running.url) as agent,
    ):
        answer = await agent.ask("add_documents", documents=[{"id": "bees", "text": "Bees keep honey."}])
        go_on.set()

        assert (answer["searchable"], answer["added"]) == (False, [])
        assert answer["hint"].startswith("Indexing goes on by itself")

        async def is_found() -> bool:
            return bool((await agent.ask("search_documents", query="bees"))["hits"])

        await until(is_found)


async def test_what_is_deleted_while_it_is_indexed_does_not_come_back(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with (
        running_retrieval(tmp_path, embedder=embedder, ingest_wait_timeout_s=0.2) as running,
        agent_at(running.url) as agent,
    ):
        await agent.ask("add_documents", documents=[{"id": "bees", "text": "Bees keep honey."}])

        deleted = await agent.ask("delete_documents", ids=["bees"])
        embedder.let(1)
        (job,) = (await running.client.jobs()).items
        await running.service.ingested("default", job.id)

        assert deleted["missing"] == ["bees"]
        assert (await agent.ask("get_document", ids=["bees"]))["missing"] == ["bees"]


async def test_a_document_that_fails_says_why_and_the_others_are_added(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    embedder.let(10)
    async with (
        running_retrieval(tmp_path, embedder=embedder, ingest_attempts_max=1) as running,
        agent_at(running.url) as agent,
    ):
        result = await agent.call(
            "add_documents", documents=[{"id": "good", "text": "Bees."}, {"id": "bad", "text": "poison"}]
        )

        facts = result.structured_content
        assert facts["added"] == ["good"]
        assert [each["id"] for each in facts["failed"]] == ["bad"]
        assert "the model broke" in facts["failed"][0]["error"]
        assert f"Failed: bad: {facts['failed'][0]['error']}" in text_of(result)


async def test_two_agents_that_add_the_same_id_at_once_overwrite_nothing(tmp_path: Path) -> None:
    async with (
        running_retrieval(tmp_path) as running,
        agent_at(running.url) as first,
        agent_at(running.url) as second,
    ):
        await running.client.put_collection("documents")
        for number in range(5):
            answers = await asyncio.gather(
                *(
                    agent.ask("add_documents", documents=[{"id": f"d{number}", "text": f"Written by {name}."}])
                    for name, agent in (("first", first), ("second", second))
                )
            )

            (winner,) = [name for name, answer in zip(("first", "second"), answers, strict=True) if answer["added"]]
            assert sum(len(answer["skipped"]) for answer in answers) == 1
            assert (await running.client.document("documents", f"d{number}")).text == f"Written by {winner}."
