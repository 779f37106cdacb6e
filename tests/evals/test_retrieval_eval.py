"""The evaluation itself, over a tiny set against a real service."""

from pathlib import Path

import pytest

from diptych import DocumentIn
from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.progress import progress_bar
from evals.data import SOURCES, read_set
from evals.retrieval import WAYS, evaluate
from shared.errors import SettingsError
from tests.harness import running_retrieval

# A run may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def test_every_way_is_scored_against_the_judgements(tmp_path: Path) -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[DocumentIn(id=word, text=f"about the {word}") for word in ("ant", "bee", "cat")],
        queries={"1": "ant", "2": "bee"},
        judgements={"1": {"ant": 1}, "2": {"bee": 2, "cat": 1}},
    )
    async with running_retrieval(tmp_path) as running:
        result = await evaluate(running.client, golden, progress_bar(quiet=True))

    assert (result.documents, result.queries) == (3, 2)
    assert list(result.ways) == list(WAYS)
    assert result.ways["adaptive"].ndcg_10 > 0.9
    assert result.ways["lexical"].recall_100 == 0.75
    assert result.ways["adaptive"].against.keys() == {"rrf", "relative", "dense", "lexical"}


async def test_a_set_is_not_scored_before_all_of_it_is_there(tmp_path: Path) -> None:
    """The service lets no request wait here, so its answer comes before the documents do."""
    golden = RetrievalDataset(
        name="slow",
        documents=[DocumentIn(id=str(number), text=f"word{number} again") for number in range(300)],
        queries={"1": "word299"},
        judgements={"1": {"299": 1}},
    )
    async with running_retrieval(tmp_path, ingest_wait_timeout_s=0.001) as running:
        result = await evaluate(running.client, golden, progress_bar(quiet=True))

    assert (result.documents, result.ways["lexical"].ndcg_10) == (300, 1.0)


def test_sets_are_read_with_the_judgements_that_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "retrieval" / "cranfield"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "a", "title": "T", "text": "x"}\n{"_id": "b", "text": " "}\n')
    (folder / "queries.jsonl").write_text('{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t3\n2\tb\t0\n")

    golden = read_set(tmp_path, SOURCES[1])

    assert [document.id for document in golden.documents] == ["a"]
    assert (golden.queries, golden.judgements) == ({"2": "two"}, {"2": {"a": 3}})
    with pytest.raises(SettingsError, match="EVAL_DATA"):
        read_set(tmp_path, SOURCES[0])
