"""`diptych eval`, from the folder to the exit code, against services that run in the test."""

from pathlib import Path

import msgspec
import pytest

from diptych.evaluation.results import Result, read_result
from tests.diptych.command import Shell
from tests.harness import RunningRetrieval

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking

DOCUMENTS = {
    "kiln": "A kiln fires clay at twelve hundred degrees.",
    "loom": "A loom weaves wool into cloth.",
    "forge": "A forge heats iron until it can be hammered.",
}
QUERIES = {"q1": "kiln clay", "q2": "loom wool cloth", "q3": "hammered iron"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "crafts"
    found.mkdir()
    lines = {
        "corpus.jsonl": [{"_id": name, "title": "", "text": text} for name, text in DOCUMENTS.items()],
        "queries.jsonl": [{"_id": name, "text": text} for name, text in QUERIES.items()],
    }
    for name, records in lines.items():
        (found / name).write_bytes(msgspec.json.Encoder().encode_lines(records))
    (found / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tkiln\t1\nq2\tloom\t1\nq3\tforge\t1\n")
    return found


async def test_searches_are_scored_and_the_result_is_kept(
    shell: Shell, retrieval: RunningRetrieval, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "results" / "one.json"
    done = await shell.run("eval", "retrieval", "--dataset", str(folder), "--output", str(kept), "--mode", "lexical")

    assert done.code == 0
    assert done.lines[0] == "lexical over crafts: 3 queries"
    assert "nDCG@10" in done.out
    result = read_result(kept)
    assert (result.kind, result.label, result.dataset.name) == ("retrieval", "lexical", "crafts")
    assert result.dataset.counts["documents"] == 3
    assert {name: found.mean for name, found in result.overall.items()} == dict.fromkeys(
        ("nDCG@10", "MRR@10", "recall@10", "recall@100"), 1.0
    )
    assert [query.id for query in result.queries] == list(QUERIES)
    assert result.latency is not None
    assert result.latency.count == 3
    assert result.settings["search"] == {"mode": "lexical"}
    assert result.services[0].service == "retrieval"
    assert not any(text in kept.read_text() for text in (*DOCUMENTS.values(), *QUERIES.values()))
    (collection,) = (await retrieval.client.collections()).items
    assert collection.name == f"eval-crafts-{result.dataset.sha256[:8]}"


async def test_one_json_document_is_the_whole_result(shell: Shell, folder: Path) -> None:
    done = await shell.run(
        *("eval", "retrieval", "--dataset", str(folder), "--json", "-n", "2", "-k", "1", "--no-latency"),
        *(
            "--fusion",
            "rrf",
            "--no-duplicates",
            "--diversity",
            "0.1",
            "--collection",
            "mine",
            "--label",
            "as I like it",
        ),
    )

    assert (done.code, done.err) == (0, "")
    result = msgspec.convert(done.json, Result)
    assert (result.label, len(result.queries), result.latency) == ("as I like it", 2, None)
    assert list(result.overall) == ["nDCG@1", "MRR@1", "recall@1"]
    assert result.settings["search"]["fusion"]["method"] == "rrf"


async def test_what_was_ingested_is_asked_again_without_writing(
    shell: Shell, retrieval: RunningRetrieval, folder: Path
) -> None:
    arguments = ("eval", "retrieval", "--dataset", str(folder), "--collection", "mine", "--no-latency")
    await retrieval.client.put_collection("mine")

    early = await shell.run(*arguments, "--reuse")
    await shell.run(*arguments)
    sequence = (await retrieval.client.collection("mine")).sequence
    (folder / "corpus.jsonl").unlink()
    done = await shell.run(*arguments, "--reuse")

    assert (early.code, done.code) == (2, 0)
    assert "holds 0 documents, and the dataset 3: leave out --reuse" in early.err
    assert (await retrieval.client.collection("mine")).sequence == sequence


async def test_a_folder_that_is_no_dataset_is_wrong_usage(shell: Shell, tmp_path: Path) -> None:
    done = await shell.run("eval", "retrieval", "--dataset", str(tmp_path))

    assert (done.code, done.out) == (2, "")
    assert "corpus.jsonl is missing" in done.err


async def test_a_service_that_is_not_there_is_named(folder: Path) -> None:
    away = Shell({"DIPTYCH_RETRIEVAL_URL": "http://127.0.0.1:9"})

    done = await away.run("eval", "retrieval", "--dataset", str(folder))

    assert done.code == 3
    assert "--start" in done.err or "diptych up" in done.err
    usage = await away.run("eval", "retrieval", "--dataset", str(folder), "--keep", str(folder))
    assert usage.code == 2
    assert "add --start" in usage.err
