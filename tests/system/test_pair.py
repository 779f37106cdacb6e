"""The pair as users run it: real processes, the real model, keys, and SIGKILL."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from diptych import MemoryClient, RetrievalClient
from diptych.ports import free_ports
from diptych.supervisor import Supervisor
from shared.errors import Forbidden, Unauthenticated
from shared.retrieval_messages import TERMINAL
from tests.harness import PROCESS_WAIT_S, make_key, running_memory, serving, until

# Starting processes is blocking work of the test, not of the services.
pytestmark = pytest.mark.blocking

DOCUMENTS = [
    {"id": "keys", "text": "Credentials are replaced every ninety days. The old ones stop working a week later."},
    {"id": "cats", "text": "Felines spend most of the day asleep, preferably in a warm and sunny place."},
    {"id": "deploy", "text": "Releases go out on Friday afternoon after the smoke tests have passed."},
]


@asynccontextmanager
async def pair(data_dir: Path) -> AsyncIterator[Supervisor]:
    retrieval_port, memory_port = free_ports(2)
    environment = {"DIPTYCH_DATA_DIR": str(data_dir), "DIPTYCH_LOG_LEVEL": "error"}
    async with Supervisor(
        host="127.0.0.1", retrieval_port=retrieval_port, memory_port=memory_port, environment=environment
    ) as supervisor:
        await supervisor.wait_ready(PROCESS_WAIT_S)
        yield supervisor


def clients(supervisor: Supervisor, key: str | None = None) -> tuple[RetrievalClient, MemoryClient]:
    return RetrievalClient(supervisor.retrieval_url, api_key=key), MemoryClient(supervisor.memory_url, api_key=key)


async def test_the_pair_finds_by_meaning_with_keys_on(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "acme")
    reader = await make_key(tmp_path, "acme", "memory:read")
    async with pair(tmp_path) as supervisor:
        retrieval, memory = clients(supervisor, key)
        async with retrieval, memory:
            await retrieval.ingest("guides", DOCUMENTS)
            for question, expected in (
                ("how often must passwords be rotated?", "keys"),
                ("what do kittens like to do?", "cats"),
                ("when do we ship?", "deploy"),
            ):
                # None of these shares a telling word with its answer.
                assert (await retrieval.search(question, collection="guides")).hits[0].document_id == expected

            turns = [
                {"role": "user", "content": "My sister lives in Lisbon with her two dogs."},
                {"role": "user", "content": "The import job failed because the disk was full."},
            ]
            await memory.append("s", turns, user_id="ada")

            async def by_meaning() -> bool:
                answer = await memory.recall("which pets does my sibling own?", user_id="ada", mode="dense", limit=1)
                return not answer.degraded and [item.text for item in answer.items] == [turns[0]["content"]]

            await until(by_meaning)
            context = await memory.context(
                "when do we ship?", session_id="s", user_id="ada", collections=["guides"], max_tokens=400
            )
            assert {part.kind for part in context.parts} == {"document", "turn"}
            assert not context.degraded
            assert context.tokens <= 400

        # Memory asks retrieval with the caller's own rights: this key may recall, but not read documents.
        _, limited = clients(supervisor, reader)
        async with limited:
            assert (await limited.recall("dogs", user_id="ada")).items
            with pytest.raises(Forbidden, match="retrieval:read"):
                await limited.context("ship", user_id="ada", collections=["guides"])
        _, nobody = clients(supervisor)
        async with nobody:
            with pytest.raises(Unauthenticated):
                await nobody.recall("dogs", user_id="ada")


async def test_nothing_acknowledged_is_lost_when_both_are_killed_in_the_middle(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    remembered: list[str] = []
    async with pair(tmp_path) as supervisor:
        retrieval, memory = clients(supervisor)
        async with retrieval, memory:
            for batch in range(6):
                names = [f"doc{batch}x{number}" for number in range(10)]
                text = "A paragraph long enough to keep the model busy for a moment. " * 8
                documents = [{"id": name, "text": f"{text} unique{name}"} for name in names]
                await retrieval.ingest("docs", documents, wait=False)
                acknowledged += names
                await memory.append("s", [{"role": "user", "content": f"note unique{batch}"}], user_id="u")
                remembered.append(f"note unique{batch}")
            progress = await retrieval.jobs()
            assert any(job.status not in TERMINAL for job in progress.items)
            for pid in supervisor.pids.values():
                os.kill(pid, signal.SIGKILL)

    async with pair(tmp_path) as supervisor:
        retrieval, memory = clients(supervisor)
        async with retrieval, memory:

            async def ended() -> bool:
                return all(job.status in TERMINAL for job in (await retrieval.jobs()).items)

            await until(ended, PROCESS_WAIT_S)
            for name in acknowledged:
                hits = (await retrieval.search(f"unique{name}", mode="lexical", limit=1)).hits
                assert [hit.document_id for hit in hits] == [name]
            assert len((await retrieval.search("paragraph", mode="dense", limit=1000, candidates=1000)).hits) >= 60
            assert [turn.content for turn in (await memory.turns("s")).items] == remembered
            for report in await asyncio.gather(retrieval.check(), memory.check()):
                assert report.findings == []


async def test_a_trace_goes_from_the_caller_through_memory_to_retrieval(tmp_path: Path) -> None:
    """A stand-in for retrieval that only writes down what it was sent."""
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent", ""))
        raise web.HTTPServiceUnavailable

    upstream = web.Application()
    upstream.router.add_route("*", "/{tail:.*}", note)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with serving(upstream) as url, running_memory(tmp_path, retrieval_url=url) as memory:
        await memory.client.append("s", [{"role": "user", "content": "hello"}], user_id="u")
        seen.clear()
        session = memory.client._open_session()
        headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
        async with session.post(
            f"{memory.url}/v1/recall", json={"query": "hello", "user_id": "u"}, headers=headers
        ) as response:
            assert response.status == 200

    # Of the same trace, and a child of memory's own span rather than of the caller's.
    assert [header[:36] for header in seen if header] == [f"00-{trace_id}-"]
    assert all("b7ad6b7169203331" not in header for header in seen)
