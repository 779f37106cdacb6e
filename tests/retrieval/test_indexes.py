"""Both legs agree with a naive oracle, whatever was added and removed, and the lexical one survives what disks do."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.lexical import LexicalIndex
from retrieval.truth.records import ChunkTexts, TextChanges, VectorChanges
from shared.vectors import Float32Array

DIMENSIONS = 8
pytestmark = pytest.mark.blocking


def unit_vectors(count: int, seed: int) -> Float32Array:
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms


steps = st.lists(
    st.tuples(st.sets(st.integers(1, 30), max_size=8), st.sets(st.integers(1, 30), max_size=8)), min_size=1, max_size=8
)


@given(steps, st.integers(0, 2**16))
def test_the_dense_index_answers_as_a_plain_scan_does(changes: list[tuple[set[int], set[int]]], seed: int) -> None:
    index, oracle = DenseIndex(DIMENSIONS), dict[int, Float32Array]()
    for number, (added, removed) in enumerate(changes, start=1):
        vectors = unit_vectors(len(added), seed + number)
        index.apply(VectorChanges(number, sorted(added), vectors, sorted(removed - added)))
        oracle = {key: value for key, value in oracle.items() if key not in removed}
        oracle.update(zip(sorted(added), vectors, strict=True))

    query = unit_vectors(1, seed)[0]
    expected = sorted(((float(vector @ query), key) for key, vector in oracle.items()), reverse=True)[:5]
    found = index.search(query, 5)
    assert oracle.keys() == index.ids()
    assert [key for _, key in expected] == list(found)
    assert [score for score, _ in expected] == pytest.approx(list(found.values()), abs=1e-5)


def test_searches_run_beside_changes_without_seeing_half_of_one() -> None:
    index = DenseIndex(DIMENSIONS)
    vectors = unit_vectors(64, 1)
    index.apply(VectorChanges(1, list(range(64)), vectors, []))
    wrong: list[object] = []

    def search() -> None:
        for number in range(300):
            found = index.search(vectors[number % 64], 64)
            # Every change replaces all 64, so any other count is half of one.
            if len(found) != 64 or next(iter(found)) % 64 != number % 64:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for step in range(200):
        base = 64 * (step % 2)
        index.apply(VectorChanges(step + 2, list(range(64 - base, 128 - base)), vectors, list(range(base, base + 64))))
    for thread in threads:
        thread.join()

    assert wrong == []


def texts(sequence: int, added: dict[int, str], removed: list[int] | None = None) -> TextChanges:
    return TextChanges(sequence, [ChunkTexts(key, "", "", text) for key, text in added.items()], removed or [])


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.integers(1, 9), st.sampled_from(["red fox", "blue fox", "red hen"])),
            st.sets(st.integers(1, 9)),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=20, deadline=None)
def test_the_lexical_index_holds_what_was_added_and_not_removed(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[dict[int, str], set[int]]]
) -> None:
    directory = tmp_path_factory.mktemp("lexical")
    index, oracle = LexicalIndex(directory, "en"), dict[int, str]()
    for number, (added, removed) in enumerate(changes, start=1):
        gone = removed - added.keys()
        index.apply(texts(number, added, sorted(gone)))
        oracle = {key: text for key, text in oracle.items() if key not in gone} | added

    assert oracle.keys() == index.ids()
    assert {key for key, text in oracle.items() if "red" in text} == index.search("red", 100).keys()
    again = LexicalIndex(directory, "en")
    assert (len(changes), index.ids()) == (again.sequence, again.ids())


def test_applying_a_change_twice_changes_nothing(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path, "en")
    for _ in range(2):
        index.apply(texts(7, {1: "alpha beta", 2: "alpha"}))

    assert {1, 2} == index.ids()
    assert LexicalIndex(tmp_path, "en").sequence == 7


def test_words_are_found_in_title_headings_and_text_whatever_their_ending(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path, "en")
    index.apply(TextChanges(1, [ChunkTexts(1, "Rotating keys", "Security", "Café opens daily")], []))

    for query in ("rotate", "KEY", "security", "cafe", "open"):
        assert {1} == index.search(query, 10).keys(), query


@given(st.text(max_size=200))
@settings(deadline=None)
def test_any_text_is_a_query(tmp_path_factory: pytest.TempPathFactory, query: str) -> None:
    index = LexicalIndex(tmp_path_factory.getbasetemp() / "any-query", "en")
    if index.sequence == 0:
        index.apply(texts(1, {1: "C++ (foo: bar", 2: "AND OR NOT"}))

    assert index.search(query, 10).keys() <= {1, 2}


@pytest.mark.parametrize("damage", ["empty file", "no segments", "garbage"])
def test_a_damaged_directory_is_made_anew_and_starts_from_nothing(tmp_path: Path, damage: str) -> None:
    index = LexicalIndex(tmp_path, "en")
    index.apply(texts(3, {1: "alpha"}))
    folder = next(tmp_path.iterdir())
    match damage:
        case "empty file":
            (folder / "meta.json").write_bytes(b"")
        case "garbage":
            (folder / "meta.json").write_bytes(b'{"not": "tantivy"}')
        case _:
            for segment in folder.glob("*.term"):
                segment.unlink()

    again = LexicalIndex(tmp_path, "en")

    assert (0, set()) == (again.sequence, again.ids())
    again.apply(texts(3, {1: "alpha"}))
    assert {1} == again.search("alpha", 10).keys()


def test_a_missing_directory_is_an_empty_index(tmp_path: Path) -> None:
    index = LexicalIndex(tmp_path, "en")
    index.apply(texts(3, {1: "alpha"}))
    shutil.rmtree(tmp_path)

    assert LexicalIndex(tmp_path, "en").sequence == 0
