"""A job's progress as server-sent events, over a real server."""

import asyncio
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientTimeout

from diptych import RetrievalClient
from shared.errors import InvalidFields, NotFound, Overloaded, ServiceError
from shared.retrieval_messages import JobEvent
from shared.streaming import EventReader, Received
from shared.wire import JSON, decode
from tests.harness import WAIT_S, RunningRetrieval, make_key, raw_session, running_retrieval, until
from tests.retrieval.test_batcher import GatedEmbedder, batches
from tests.retrieval.test_jobs import FailingEmbedder


async def listen(running: RunningRetrieval, job_id: str, **headers: str) -> list[Received]:
    """All of a stream, as a browser would read it."""
    reader, events = EventReader(), list[Received]()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        raw_session(running.url) as session,
        session.get(f"/v1/jobs/{job_id}/events", headers=sent, timeout=ClientTimeout(total=WAIT_S)) as response,
    ):
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["X-Request-Id"]
        async for part in response.content.iter_any():
            events += reader.feed(part)
    return events


async def test_events_come_in_order_and_end_with_the_job(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, embed_batch_tokens_max=64) as running:
        documents = [{"id": str(number), "text": f"number{number} " * 20} for number in range(6)]
        answer = await running.client.ingest("docs", documents, wait=False)
        listening = asyncio.create_task(listen(running, answer.job.id))
        await batches(embedder, 1)
        embedder.let(100)

        events = await asyncio.wait_for(listening, WAIT_S)

    names, ids = [event.name for event in events], [int(event.id) for event in events]
    assert names == ["progress"] * (len(names) - 1) + ["done"]
    assert len(names) > 1
    assert ids == sorted(ids)
    messages = [decode(event.data.encode(), JSON, JobEvent) for event in events]
    assert [message.kind for message in messages] == names
    jobs = [message.job for message in messages if message.job]
    assert [job.done for job in jobs] == sorted(job.done for job in jobs)
    assert (jobs[-1].status, jobs[-1].created, jobs[-1].chunks) == ("succeeded", 6, 6)


async def test_a_listener_that_comes_back_hears_the_failures_that_it_missed_and_no_other(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, embedder=FailingEmbedder(100), ingest_attempts_max=1) as running:
        documents = [{"id": str(number), "text": f"broken {number}"} for number in range(4)]
        answer = await running.client.ingest("docs", documents)

        first = await listen(running, answer.job.id)
        failed = [event for event in first if event.name == "item_failed"]
        again = await listen(running, answer.job.id, Last_Event_ID=failed[1].id)

    assert [event.name for event in first] == ["item_failed"] * 4 + ["done"]
    items = [decode(event.data.encode(), JSON, JobEvent).item for event in failed]
    assert {item.id for item in items if item} == {"0", "1", "2", "3"}
    assert again == first[2:]


async def test_the_client_follows_a_job_across_a_restart(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    heard: list[JobEvent] = []

    async def follow(client: RetrievalClient, job_id: str) -> None:
        async with aclosing(client.job_events(job_id)) as events:
            async for event in events:
                heard.append(event)  # noqa: PERF401 - what was heard before a failure counts

    async with running_retrieval(tmp_path, embedder=embedder, embed_batch_tokens_max=64) as running:
        port = int(running.url.rpartition(":")[2])
        client = RetrievalClient(running.url, timeout_s=WAIT_S)
        documents = [{"id": str(number), "text": f"number{number} " * 20} for number in range(6)]
        answer = await running.client.ingest("docs", documents, wait=False)
        following = asyncio.create_task(follow(client, answer.job.id))

        async def is_heard() -> bool:
            return bool(heard)

        await until(is_heard)
        embedder.let(100)
    async with client, running_retrieval(tmp_path, at_port=port):
        await asyncio.wait_for(following, 2 * WAIT_S)

    assert [event.kind for event in heard][-1] == "done"
    assert [event.kind for event in heard].count("done") == 1


async def test_a_stream_is_guarded_as_every_route_is(tmp_path: Path) -> None:
    owner, stranger = await make_key(tmp_path, "owner"), await make_key(tmp_path, "stranger")
    writer = await make_key(tmp_path, "owner", "retrieval:write")
    async with running_retrieval(tmp_path, key=owner) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "a"}])
        for key, status in ((stranger, 404), (writer, 403), ("wrong", 401)):
            async with RetrievalClient(running.url, api_key=key, timeout_s=WAIT_S) as client:
                with pytest.raises(ServiceError) as caught:
                    async with aclosing(client.job_events(answer.job.id)) as events:
                        await anext(events)
                assert caught.value.status == status
        with pytest.raises(NotFound):
            async with aclosing(running.client.job_events("missing")) as events:
                await anext(events)


async def test_an_id_that_no_event_had_is_refused(retrieval: RunningRetrieval) -> None:
    answer = await retrieval.client.ingest("docs", [{"id": "a", "text": "a"}])
    with pytest.raises(InvalidFields, match="Last-Event-ID"):
        await retrieval.service.job_events("default", answer.job.id, "x")


async def test_many_listeners_share_one_look_at_the_job_and_leave_no_trace(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "a"}], wait=False)
        listeners = [asyncio.create_task(listen(running, answer.job.id)) for _ in range(20)]
        await batches(embedder, 1)

        await until(partial(has_streams, running, 20))
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert names.count(f"report-{answer.job.id}") == 1
        embedder.let(100)
        streams = await asyncio.wait_for(asyncio.gather(*listeners), WAIT_S)

        assert all([event.name for event in events][-1] == "done" for events in streams)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("report-")]


async def test_streams_are_bounded_and_do_not_count_as_requests(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    limits: dict[str, Any] = {"streams_in_flight_max": 2, "requests_in_flight_max": 1}
    async with running_retrieval(tmp_path, embedder=embedder, **limits) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "a"}], wait=False)
        listeners = []
        for count in (1, 2):
            listeners.append(asyncio.create_task(listen(running, answer.job.id)))
            await until(partial(has_streams, running, count))
        async with RetrievalClient(running.url, timeout_s=WAIT_S, retries=False) as client:
            with pytest.raises(Overloaded, match="streams_in_flight_max"):
                async with aclosing(client.job_events(answer.job.id)) as events:
                    await anext(events)
        assert (await running.client.job(answer.job.id)).status == "running"
        embedder.let(100)
        await asyncio.wait_for(asyncio.gather(*listeners), WAIT_S)


async def test_a_stop_ends_streams_at_once(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "a"}], wait=False)
        listening = asyncio.create_task(listen(running, answer.job.id))
        await until(partial(has_streams, running, 1))

        running.server.stop.set()
        events = await asyncio.wait_for(listening, WAIT_S)
        embedder.let(100)

    # An orderly end without `done`: the listener comes back for the rest.
    assert "done" not in [event.name for event in events]
    assert running.server.streams_in_flight == running.server.in_flight == 0


async def has_streams(running: RunningRetrieval, count: int) -> bool:
    return running.server.streams_in_flight == count
