"""Whatever happens to the projections, the truth brings them back; `check` sees every difference."""

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import sqlite_utils

from retrieval.truth.records import TextChanges, VectorChanges
from retrieval.truth.schema import migrations
from shared.errors import NotFound, SettingsError
from tests.harness import RunningRetrieval, running_retrieval

DOCUMENTS = [{"id": str(number), "text": f"alpha beta number{number}"} for number in range(6)]


def lexical_folder(data_dir: Path) -> Path:
    return data_dir / "retrieval" / "lexical"


async def fill(data_dir: Path) -> None:
    async with running_retrieval(data_dir) as running:
        await running.client.ingest("docs", DOCUMENTS)
        await running.client.delete_document("docs", "5")


async def assert_whole(running: RunningRetrieval) -> None:
    for mode in ("dense", "lexical"):
        hits = (await running.client.search("alpha", mode=mode, limit=100)).hits
        assert {"0", "1", "2", "3", "4"} == {hit.document_id for hit in hits}, mode
    report = await running.client.check()
    assert (report.findings, report.clean, report.checked["chunks"]) == ([], True, 5)


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    await fill(tmp_path)

    async with running_retrieval(tmp_path) as running:
        await assert_whole(running)
        assert running.embedder.embedded == []


@pytest.mark.parametrize("damage", ["missing", "garbage", "half"])
async def test_a_lost_or_damaged_lexical_index_is_rebuilt_from_the_truth(tmp_path: Path, damage: str) -> None:
    await fill(tmp_path)

    def break_it() -> None:
        folder = lexical_folder(tmp_path)
        if damage == "missing":
            shutil.rmtree(folder)
            return
        for file in folder.rglob("*.*"):
            if damage == "garbage" and file.name == "meta.json":
                file.write_bytes(b"garbage")
            if damage == "half" and file.suffix in {".term", ".store"}:
                file.write_bytes(file.read_bytes()[:5])

    await asyncio.to_thread(break_it)
    async with running_retrieval(tmp_path) as running:
        await assert_whole(running)


async def test_an_index_that_knows_more_than_the_truth_is_rebuilt(tmp_path: Path) -> None:
    await fill(tmp_path)
    backup = tmp_path / "backup"
    await asyncio.to_thread(shutil.copytree, tmp_path / "retrieval", backup)
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", [{"id": "new", "text": "alpha later"}])

    def restore_truth_only() -> None:
        for file in (tmp_path / "retrieval").glob("retrieval.db*"):
            file.unlink()
        for file in backup.glob("retrieval.db*"):
            shutil.copy(file, tmp_path / "retrieval" / file.name)

    await asyncio.to_thread(restore_truth_only)
    async with running_retrieval(tmp_path) as running:
        await assert_whole(running)


async def test_an_index_that_missed_the_last_changes_catches_up(tmp_path: Path) -> None:
    await fill(tmp_path)
    old = tmp_path / "old"
    await asyncio.to_thread(shutil.copytree, lexical_folder(tmp_path), old)
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", [{"id": "0", "text": "gamma"}, {"id": "new", "text": "alpha new"}])

    def put_old_back() -> None:
        shutil.rmtree(lexical_folder(tmp_path))
        shutil.copytree(old, lexical_folder(tmp_path))

    await asyncio.to_thread(put_old_back)
    async with running_retrieval(tmp_path) as running:
        hits = (await running.client.search("alpha", mode="lexical", limit=100)).hits
        assert {"1", "2", "3", "4", "new"} == {hit.document_id for hit in hits}
        assert (await running.client.check()).clean


