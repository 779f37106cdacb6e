"""A reindex from its beginning to its end, whichever that is: ready, cancelled, failed, stopped, discarded, refused."""

from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from diptych import RetrievalClient
from retrieval.models.hash_embedder import HashEmbedder
from retrieval.reindexing.overlap import overlap_at_10
from shared.errors import Conflict, InvalidFields, NotFound
from shared.retrieval_messages import Chunking, CollectionSpec, Reindex
from tests.harness import WAIT_S, make_key, running_retrieval, until
from tests.retrieval.models_beside import (
    GatedModel,
    assert_clean,
    dense,
    documents,
    ended,
    is_waiting,
    new_model,
    reindexed,
    rounded,
    standing,
    vectors_by_model,
)


async def test_the_same_model_by_another_name_overlaps_wholly_and_serves_afterwards(tmp_path: Path) -> None:
    twin = HashEmbedder(name="twin")
    async with running_retrieval(tmp_path, more=[twin]) as running:
        await running.client.ingest("docs", documents(150))
        before = (await dense(running, "number7 alpha"))[1]

        job = await reindexed(running, "twin")

        collection = await running.client.collection("docs")
        assert (job.total, job.done, job.chunks, job.failed) == (150, 150, 150, 0)
        assert job.reindex is not None
        assert (job.reindex.model, job.reindex.flip, job.reindex.overlap_at_10) == ("twin", True, 1.0)
        assert collection.model == "twin"
        assert collection.reindex == Reindex(model="hash", status="ready", done=150, total=150, overlap_at_10=1.0)
        assert Counter(twin.embedded) == Counter(running.embedder.embedded)
        model, after = await dense(running, "number7 alpha")
        assert (model, rounded(after)) == ("twin", rounded(before))
        await assert_clean(running)


async def test_another_model_overlaps_in_part(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[HashEmbedder(name="narrow", dimensions=4)]) as running:
        await running.client.ingest("docs", documents(150))
        job = await reindexed(running, "narrow")
        assert job.reindex is not None
        assert job.reindex.overlap_at_10 is not None
        assert 0 < job.reindex.overlap_at_10 < 0.6


async def test_an_empty_collection_changes_its_model_too(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        await running.client.put_collection("docs")
        job = await reindexed(running)
        assert job.reindex is not None
        assert (job.total, job.reindex.overlap_at_10) == (0, None)
        await running.client.ingest("docs", documents(3))
        assert (await dense(running, "number1"))[1][0].document_id == "1"
        await assert_clean(running)


async def test_a_reindex_stopped_in_the_middle_goes_on_at_the_next_start(tmp_path: Path) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new], embed_batch_tokens_max=64) as running:
        await running.client.ingest("docs", documents(150))
        job = await running.client.reindex("docs", "new")

        async def is_under_way() -> bool:
            new.let(1)
            return (await running.client.job(job.id)).done >= 64

        await until(is_under_way)
        new.is_broken = True
        new.let()

    again = new_model()
    async with running_retrieval(tmp_path, more=[again], embed_batch_tokens_max=64) as running:
        finished = await ended(running.client, job)
        assert (finished.status, finished.done, finished.total) == ("succeeded", 150, 150)
        assert (await running.client.collection("docs")).model == "new"
        assert len(again.embedded) <= 150 - 64
        await assert_clean(running)


async def test_a_cancelled_reindex_costs_nothing_more_and_goes_on_when_asked_again(tmp_path: Path) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new]) as running:
        client = running.client
        await client.ingest("docs", documents(20))
        job = await client.reindex("docs", "new")
        await until(is_waiting(new))
        assert (await client.cancel_job(job.id)).status == "cancelled"
        assert (await standing(running)).status == "cancelled"
        # Writes need no vectors of it any more.
        assert (await client.ingest("docs", documents(5, start=20))).job.status == "succeeded"
        with pytest.raises(Conflict, match="is not ready: cancelled"):
            await client.flip("docs")
        await assert_clean(running)

        new.let()
        await reindexed(running)
        assert await vectors_by_model(running) == {"hash": 25, "new": 25}
        # An old job that is cancelled again does not touch the new state.
        await client.cancel_job(job.id)
        assert (await standing(running)).status == "ready"
        await assert_clean(running)


async def test_a_model_that_keeps_failing_ends_the_job_with_the_reason_and_changes_nothing(tmp_path: Path) -> None:
    new = GatedModel()
    new.is_broken = True
    new.let(1000)
    async with running_retrieval(tmp_path, more=[new], ingest_attempts_max=2, ingest_retry_s=0.01) as running:
        client = running.client
        await client.ingest("docs", documents(20))
        job = await ended(client, await client.reindex("docs", "new"))
        assert (job.status, job.reindex and job.reindex.error) == (
            "failed",
            "the model failed: the model broke (given up after attempt 2)",
        )
        failed = await standing(running)
        assert (failed.status, failed.done, failed.error) == ("failed", 0, job.reindex and job.reindex.error)
        assert (await client.ingest("docs", documents(5, start=20))).job.failed == 0
        assert (await dense(running, "number5"))[0] == "hash"

        new.is_broken = False
        await reindexed(running)
        await assert_clean(running)


async def test_asked_twice_there_is_one_job(tmp_path: Path) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new]) as running:
        await running.client.ingest("docs", documents(20))
        first = await running.client.reindex("docs", "new")
        second = await running.client.reindex("docs", "new", flip=False)
        assert first.id == second.id
        new.let()
        await ended(running.client, first)
        assert (await running.client.collection("docs")).model == "hash"
        assert (await standing(running)).status == "ready"


