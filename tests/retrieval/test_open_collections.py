"""Collections open when they are used and close when they are not, grow, are pruned and rebuilt, and nobody notices."""

import asyncio
import contextlib
import gc
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.indexes.indexes import CollectionIndexes, dense_folder, lexical_folder
from retrieval.indexes.projections import COLLECTIONS_PER_SLICE
from retrieval.truth.listings import Listings
from retrieval.truth.records import VectorChanges
from shared.errors import NotFound
from tests.harness import RunningRetrieval, running_retrieval, until

# Small enough for the upkeep of a large collection to happen in a test.
SMALL: dict[str, Any] = {"dense_exact_chunks_max": 50}


def documents(count: int, *, start: int = 0) -> list[dict[str, str]]:
    return [{"id": str(number), "text": f"alpha number{number} of many"} for number in range(start, start + count)]


async def indexes_of(running: RunningRetrieval, collection: str = "docs") -> CollectionIndexes:
    return await running.service.projections.of(await running.service.store.collection("default", collection))


async def plan_of(running: RunningRetrieval) -> str:
    answer = await running.client.search("number7", collection="docs", explain=True)
    assert answer.plan is not None
    return answer.plan.collections[0].dense


async def grown(running: RunningRetrieval, count: int = 200) -> None:
    """A collection whose lists are built and whose snapshot is written."""
    await running.client.ingest("docs", documents(count))

    async def is_done() -> bool:
        indexes = await indexes_of(running)
        return indexes.dense.plan() == "approximate" and indexes.legs["hash"].snapshot_sequence is not None

    await until(is_done)


async def assert_whole(running: RunningRetrieval, count: int) -> None:
    hits = (await running.client.search("alpha", collection="docs", mode="dense", limit=1000, candidates=1000)).hits
    assert len(hits) == count
    report = await running.client.check()
    assert (report.findings, report.clean) == ([], True)