async def test_check_names_what_is_missing_surplus_and_different(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", DOCUMENTS)
        row = await running.service.store.collection("default", "docs")
        indexes = await running.service.projections.of(row)
        sequence = indexes.sequence
        vector = np.zeros((1, 64), dtype=np.float32)
        await asyncio.to_thread(
            indexes.dense.apply, VectorChanges(sequence, [2, 999], np.vstack([vector, vector]), [1])
        )
        await asyncio.to_thread(indexes.lexical.apply, TextChanges(sequence, [], [3]))

        report = await running.client.check()

    assert not report.clean
    assert [finding.problem for finding in report.findings] == [
        "the dense index misses 1 chunks, such as 1",
        "the dense index has 1 chunks that are gone, such as 999",
        "the lexical index misses 1 chunks, such as 3",
        "the dense index has other vectors for 1 chunks, such as 2",
    ]
    assert {"default/docs"} == {finding.where for finding in report.findings}


async def test_check_names_what_is_wrong_inside_the_truth(tmp_path: Path) -> None:
    await fill(tmp_path)

    def shift() -> tuple[int, int]:
        connection = sqlite3.connect(tmp_path / "retrieval" / "retrieval.db")
        first, second = (row[0] for row in connection.execute("SELECT id FROM chunks ORDER BY id LIMIT 2"))
        connection.execute("UPDATE chunks SET start = start + 1 WHERE id = ?", (first,))
        connection.execute("DELETE FROM ops WHERE chunk_id = ?", (second,))
        connection.execute("UPDATE collections SET chunks = chunks + 1")
        connection.commit()
        connection.close()
        return first, second

    shifted, unheard = await asyncio.to_thread(shift)
    async with running_retrieval(tmp_path) as running:
        problems = [finding.problem for finding in (await running.client.check()).findings]

    assert f"chunk {shifted} is not the text at its offsets" in problems
    assert f"chunk {unheard} is missing from ops" in problems
    assert "the counts of collection default/docs are not those of its rows" in problems


async def test_counts_follow_every_way_in_which_documents_come_and_go(tmp_path: Path) -> None:
    long, short = "\n\n".join(f"{number} " + "word " * 300 for number in range(5)), "short"
    async with running_retrieval(tmp_path) as running:
        client = running.client

        async def counts() -> tuple[int, int]:
            found = await client.collection("docs")
            documents = (await client.documents("docs", limit=100)).items
            assert (found.documents, found.chunks) == (len(documents), sum(each.chunks for each in documents))
            assert (await client.check()).clean
            return found.documents, found.chunks

        await client.ingest(
            "docs", [{"id": str(number), "text": long, "metadata": {"n": number}} for number in range(6)]
        )
        documents, chunks = await counts()
        assert (documents, chunks > documents) == (6, True)
        await client.ingest("docs", [{"id": "0", "text": short}, {"id": "1", "text": long, "metadata": {"n": 1}}])
        assert await counts() == (6, chunks - chunks // 6 + 1)
        await client.delete_documents("docs", ids=["0", "1", "not there"])
        await client.delete_documents("docs", filter={"n": {"$lt": 4}})
        assert await counts() == (2, 2 * (chunks // 6))


@pytest.mark.blocking
def test_collections_from_before_counts_were_kept_are_counted(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "old.db")
    migrations.apply(sqlite_utils.Database(connection), stop_before="m010_counts")
    connection.execute(
        "INSERT INTO collections (tenant, name, model, chunking, fusion, description, created_at) "
        "VALUES ('t', 'full', '', '', '', '', ''), ('t', 'empty', '', '', '', '', '')"
    )
    connection.execute(
        "INSERT INTO documents (collection_id, document_id, title, uri, content_type, text, metadata, content_hash, accepted, "
        "created_at, updated_at) VALUES (1, 'd', '', '', '', 'xy', '{}', x'', 0, '', '')"
    )
    connection.executemany(
        "INSERT INTO chunks (collection_id, document, ordinal, start, stop, headings, text, embed_hash) "
        "VALUES (1, 1, ?, ?, ?, '[]', ?, x'')",
        [(0, 0, 1, "x"), (1, 1, 2, "y")],
    )

    migrations.apply(sqlite_utils.Database(connection))

    assert connection.execute("SELECT documents, chunks FROM collections ORDER BY id").fetchall() == [(1, 2), (0, 0)]
    connection.close()


async def test_files_of_a_collection_that_is_gone_are_removed_at_the_start(tmp_path: Path) -> None:
    await fill(tmp_path)
    orphan = lexical_folder(tmp_path) / "4711"
    await asyncio.to_thread(orphan.mkdir)

    async with running_retrieval(tmp_path):
        assert not await asyncio.to_thread(orphan.exists)


async def test_starting_with_another_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    await fill(tmp_path)

    def rename() -> None:
        connection = sqlite3.connect(tmp_path / "retrieval" / "retrieval.db")
        connection.execute("UPDATE collections SET model = 'older'")
        connection.commit()
        connection.close()

    await asyncio.to_thread(rename)
    with pytest.raises(SettingsError, match="--model hash --more-models older to serve both"):
        async with running_retrieval(tmp_path):
            pass


@pytest.mark.blocking
def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    database = sqlite_utils.Database(tmp_path / "x.db")
    migrations.apply(database)
    schema = database.schema
    database.table("collections").insert(
        {
            "tenant": "t",
            "name": "n",
            "model": "m",
            "chunking": "{}",
            "fusion": "{}",
            "description": "",
            "created_at": "x",
        }
    )

    migrations.apply(database)

    assert (schema, 1) == (database.schema, database.table("collections").count)
    database.close()


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_of_writes_deletes_and_restarts_ends_as_a_dictionary_would(tmp_path: Path, seed: int) -> None:
    """A naive model beside the service, over random operations; after each restart and at the end they must agree."""
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    oracle: dict[str, str] = {}
    for _ in range(3):
        async with running_retrieval(tmp_path) as running:
            await _assert_agrees(running, oracle)
            for _ in range(12):
                await _random_operation(running, oracle, chance)
            await _assert_agrees(running, oracle)


async def _random_operation(running: RunningRetrieval, oracle: dict[str, str], chance: random.Random) -> None:
    names = [f"doc{number}" for number in range(8)]
    match chance.choice(["write", "write", "write", "delete", "drop"]):
        case "write":
            batch = {
                name: f"common {name} word{chance.randrange(5)}" for name in chance.sample(names, chance.randint(1, 4))
            }
            await running.client.ingest("docs", [{"id": name, "text": text} for name, text in batch.items()])
            oracle.update(batch)
        case "delete" if oracle:
            gone = chance.sample(names, 3)
            answer = await running.client.delete_documents("docs", gone)
            assert sum(name in oracle for name in gone) == answer.deleted
            for name in gone:
                oracle.pop(name, None)
        case "drop" if oracle and chance.random() < 0.3:
            await running.client.delete_collection("docs")
            oracle.clear()
            await running.client.put_collection("docs")


async def _assert_agrees(running: RunningRetrieval, oracle: dict[str, str]) -> None:
    try:
        listed = (await running.client.documents("docs", limit=1000)).items
    except NotFound:
        assert not oracle
        return
    assert oracle.keys() == {document.id for document in listed}
    for mode in ("dense", "lexical", "hybrid"):
        hits = (await running.client.search("common", collection="docs", mode=mode, limit=100)).hits
        assert oracle == {hit.document_id: hit.text for hit in hits}, mode
    assert (await running.client.check()).clean