async def test_progress_comes_as_events(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        await running.client.ingest("docs", documents(150))
        job = await running.client.reindex("docs", "new")
        async with aclosing(running.client.job_events(job.id)) as events:
            heard = [event async for event in events]
        assert heard[-1].kind == "done"
        assert heard[-1].job is not None
        assert (heard[-1].job.kind, heard[-1].job.done, heard[-1].job.total) == ("reindex", 150, 150)


@pytest.mark.parametrize("state", ["building", "ready", "flipped"])
async def test_a_discarded_model_leaves_nothing_behind(tmp_path: Path, state: str) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new]) as running:
        client = running.client
        await client.ingest("docs", documents(20))
        job = await client.reindex("docs", "new", flip=state == "flipped")
        if state != "building":
            new.let()
            await ended(client, job)
        serving = "new" if state == "flipped" else "hash"

        collection = await client.discard_reindex("docs")

        assert (collection.model, collection.reindex) == (serving, None)
        assert (await client.job(job.id)).status == ("cancelled" if state == "building" else "succeeded")

        async def are_gone() -> bool:
            return await vectors_by_model(running) == {serving: 20}

        new.let()
        await until(are_gone)
        with pytest.raises(Conflict, match="no model stands beside"):
            await client.flip("docs")
        assert (await client.discard_reindex("docs")).reindex is None
        await client.ingest("docs", documents(5, start=20))
        assert await vectors_by_model(running) == {serving: 25}
        assert (await dense(running, "number21"))[0] == serving
        await assert_clean(running)
        # And it may come back.
        await reindexed(running, "hash" if state == "flipped" else "new")
        await assert_clean(running)


async def test_a_deleted_collection_takes_its_reindex_along(tmp_path: Path) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new]) as running:
        await running.client.ingest("docs", documents(20))
        job = await running.client.reindex("docs", "new")
        await until(is_waiting(new))
        await running.client.delete_collection("docs")
        new.let()
        assert (await ended(running.client, job)).status == "cancelled"
        assert await vectors_by_model(running) == {}
        await assert_clean(running)


async def test_another_tenant_sees_and_changes_nothing(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "one")
    other_key = await make_key(tmp_path, "two")
    async with (
        running_retrieval(tmp_path, key=key, more=[new_model()]) as running,
        RetrievalClient(running.url, api_key=other_key, timeout_s=WAIT_S) as other,
    ):
        await running.client.ingest("docs", documents(5))
        job = await reindexed(running, flip=False)
        with pytest.raises(NotFound):
            await other.reindex("docs", "new")
        with pytest.raises(NotFound):
            await other.flip("docs")
        with pytest.raises(NotFound):
            await other.discard_reindex("docs")
        with pytest.raises(NotFound):
            await other.job(job.id)
        # The same name elsewhere is another collection, with a model of its own.
        await other.ingest("docs", documents(3))
        assert (await other.collection("docs")).reindex is None
        assert (await running.client.flip("docs")).model == "new"
        assert (await other.collection("docs")).model == "hash"


async def test_what_cannot_be_done_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    short = HashEmbedder(name="short", tokens_max=100)
    async with running_retrieval(tmp_path, more=[new_model(), short, HashEmbedder(name="third")]) as running:
        client = running.client
        await client.ingest("docs", documents(5))
        with pytest.raises(InvalidFields, match=r"embeds with 'hash', 'new', 'short', 'third', not with 'unknown'"):
            await client.reindex("docs", "unknown")
        with pytest.raises(InvalidFields, match=r"reads 100 tokens, and chunks of 'docs' have up to 254"):
            await client.reindex("docs", "short")
        with pytest.raises(Conflict, match="served by the model 'hash' already"):
            await client.reindex("docs", "hash")
        with pytest.raises(NotFound):
            await client.reindex("none", "new")
        with pytest.raises(Conflict, match="no model stands beside"):
            await client.flip("docs")
        assert (await client.collection("docs")).reindex is None

        await reindexed(running, flip=False)
        with pytest.raises(Conflict, match="the model 'new' stands beside"):
            await client.reindex("docs", "third")
        with pytest.raises(Conflict, match="reindex it to change to 'third'"):
            await client.put_collection("docs", CollectionSpec(model="third"))

        # A collection of short chunks may take the model that reads less.
        await client.put_collection("docs2", CollectionSpec(chunking=Chunking(max_tokens=80)))
        assert (await client.reindex("docs2", "short")).kind == "reindex"


async def test_a_model_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more_models="missing") as running:
        await running.client.ingest("docs", documents(3))

        with pytest.raises(InvalidFields, match="the model 'missing' could not be loaded"):
            await running.client.reindex("docs", "missing")
        assert (await running.client.collection("docs")).reindex is None


@pytest.mark.parametrize(
    ("answers", "overlap"),
    [
        ([], None),
        ([([], [])], None),
        ([([1, 2], [2, 1])], 1.0),
        ([([1, 2], [3, 4]), ([1], [1])], 0.5),
        ([(list(range(10)), list(range(5, 15)))], 0.5),
        ([([*range(10), 99], [*range(10), 77])], 1.0),
        ([([1, 2, 3, 4], [1])], 0.25),
    ],
)
def test_overlap_is_the_mean_share_of_common_chunks(answers: Any, overlap: float | None) -> None:
    assert overlap_at_10(answers) == overlap