async def test_nothing_is_open_after_the_start_and_a_search_opens_what_it_needs(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        for name in ("one", "two"):
            await running.client.ingest(name, documents(3))

    async with running_retrieval(tmp_path) as running:
        assert running.service.projections.open_count == 0
        assert len((await running.client.search("alpha", collection="two")).hits) == 3
        assert running.service.projections.open_count == 1


async def test_idle_collections_close_and_open_again(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, collection_idle_s=0.05) as running:
        await running.client.ingest("docs", documents(3))

        async def is_closed() -> bool:
            return running.service.projections.open_count == 0

        await until(is_closed)
        assert len((await running.client.search("alpha", collection="docs")).hits) == 3
        await running.client.ingest("docs", documents(3, start=3))
        await assert_whole(running, 6)


async def test_a_change_that_nobody_waits_for_is_found_a_moment_later(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", documents(3))
        row = await running.service.store.collection("default", "docs")
        await running.service.store.delete_documents(row, ["1"])
        await running.service.projections.advance(row)

        async def is_taken_in() -> bool:
            return (await indexes_of(running)).sequence == 4

        await until(is_taken_in)
        assert (await running.client.check()).clean


async def test_changes_are_taken_in_at_once_as_long_as_anybody_waits(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", documents(1))
        indexes = await indexes_of(running)
        assert not indexes.awaited.is_set()
        with indexes.waited_for():
            with indexes.waited_for():
                assert indexes.awaited.is_set()
            assert indexes.awaited.is_set()
        assert not indexes.awaited.is_set()


async def test_a_collection_in_use_is_never_closed(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, collection_idle_s=0.01) as running:
        await running.client.ingest("docs", documents(3))
        row = await running.service.store.collection("default", "docs")
        projections = running.service.projections
        async with projections.using(row) as indexes:
            await projections.close_unused(now=time.monotonic() + 1000)
            assert await projections.of(row) is indexes
        await projections.close_unused(now=time.monotonic() + 1000)
        assert projections.open_count == 0


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What is in a cycle stays: a service with hundreds of megabytes has a full collection once in a long while."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
async def test_many_collections_are_searched_a_few_at_a_time_and_hold_nothing_afterwards(tmp_path: Path) -> None:
    count, most = 40, 4
    async with running_retrieval(tmp_path, open_collections_max=most) as running:
        for number in range(count):
            await running.client.ingest(f"c{number}", documents(2))
    async with running_retrieval(tmp_path, open_collections_max=most) as running:
        projections = running.service.projections
        before = await asyncio.to_thread(_held)
        for _ in range(2):
            assert len((await running.client.search("alpha", limit=200, candidates=200)).hits) == 2 * count
            assert projections.open_count <= most + 2 * COLLECTIONS_PER_SLICE
        await projections.close_unused(now=time.monotonic() + 10_000)
        assert projections.open_count == 0

        async def is_let_go() -> bool:  # tantivy's threads notice within a second
            handles, watching = await asyncio.to_thread(_held)
            # The database's own readers are opened when they are first needed.
            return handles < before[0] + count // 2 and watching == 0

        await until(is_let_go)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("follow-", "open-", "tend-"))]


def _held() -> tuple[int, int]:
    """File handles of this process, and threads of open lexical indexes."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            names.append((task / "comm").read_text(encoding="utf-8"))
    return len(list(Path("/proc/self/fd").iterdir())), sum(name.startswith("thread-tantivy") for name in names)


async def test_closing_under_load_loses_no_write_and_breaks_no_search(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, open_collections_max=2, collection_idle_s=0.02) as running:
        names = [f"c{number}" for number in range(6)]

        async def use(name: str) -> None:
            for number in range(8):
                await running.client.ingest(name, documents(1, start=number))
                hits = (await running.client.search("alpha", collection=name, limit=100)).hits
                assert {str(each) for each in range(number + 1)} == {hit.document_id for hit in hits}

        await asyncio.gather(*(use(name) for name in names))
        assert (await running.client.check()).findings == []


async def test_a_collection_dropped_while_it_is_used_is_gone(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, **SMALL) as running:
        await grown(running)
        row = await running.service.store.collection("default", "docs")
        async with running.service.projections.using(row):
            await running.client.delete_collection("docs")
        with pytest.raises(NotFound):
            await running.client.search("alpha", collection="docs")
        assert not await asyncio.to_thread(dense_folder(running.settings.directory, row.id, row.model).exists)
        assert not await asyncio.to_thread(lexical_folder(running.settings.directory, row.id).exists)


async def test_a_collection_that_grows_gets_lists_and_a_snapshot_which_the_next_start_uses(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, **SMALL) as running:
        await running.client.ingest("docs", documents(10))
        assert await plan_of(running) == "exact"
        await grown(running)
        await running.client.delete_document("docs", "3")
        assert await plan_of(running) == "approximate"
        await assert_whole(running, 199)

    async with running_retrieval(tmp_path, **SMALL) as running:
        assert await plan_of(running) == "approximate"
        indexes = await indexes_of(running)
        assert indexes.legs["hash"].snapshot_sequence is not None
        await assert_whole(running, 199)
        assert running.embedder.embedded == []


@pytest.mark.parametrize("damage", ["shorter", "flipped", "no manifest", "of half precision"])
async def test_a_damaged_or_foreign_snapshot_is_replaced_from_the_truth(tmp_path: Path, damage: str) -> None:
    async with running_retrieval(tmp_path, **SMALL) as running:
        await grown(running)
        folder = dense_folder(running.settings.directory, (await indexes_of(running)).row.id, "hash")

    def break_it() -> None:
        data = next(folder.glob("*.vectors"))
        content = bytearray(data.read_bytes())
        match damage:
            case "shorter":
                data.write_bytes(content[:1000])
            case "flipped":
                content[-100] ^= 4
                data.write_bytes(content)
            case "no manifest":
                (folder / "manifest.json").unlink()

    await asyncio.to_thread(break_it)
    storage = "float16" if damage == "of half precision" else "float32"
    async with running_retrieval(tmp_path, vector_storage=storage, **SMALL) as running:
        assert len((await running.client.search("alpha", mode="dense", limit=1000, candidates=1000)).hits) == 200
        await grown(running)
        await assert_whole(running, 200)


async def test_a_snapshot_damaged_while_the_service_runs_is_found_by_check_and_made_anew_by_rebuild(
    tmp_path: Path,
) -> None:
    async with running_retrieval(tmp_path, **SMALL) as running:
        await grown(running)
        folder = dense_folder(running.settings.directory, (await indexes_of(running)).row.id, "hash")

        def cut() -> None:
            data = next(folder.glob("*.vectors"))
            data.write_bytes(data.read_bytes()[:1000])

        await asyncio.to_thread(cut)
        problems = [finding.problem for finding in (await running.client.check()).findings]
        assert problems == ["the snapshot of the dense index is damaged"]
        await running.client.rebuild("docs")
        await grown(running)
        await assert_whole(running, 200)


async def test_rebuild_makes_wrong_indexes_right_while_searches_and_writes_go_on(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", documents(40))
        indexes = await indexes_of(running)
        wrong = VectorChanges(indexes.sequence, [999], np.zeros((1, 64), dtype=np.float32), [1])
        await asyncio.to_thread(indexes.dense.apply, wrong)
        assert not (await running.client.check()).clean

        async def use() -> None:
            for number in range(40, 50):
                await running.client.ingest("docs", documents(1, start=number))
                assert (await running.client.search(f"number{number}", collection="docs", limit=1)).hits

        _, rebuilt = await asyncio.gather(use(), running.client.rebuild("docs"))
        assert rebuilt.chunks >= 40
        await assert_whole(running, 50)

    async with running_retrieval(tmp_path) as running:
        await assert_whole(running, 50)


@pytest.mark.parametrize("lost", ["nothing", "lexical", "old lexical"])
async def test_what_was_pruned_is_not_needed_again(tmp_path: Path, lost: str) -> None:
    old = tmp_path / "old"
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", documents(5))
        folder = lexical_folder(running.settings.directory, (await indexes_of(running)).row.id)
        await asyncio.to_thread(shutil.copytree, folder, old)
        await running.client.ingest("docs", documents(20))
        await running.client.delete_document("docs", "0")
        indexes = await indexes_of(running)
        listings = Listings(running.service.store.database)
        pruned = await listings.prune(indexes.row.id, through=indexes.durable_sequence)
        assert pruned == 20  # five came, fifteen more, one went; the last row stays
        assert (await listings.standing(indexes.row.id)).sequence == indexes.sequence
        await assert_whole(running, 19)

    def lose() -> None:
        if lost != "nothing":
            shutil.rmtree(folder)
        if lost == "old lexical":
            shutil.copytree(old, folder)

    await asyncio.to_thread(lose)
    async with running_retrieval(tmp_path) as running:
        await assert_whole(running, 19)
        await running.client.ingest("docs", documents(2, start=100))
        await assert_whole(running, 21)
