"""A whole service is copied while it runs, and put back."""

import asyncio
import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from diptych import RetrievalClient
from shared.errors import NotFound, SettingsError
from shared.messages import Snapshot
from shared.snapshots import Manifest, restore
from tests.diptych.command import Shell
from tests.harness import WAIT_S, RunningMemory, RunningRetrieval, running_memory, running_retrieval

# What is run here besides the services may block, such as looking at their files.
pytestmark = pytest.mark.blocking


async def put_back(snapshot: Snapshot, data_dir: Path, *, replace: bool = False) -> Manifest:
    return await asyncio.to_thread(restore, Path(snapshot.path), data_dir, replace=replace)


async def fill(client: RetrievalClient, ids: range) -> None:
    await client.ingest("notes", [{"id": f"d{number}", "text": f"note number{number} of many"} for number in ids])


async def stored(client: RetrievalClient) -> set[str]:
    return {document.id for document in (await client.documents("notes", limit=1000)).items}


async def test_a_restored_service_holds_exactly_what_the_snapshot_held(
    retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    await fill(retrieval.client, range(20))
    snapshot = await retrieval.client.create_snapshot()
    await fill(retrieval.client, range(20, 30))
    await retrieval.client.delete_document("notes", "d0")
    before = await retrieval.client.search("number7", collection="notes")

    await put_back(snapshot, tmp_path / "other")

    async with running_retrieval(tmp_path / "other") as restored:
        assert await stored(restored.client) == {f"d{number}" for number in range(20)}
        assert (await restored.client.check()).clean
        found = await restored.client.search("number7", collection="notes")
        assert found.hits[0].document_id == before.hits[0].document_id == "d7"


async def test_everything_acknowledged_before_is_in_it_and_nothing_is_torn_while_writes_go_on(
    retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    acknowledged: set[str] = set()
    written = asyncio.Semaphore(0)

    async def write() -> None:
        for number in itertools.count():
            await fill(retrieval.client, range(number, number + 1))
            acknowledged.add(f"d{number}")
            written.release()

    writing = asyncio.create_task(write())
    try:
        for round_number in range(3):
            async with asyncio.timeout(WAIT_S):
                for _ in range(5):
                    await written.acquire()
            known = set(acknowledged)
            snapshot = await retrieval.client.create_snapshot()
            await put_back(snapshot, tmp_path / str(round_number))
            async with running_retrieval(tmp_path / str(round_number)) as restored:
                assert known <= await stored(restored.client)
                assert (await restored.client.check()).clean
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def test_memory_is_restored_with_its_turns(memory: RunningMemory, tmp_path: Path) -> None:
    await memory.client.append("s", [{"role": "user", "content": "my cat is called Ada"}], user_id="u")
    snapshot = await memory.client.create_snapshot()

    await put_back(snapshot, tmp_path / "other")

    async with running_memory(tmp_path / "other") as restored:
        turns = await restored.client.turns("s")
        assert [turn.content for turn in turns.items] == ["my cat is called Ada"]
        assert (await restored.client.check()).clean


async def test_a_running_service_is_not_replaced(retrieval: RunningRetrieval) -> None:
    await fill(retrieval.client, range(3))
    snapshot = await retrieval.client.create_snapshot()

    with pytest.raises(SettingsError, match="is in use; stop the service"):
        await put_back(snapshot, retrieval.settings.data_dir, replace=True)

    assert (await retrieval.client.check()).clean


async def test_data_is_replaced_only_when_asked_and_is_kept_beside(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await fill(running.client, range(3))
        snapshot = await running.client.create_snapshot()
        await fill(running.client, range(3, 6))

    with pytest.raises(SettingsError, match="--replace"):
        await put_back(snapshot, tmp_path)
    async with running_retrieval(tmp_path) as running:
        assert len(await stored(running.client)) == 6

    await put_back(snapshot, tmp_path, replace=True)

    async with running_retrieval(tmp_path) as running:
        assert len(await stored(running.client)) == 3
        assert (await running.client.check()).clean
    (kept,) = (tmp_path / "retrieval").glob("retrieval.db.before-*")
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (6,)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
async def test_a_damaged_snapshot_is_refused_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    async with running_retrieval(tmp_path) as running:
        await fill(running.client, range(3))
        snapshot = await running.client.create_snapshot()
    copy = Path(snapshot.path) / "retrieval.db"
    content = copy.read_bytes()
    match damage:
        case "flip":
            copy.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
        case "truncate":
            copy.write_bytes(content[:-1])
        case "remove":
            copy.unlink()
        case "manifest":
            (Path(snapshot.path) / "manifest.json").write_text("{}")

    with pytest.raises(SettingsError, match="manifest"):
        await put_back(snapshot, tmp_path, replace=True)

    async with running_retrieval(tmp_path) as running:
        assert len(await stored(running.client)) == 3
        assert (await running.client.check()).clean


async def test_snapshots_are_listed_oldest_first_and_deleted_by_name(retrieval: RunningRetrieval) -> None:
    await fill(retrieval.client, range(1))
    first, second = await retrieval.client.create_snapshot(), await retrieval.client.create_snapshot()

    assert (await retrieval.client.snapshots()).items == [first, second]
    await retrieval.client.delete_snapshot(first.name)

    assert (await retrieval.client.snapshots()).items == [second]
    assert not await asyncio.to_thread(Path(first.path).exists)
    for name in (first.name, "..", "../retrieval", "retrieval"):
        with pytest.raises(NotFound):
            await retrieval.client.delete_snapshot(name)
    assert retrieval.settings.directory.exists()


async def test_what_an_interrupted_snapshot_left_is_no_snapshot_and_is_removed_by_the_next(
    retrieval: RunningRetrieval,
) -> None:
    left = retrieval.settings.data_dir / "snapshots" / "retrieval-20200101T000000.000000Z.partial"
    left.mkdir(parents=True)

    assert (await retrieval.client.snapshots()).items == []
    await retrieval.client.create_snapshot()

    assert not left.exists()


async def test_the_commands_copy_both_services_and_put_them_back(
    retrieval: RunningRetrieval, memory: RunningMemory, tmp_path: Path
) -> None:
    await fill(retrieval.client, range(2))
    await memory.client.append("s", [{"role": "user", "content": "hello"}], user_id="u")
    shell = Shell({"DIPTYCH_RETRIEVAL_URL": retrieval.url, "DIPTYCH_MEMORY_URL": memory.url})

    made = await shell.run("snapshot", "--json")
    listed = await shell.run("snapshot", "--list")
    paths = [each["path"] for each in made.json]
    done = await shell.run("--data-dir", str(tmp_path / "other"), "restore", *paths)
    again = await shell.run("--data-dir", str(tmp_path / "other"), "restore", *paths)

    assert (made.code, listed.code, done.code, again.code) == (0, 0, 0, 2)
    assert all(path in listed.out for path in paths)
    assert "--replace" in again.err
    async with running_retrieval(tmp_path / "other") as restored, running_memory(tmp_path / "other") as remembered:
        assert await stored(restored.client) == {"d0", "d1"}
        assert (await remembered.client.turns("s")).items[0].content == "hello"
