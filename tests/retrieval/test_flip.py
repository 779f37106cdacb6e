"""Two models in one collection: searches and writes while one is built, and while they change places."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.indexes.indexes import dense_folder
from retrieval.models.hash_embedder import HashEmbedder
from shared.errors import InvalidFields, SettingsError
from shared.retrieval_messages import CollectionSpec, Mmr, SearchMode, SearchRequest
from shared.vectors import Vector
from tests.harness import running_retrieval, until
from tests.retrieval.models_beside import (
    WORDS,
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


async def test_searches_writes_and_deletes_go_on_and_land_in_both(tmp_path: Path) -> None:
    new = GatedModel()
    async with running_retrieval(tmp_path, more=[new]) as running:
        client = running.client
        await client.ingest("docs", documents(100))
        job = await client.reindex("docs", "new")
        await until(is_waiting(new))

        assert (await dense(running, "number5"))[0] == "hash"
        # Written to while the new model stands beside: a new document, a replaced one, and deleted ones.
        writes = (
            await client.ingest("docs", [{"id": "late", "text": "quite late"}], wait=False),
            await client.ingest("docs", [{"id": "7", "text": "number7 was replaced"}], wait=False),
        )
        await client.delete_documents("docs", ["8", "9"])
        assert not {"8", "9"} & {hit.document_id for hit in (await dense(running, "number8 number9", 100))[1]}
        assert (await standing(running)).status == "building"
        new.let()
        assert (await ended(client, job)).status == "succeeded"
        for write in writes:
            assert (await ended(client, write.job)).failed == 0

        for expected in ("new", "hash"):
            model, hits = await dense(running, "quite late", 200)
            found = {hit.document_id for hit in hits}
            assert (model, hits[0].document_id, len(found)) == (expected, "late", 99)
            assert (await dense(running, "number7 was replaced"))[1][0].text == "number7 was replaced"
            await client.flip("docs")
        assert await vectors_by_model(running) == {"hash": 99, "new": 99}
        assert max(Counter(new.embedded).values()) == 1
        await assert_clean(running)


async def test_a_document_embedded_before_the_model_stood_beside_is_stored_with_both(tmp_path: Path) -> None:
    """Its vectors are made for the models of then, and it is stored under those of now."""
    old, new = GatedModel("old", 64), new_model()
    async with running_retrieval(tmp_path, embedder=old, more=[new]) as running:
        await running.client.put_collection("docs")
        write = await running.client.ingest("docs", [{"id": "slow", "text": "slow one"}], wait=False)
        await until(is_waiting(old))
        await reindexed(running)
        old.let()
        job = await ended(running.client, write.job)
        assert (job.created, job.failed) == (1, 0)
        assert await vectors_by_model(running) == {"old": 1, "new": 1}
        assert len(old.embedded) == 1
        await assert_clean(running)


async def test_every_search_is_wholly_old_or_wholly_new_while_models_change_places(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        await running.client.ingest("docs", documents(150))
        queries = [f"number{number} {WORDS[number % 12]}" for number in range(12)]
        expected = {("hash", query): rounded((await dense(running, query))[1]) for query in queries}
        await reindexed(running)
        expected |= {("new", query): rounded((await dense(running, query))[1]) for query in queries}
        assert len({tuple(hits) for hits in expected.values()}) == 24

        seen: Counter[str] = Counter()
        stop = asyncio.Event()

        async def search(place: int) -> None:
            while not stop.is_set():
                query = queries[place % len(queries)]
                place += 1
                model, hits = await dense(running, query)
                assert rounded(hits) == expected[model, query]
                mixed = await running.client.search(query, collection="docs", limit=5)
                assert len(mixed.hits) == 5
                seen[model] += 1

        async with asyncio.TaskGroup() as group:
            for place in range(4):
                group.create_task(search(place))
            for turn in range(20):
                assert (await running.client.flip("docs")).model == ("hash", "new")[turn % 2]
            stop.set()
        assert seen.keys() == {"hash", "new"}


async def test_without_flip_it_waits_to_be_flipped_and_can_be_rolled_back(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        client = running.client
        await client.ingest("docs", documents(20))
        await reindexed(running, flip=False)
        assert (await client.collection("docs")).model == "hash"
        ready = await standing(running)
        assert (ready.model, ready.status, ready.done, ready.total) == ("new", "ready", 20, 20)

        flipped = await client.flip("docs")
        assert (flipped.model, flipped.reindex and flipped.reindex.model) == ("new", "hash")
        await client.ingest("docs", [{"id": "after", "text": "after the flip"}])
        await client.delete_document("docs", "3")
        assert (await dense(running, "after the flip"))[1][0].document_id == "after"

        rolled_back = await client.flip("docs")
        assert rolled_back.model == "hash"
        model, hits = await dense(running, "after the flip", 100)
        assert (model, hits[0].document_id, len(hits)) == ("hash", "after", 20)
        await assert_clean(running)


async def test_a_ready_model_is_flipped_by_reindexing_again_without_embedding(tmp_path: Path) -> None:
    new = new_model()
    async with running_retrieval(tmp_path, more=[new]) as running:
        await running.client.ingest("docs", documents(20))
        await reindexed(running, flip=False)
        await reindexed(running)
        assert (await running.client.collection("docs")).model == "new"
        assert len(new.embedded) == 20


async def test_both_stay_after_a_restart_with_their_snapshots(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dense_exact_chunks_max": 50}
    async with running_retrieval(tmp_path, more=[new_model()], **settings) as running:
        await running.client.ingest("docs", documents(200))
        await reindexed(running)
        row = await running.service.store.collection("default", "docs")
        legs = (await running.service.projections.of(row)).legs
        assert {model: leg.snapshot_sequence is not None for model, leg in legs.items()} == {"hash": True, "new": True}

    new = new_model()
    async with running_retrieval(tmp_path, more=[new], **settings) as running:
        model, hits = await dense(running, documents(6)[5]["text"])
        assert (model, hits[0].document_id) == ("new", "5")
        await running.client.flip("docs")
        model, hits = await dense(running, documents(6)[5]["text"])
        assert (model, hits[0].document_id) == ("hash", "5")
        assert (running.embedder.embedded, new.embedded) == ([], [])
        await assert_clean(running)
        await running.client.discard_reindex("docs")
        assert not await asyncio.to_thread(dense_folder(running.settings.directory, row.id, "new").exists)


async def test_searches_survive_a_model_that_is_let_go_of_under_them(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        await running.client.ingest("docs", documents(30))
        stop = asyncio.Event()

        async def search() -> None:
            while not stop.is_set():
                assert len((await running.client.search("number5 zeta", collection="docs", limit=5)).hits) == 5

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(search())
            for _ in range(3):
                for model in ("new", "hash"):
                    await reindexed(running, model)
                    await running.client.discard_reindex("docs")
            stop.set()
        await assert_clean(running)


async def test_a_start_without_a_model_in_use_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        await running.client.ingest("docs", documents(3))
        await reindexed(running)

    with pytest.raises(SettingsError, match="--model hash --more-models new to serve both"):
        async with running_retrieval(tmp_path):
            pass
    # The old one still stands beside.
    with pytest.raises(SettingsError, match="--model new --more-models hash"):
        async with running_retrieval(tmp_path, embedder=new_model()):
            pass
    async with running_retrieval(tmp_path, embedder=new_model(), more=[HashEmbedder()]) as running:
        await running.client.discard_reindex("docs")
    async with running_retrieval(tmp_path, embedder=new_model()) as running:
        assert (await dense(running, "number1"))[0] == "new"
        await assert_clean(running)


async def test_collections_of_several_models_are_searched_together(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        client = running.client
        await client.ingest("docs", documents(20))
        await client.put_collection("news", CollectionSpec(model="new"))
        await client.ingest("news", documents(20, start=20))

        modes: tuple[SearchMode, ...] = ("hybrid", "dense", "lexical")
        for mode in modes:
            for number, collection in ((5, "docs"), (25, "news")):
                answer = await client.search(documents(40)[number]["text"], mode=mode, explain=True)
                assert (answer.hits[0].document_id, answer.hits[0].collection) == (str(number), collection)
                assert answer.plan is not None
                assert [plan.model for plan in answer.plan.collections] == ["hash", "new"]

        varied = await running.service.search(
            "default", SearchRequest(query=documents(40)[5]["text"], mmr=Mmr(), limit=40)
        )
        assert len({(hit.collection, hit.document_id) for hit in varied.hits}) == 40
        embedded = await client.embed(["number5"], kind="query", collection="news")
        named = await client.embed(["number5"], kind="query", model="new")
        assert (embedded.model, embedded.vectors.array.shape) == ("new", (1, 509))
        assert np.array_equal(embedded.vectors.array, named.vectors.array)
        vector = Vector(embedded.vectors.array[0])
        assert len((await client.search(vector=vector, collection="news", mode="dense")).hits) == 10
        with pytest.raises(InvalidFields, match="has 509 numbers; vectors of the model of 'docs' have 64"):
            await client.search(vector=vector, mode="dense")
        with pytest.raises(InvalidFields, match="served by 'new'"):
            await client.embed(["x"], kind="query", collection="news", model="hash")
        await assert_clean(running)
