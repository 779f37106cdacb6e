"""`diptych eval`, from the folder to the exit code, against services that run in the test."""

from pathlib import Path

import msgspec
import pytest

from diptych.evaluation.datasets import read_retrieval
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
    assert result.settings["search"]["mode"] == "lexical"
    assert result.services[0].service == "retrieval"
    assert not any(text in kept.read_text() for text in (*DOCUMENTS.values(), *QUERIES.values()))
    (collection,) = (await retrieval.client.collections()).items
    assert collection.name == f"eval-crafts-{read_retrieval(folder).documents_sha256[:8]}"


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
    nowhere = await shell.run("eval", "retrieval", "--dataset", str(folder), "--reuse")

    assert (early.code, done.code, nowhere.code) == (2, 0, 2)
    assert "--collection says where the documents are" in nowhere.err
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


async def test_a_run_that_is_worse_than_its_baseline_fails_query_by_query(
    shell: Shell, retrieval: RunningRetrieval, folder: Path, tmp_path: Path
) -> None:
    """Two documents have each other's text in a collection that is said to be the dataset's: their queries find the wrong one."""
    baseline = str(tmp_path / "baseline.json")
    arguments = ("eval", "retrieval", "--dataset", str(folder), "--no-latency", "-k", "1")
    broken = (*arguments, "--collection", "broken", "--reuse", "--baseline", baseline)
    mixed = {**DOCUMENTS, "kiln": DOCUMENTS["loom"], "loom": DOCUMENTS["kiln"]}
    await retrieval.client.ingest("broken", [{"id": name, "text": text} for name, text in mixed.items()])
    await shell.run(*arguments, "--output", baseline)

    same = await shell.run(*arguments, "--baseline", baseline)
    worse = await shell.run(*broken, "--label", "mixed")
    tolerated = await shell.run(*broken, "--tolerance", "0.67")
    as_json = await shell.run("--json", *broken)

    assert [done.code for done in (same, worse, tolerated, as_json)] == [0, 4, 0, 4]
    fell = [line for line in worse.err.splitlines() if line.startswith("  1.000 to 0.000")]
    assert fell[:2] == ["  1.000 to 0.000  q1  kiln clay", "  1.000 to 0.000  q2  loom wool cloth"]
    assert len(fell) == 6
    assert "nDCG@1 fell by 0.667, in 2 queries:" in worse.err
    changes = as_json.json["comparison"]["metrics"]
    assert [change["metric"] for change in changes] == ["nDCG@1", "MRR@1", "recall@1"]
    assert [query["id"] for query in changes[0]["fell"]] == ["q1", "q2"]


async def test_a_baseline_over_other_data_or_metrics_is_refused_before_anything_is_asked(
    shell: Shell, retrieval: RunningRetrieval, folder: Path, tmp_path: Path
) -> None:
    baseline = str(tmp_path / "baseline.json")
    arguments = ("eval", "retrieval", "--dataset", str(folder), "--no-latency")
    await shell.run(*arguments, "--output", baseline, "--collection", "first")

    fewer = await shell.run(*arguments, "--baseline", baseline, "-n", "2")
    deeper = await shell.run(*arguments, "--baseline", baseline, "-k", "3")
    (folder / "qrels.tsv").write_text("q1\tkiln\t2\nq2\tloom\t1\nq3\tforge\t1\n")
    judged = await shell.run(*arguments, "--baseline", baseline)

    assert [done.code for done in (fewer, deeper, judged)] == [2, 2, 2]
    assert "other texts, judgements or choice of queries" in fewer.err
    assert "other texts, judgements or choice of queries" in judged.err
    assert "and this run nDCG@3, MRR@3, recall@3" in deeper.err
    assert [each.name for each in (await retrieval.client.collections()).items] == ["first"]


async def test_results_become_a_page(shell: Shell, folder: Path, tmp_path: Path) -> None:
    arguments = ("eval", "retrieval", "--dataset", str(folder), "--no-latency")
    html, markdown = tmp_path / "with.html", tmp_path / "later.md"
    paths = [str(path) for path in (tmp_path / "a.json", tmp_path / "b.json", html, markdown)]
    await shell.run(*arguments, "--output", paths[0])

    done = await shell.run(
        *arguments, "--mode", "lexical", "-o", paths[1], "--baseline", paths[0], "--report", paths[2]
    )
    later = await shell.run("eval", "report", paths[0], paths[1], "--output", paths[3])
    printed = await shell.run("eval", "report", *paths[:2])
    wrong = await shell.run(*arguments, "--report", str(tmp_path / "a.pdf"))
    absent = await shell.run("eval", "report", str(tmp_path / "none.json"))

    assert [each.code for each in (done, later, printed, wrong, absent)] == [0, 0, 0, 2, 2]
    assert "lexical against hybrid" in html.read_text()
    assert markdown.read_text().strip() == printed.out.strip()
    assert "| search.mode | hybrid | lexical |" in printed.lines


async def test_a_query_is_narrowed_by_its_own_filter(shell: Shell, folder: Path) -> None:
    """Asked for wool, and narrowed to what is no loom: the one that was judged is not found any more."""
    lines = [
        {"_id": name, "text": text, "metadata": {"made": "cloth" if name == "loom" else "other"}}
        for name, text in DOCUMENTS.items()
    ]
    queries = [
        {"_id": name, "text": text, "metadata": {"filter": {"made": "other"}} if name == "q2" else {}}
        for name, text in QUERIES.items()
    ]
    encoder = msgspec.json.Encoder()
    (folder / "corpus.jsonl").write_bytes(encoder.encode_lines(lines))
    (folder / "queries.jsonl").write_bytes(encoder.encode_lines(queries))

    done = await shell.run("eval", "retrieval", "--dataset", str(folder), "--json")

    assert {query["id"]: query["scores"]["recall@100"] for query in done.json["queries"]} == {"q1": 1, "q2": 0, "q3": 1}
