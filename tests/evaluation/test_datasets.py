"""Folders are read as they are laid out, and what is wrong in them is named where it stands."""

from pathlib import Path

import pytest

from diptych.evaluation.datasets import only_queries, read_retrieval, sliced
from shared.errors import SettingsError


def write(folder: Path, **files: str) -> Path:
    for name, text in {**FILES, **files}.items():
        (folder / name.replace("_jsonl", ".jsonl").replace("_tsv", ".tsv")).write_text(text, encoding="utf-8")
    return folder


FILES = {
    "corpus_jsonl": '{"_id": "a", "title": "T", "text": "x", "metadata": {}}\n\n{"_id": "b", "text": " "}\n{"_id": "c", "text": "y"}\n',
    "queries_jsonl": '{"_id": "1", "text": "one"}\n{"_id": "2", "text": "two"}\n{"_id": "3", "text": "three"}\n',
    "qrels_tsv": "query-id\tcorpus-id\tscore\n1\ta\t1\n2\ta\t0\n3\tc\t2\n3\tb\t1\n",
}


def test_a_folder_is_read(tmp_path: Path) -> None:
    dataset = read_retrieval(write(tmp_path))

    assert dataset.name == tmp_path.name
    assert [(each.id, each.title, each.text) for each in dataset.documents] == [("a", "T", "x"), ("c", None, "y")]
    assert dataset.queries == {"1": "one", "3": "three"}
    assert dataset.judgements == {"1": {"a": 1}, "3": {"c": 2, "b": 1}}
    assert dataset.counts == {"documents": 2, "queries": 2, "judgements": 3, "judged_absent": 1}


def test_an_id_may_hold_what_others_take_for_the_end_of_a_line(tmp_path: Path) -> None:
    odd = "a\u2028b\u0085c"
    corpus, queries = f'{{"_id": "{odd}", "text": "x"}}\n', f'{{"_id": "{odd}", "text": "one"}}\n'
    dataset = read_retrieval(
        write(tmp_path, corpus_jsonl=corpus, queries_jsonl=queries, qrels_tsv=f"{odd}\t{odd}\t1\r\n")
    )

    assert dataset.judgements == {odd: {odd: 1}}
    assert dataset.counts == {"documents": 1, "queries": 1, "judgements": 1, "judged_absent": 0}


def test_the_fingerprint_is_of_what_is_used(tmp_path: Path) -> None:
    dataset = read_retrieval(write(tmp_path))
    # A judgement of 0 and a query that is never asked change nothing; a letter and a grade do.
    same = read_retrieval(write(tmp_path, qrels_tsv="1\ta\t1\n3\tc\t2\n3\tb\t1\n"))
    others = [
        read_retrieval(write(tmp_path, corpus_jsonl=FILES["corpus_jsonl"].replace('"y"', '"Y"'))),
        read_retrieval(write(tmp_path, qrels_tsv=FILES["qrels_tsv"].replace("c\t2", "c\t1"))),
        only_queries(dataset, ["1"]),
    ]

    assert dataset.sha256 == same.sha256
    assert len({dataset.sha256, *(each.sha256 for each in others)}) == 4


def test_a_slice_keeps_what_its_queries_judge_and_is_the_same_each_time(tmp_path: Path) -> None:
    documents = "".join(f'{{"_id": "d{number}", "text": "text"}}\n' for number in range(100))
    queries = "".join(f'{{"_id": "q{number}", "text": "text"}}\n' for number in range(20))
    judged = "".join(f"q{number}\td{number}\t1\n" for number in range(20))
    dataset = read_retrieval(write(tmp_path, corpus_jsonl=documents, queries_jsonl=queries, qrels_tsv=judged))

    part = sliced(dataset, queries_max=5, documents_max=30)

    assert (len(part.queries), len(part.documents)) == (5, 30)
    assert part.counts["judged_absent"] == 0
    assert list(part.queries) == [query for query in dataset.queries if query in part.queries]
    assert part.sha256 == sliced(dataset, queries_max=5, documents_max=30).sha256
    assert part.sha256 != sliced(dataset, queries_max=5, documents_max=30, seed=1).sha256
    assert len(sliced(dataset, queries_max=5, documents_max=2).documents) == 5
    assert sliced(dataset, queries_max=1000, documents_max=1000) == dataset


def test_judgements_are_chosen_where_there_are_several(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "qrels.tsv").rename(tmp_path / "qrels.dev.tsv")
    assert len(read_retrieval(tmp_path).queries) == 2

    (tmp_path / "qrels.train.tsv").write_text("2\ta\t1\n")
    with pytest.raises(SettingsError, match=r"name one of them: qrels\.dev\.tsv, qrels\.train\.tsv"):
        read_retrieval(tmp_path)
    assert list(read_retrieval(tmp_path, judgements="qrels.train.tsv").queries) == ["2"]

    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("1\ta\t1\n")
    assert list(read_retrieval(tmp_path).queries) == ["1"]


def test_documents_may_be_in_the_service_alone(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "corpus.jsonl").unlink()

    dataset = read_retrieval(tmp_path, has_corpus=False)

    assert (dataset.documents, dataset.counts["judged_absent"]) == ([], 0)
    with pytest.raises(SettingsError, match=r"corpus\.jsonl is missing"):
        read_retrieval(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus_jsonl", '{"_id": "a", "text": "x"}\n{"text": "x"}\n', r"corpus\.jsonl line 2: .*`_id`"),
        ("corpus_jsonl", "nothing\n", r"corpus\.jsonl line 1"),
        ("queries_jsonl", '{"_id": 1, "text": "x"}\n', r"queries\.jsonl line 1: .*`str`"),
        ("queries_jsonl", '{"_id": "1", "text": "x"}\n', r"no line in queries\.jsonl: 3"),
        ("qrels_tsv", "1 a 1\n", r"qrels\.tsv line 1: .*tabs"),
        ("qrels_tsv", "1\ta\t1\n1\tb\tgood\n", r"qrels\.tsv line 2: the grade 'good'"),
        ("qrels_tsv", "query\tdocument\tgrade\n1\ta\t0\n", "no query has a judgement above 0"),
    ],
)
def test_what_is_wrong_is_named_where_it_stands(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_retrieval(write(tmp_path, **{name: text}))


def test_a_folder_without_judgements_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "qrels.tsv").unlink()

    with pytest.raises(SettingsError, match="has no judgements"):
        read_retrieval(tmp_path)


def test_filters_and_metadata_belong_to_the_dataset(tmp_path: Path) -> None:
    plain = read_retrieval(write(tmp_path))
    dataset = read_retrieval(
        write(
            tmp_path,
            corpus_jsonl='{"_id": "a", "title": "T", "text": "x", "metadata": {"team": "red"}}\n{"_id": "c", "text": "y"}\n',
            queries_jsonl='{"_id": "1", "text": "one", "metadata": {"filter": {"team": "red"}}}\n'
            '{"_id": "2", "text": "two"}\n{"_id": "3", "text": "three", "metadata": {"filter": "none", "other": [1]}}\n',
        )
    )

    assert [each.metadata for each in dataset.documents] == [{"team": "red"}, None]
    assert dataset.filters == {"1": {"team": "red"}}
    assert dataset.sha256 != plain.sha256
    assert only_queries(dataset, ["3"]).filters == {}
