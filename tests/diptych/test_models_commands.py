"""`diptych reindex` and `diptych flip`."""

from pathlib import Path

from retrieval.models.hash_embedder import HashEmbedder
from tests.diptych.command import Shell
from tests.harness import running_retrieval
from tests.retrieval.models_beside import GatedModel, documents, new_model


async def test_a_collection_changes_its_model_and_back_and_lets_go_of_the_other(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[HashEmbedder(name="twin")]) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        await running.client.ingest("docs", documents(30))

        reindexed = await shell.run("reindex", "docs", "--model", "twin")
        flipped = await shell.run("flip", "docs")
        as_json = await shell.run("--json", "flip", "docs")
        discarded = await shell.run("reindex", "docs", "--discard")
        again = await shell.run("flip", "docs")

    assert reindexed.lines == [
        "docs: 30 chunks; overlap@10 of the two models 1.00",
        "Served by twin now; `diptych flip docs` goes back to hash",
    ]
    assert flipped.lines == ["docs: served by hash, beside it twin (ready)"]
    assert (as_json.json["model"], as_json.json["reindex"]["model"]) == ("twin", "hash")
    assert discarded.lines == ["docs: served by twin, none beside it"]
    assert (again.code, "no model stands beside" in again.err) == (1, True)


async def test_without_flip_it_says_what_is_left_to_do(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, more=[new_model()]) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        await running.client.put_collection("docs")
        done = await shell.run("reindex", "docs", "-m", "new", "--no-flip")
        events = await shell.run("--json", "reindex", "docs", "-m", "new")
    assert done.lines == ["docs: 0 chunks", "Ready. `diptych flip docs` lets it serve"]
    assert '"kind":"done"' in events.out.splitlines()[-1]


async def test_what_fails_says_why_and_exits_with_1(tmp_path: Path) -> None:
    new = GatedModel()
    new.is_broken = True
    new.let()
    async with running_retrieval(tmp_path, more=[new], ingest_attempts_max=1) as running:
        shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
        await running.client.ingest("docs", documents(3))
        failed = await shell.run("reindex", "docs", "--model", "new")
        unknown = await shell.run("reindex", "docs", "--model", "unknown")
        neither = await shell.run("reindex", "docs")
        both = await shell.run("reindex", "docs", "--model", "new", "--discard")
    assert failed.code == 1
    assert "failed docs: the model failed: the model broke (given up after attempt 1)" in failed.err
    assert (unknown.code, "more_models" in unknown.err) == (2, True)
    assert (neither.code, both.code) == (2, 2)
    assert "either --model or --discard" in neither.err
