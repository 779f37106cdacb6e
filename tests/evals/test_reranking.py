"""A cross-encoder is trained on what was found and judged, and learns it."""

from pathlib import Path

import pytest

from diptych import DocumentIn
from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.progress import progress_bar
from evals.data import SOURCES, read_set
from evals.reranking import Example, find_examples, how_trained, read_text, train, training_sets
from retrieval.models.cross_encoder import SentenceTransformerCrossScorer
from shared.errors import SettingsError
from tests.harness import running_retrieval
from tests.retrieval.models import make_cross_encoder


def write_set(folder: Path, judged: dict[str, list[int]]) -> None:
    """Queries by the file that judges them."""
    folder.mkdir(parents=True)
    queries = sorted({query for numbers in judged.values() for query in numbers})
    (folder / "corpus.jsonl").write_text('{"_id": "d", "title": "T", "text": "x"}\n')
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "{query}", "text": "q"}}\n' for query in queries))
    for name, numbers in judged.items():
        (folder / name).write_text("query\tdocument\tgrade\n" + "".join(f"{query}\td\t1\n" for query in numbers))


def test_no_query_that_is_reported_is_learned_from(tmp_path: Path) -> None:
    write_set(tmp_path / "retrieval" / "scifact", {"qrels.tsv": [1, 2, 3], "qrels.train.tsv": [4, 5]})
    write_set(tmp_path / "retrieval" / "cranfield", {"qrels.tsv": [1, 2, 3, 4]})

    learned = {dataset.name: set(dataset.queries) for dataset in training_sets(tmp_path)}
    assert learned == {"scifact": {"4", "5"}, "cranfield": {"1", "3"}}
    for source in SOURCES:
        if source.name in learned:
            assert not learned[source.name] & set(read_set(tmp_path, source).queries)


@pytest.mark.blocking
async def test_an_example_is_a_relevant_text_before_others_that_were_found(tmp_path: Path) -> None:
    documents = [DocumentIn(id=f"d{number}", title=f"Title {number}", text=f"jump {number}") for number in range(9)]
    golden = RetrievalDataset(
        name="tiny",
        documents=documents,
        queries={"1": "jump", "2": "jumping"},
        judgements={"1": {"d3": 1, "d5": 2}, "2": {f"d{number}": 1 for number in range(6)}},
    )
    async with running_retrieval(tmp_path) as running:
        examples = await find_examples(running.client, golden, progress_bar(quiet=True))

    # Of the second query too few others are left to tell it from.
    assert [(example.query, example.texts[0]) for example in examples] == [
        ("jump", "Title 3\njump 3"),
        ("jump", "Title 5\njump 5"),
    ]
    for example in examples:
        assert len(set(example.texts)) == 6
        assert not {"Title 3\njump 3", "Title 5\njump 5"} & set(example.texts[1:])


def test_a_document_that_was_not_found_is_read_from_its_beginning() -> None:
    assert read_text(DocumentIn(id="1", title="T", text="x")) == "T\nx"
    assert read_text(DocumentIn(id="1", text="x")) == "x"


@pytest.mark.blocking
def test_what_is_learned_is_known_by_the_service_s_own_reader(tmp_path: Path) -> None:
    start = make_cross_encoder(tmp_path / "start")
    words = ("bees", "ants", "wasps", "moths", "flies", "gnats")
    examples = [
        Example(f"what about {word}", [f"{word} are said to be good", *(f"{other} are bad" for other in words[1:])])
        for word in words
    ]

    # The beginner is a hundredth of the real one's size, and learns only from larger steps.
    losses = train(start, examples, tmp_path / "trained", epochs=30, learning_rate=1e-2, bar=progress_bar(quiet=True))

    assert len(losses) == 30
    assert sum(losses[-5:]) < sum(losses[:5]) / 2
    scorer = SentenceTransformerCrossScorer(str(tmp_path / "trained"))
    good, *bad = scorer.score("what about bees", examples[0].texts)
    assert good > max(bad)


def test_a_folder_without_a_trained_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"evals\.reranking"):
        how_trained(tmp_path)
