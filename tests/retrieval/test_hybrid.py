"""Hybrid searches that one leg would spoil, through a real service; what fills in the other leg's scores."""

from pathlib import Path

import numpy as np
import pytest

from diptych import Fusion
from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.lexical import LexicalIndex
from retrieval.searching.hybrid import levels_of_dense, levels_of_lexical
from retrieval.truth.records import ChunkTexts, TextChanges, VectorChanges
from shared.errors import Conflict
from shared.retrieval_messages import CollectionSpec
from shared.vectors import Float32Array, Vector
from tests.harness import running_retrieval

WORDS = ["ant", "bee", "cat", "dog", "eel", "fly", "gnu", "hen"]


def unit(rows: int, *, seed: int) -> Float32Array:
    vectors: Float32Array = np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def test_scores_and_background_are_those_of_a_scan_through_any_changes() -> None:
    index, vectors, query = DenseIndex(8), unit(40, seed=1), unit(1, seed=2)[0]
    assert (index.background(query), index.score(query, [1])) == (0.0, {})
    index.apply(VectorChanges(1, list(range(30)), vectors[:30], []))
    index.apply(VectorChanges(2, list(range(20, 40)), vectors[20:], [3, 4, 99]))
    kept = [item for item in range(40) if item not in {3, 4}]

    assert index.background(query) == pytest.approx(float((vectors[kept] @ query).mean()), abs=1e-6)
    assert index.score(query, [7, 3, 25, 99]) == pytest.approx(
        {item: float(vectors[item] @ query) for item in (7, 25)}, abs=1e-6
    )
    assert index.score(query, []) == {}


def test_both_legs_judge_every_candidate(tmp_path: Path) -> None:
    lexical, dense, vectors = LexicalIndex(tmp_path, "en"), DenseIndex(8), unit(8, seed=3)
    lexical.apply(TextChanges(1, [ChunkTexts(key, "", "", f"{word} zoo") for key, word in enumerate(WORDS)], []))
    dense.apply(VectorChanges(1, list(range(8)), vectors, []))
    near, worded = dense.search(vectors[0], 3), lexical.search("zoo hen", 2)

    dense_levels = levels_of_dense(dense, vectors[0], near, worded)
    lexical_levels = levels_of_lexical(lexical, "zoo hen", worded, dense_levels, is_complete=False)

    assert near.keys() | worded.keys() == dense_levels.keys() == lexical_levels.keys()
    assert dense_levels[0] == pytest.approx(1.0)
    assert all(0.0 < level < 1.0 for level in lexical_levels.values())
    complete = levels_of_lexical(lexical, "hen", lexical.search("hen", 5), near, is_complete=True)
    assert [level for item, level in complete.items() if item != 7] == [0.0] * (len(complete) - 1)


def test_of_what_the_words_did_not_find_the_favourites_are_asked_and_the_rest_is_placed_below_the_last(
    tmp_path: Path,
) -> None:
    lexical = LexicalIndex(tmp_path, "en")
    texts = [f"{'zoo ' * (1 + number // 8)}{WORDS[number % 8]}" for number in range(64)]
    lexical.apply(TextChanges(1, [ChunkTexts(key, "", "", text) for key, text in enumerate(texts)], []))
    worded = lexical.search("zoo", 8)
    unseen = [key for key in range(64) if key not in worded]
    others = {key: 1.0 - place / 100 for place, key in enumerate(unseen[:20])}

    levels = levels_of_lexical(lexical, "zoo", worded, others, is_complete=False)

    exact = levels_of_lexical(lexical, "zoo", lexical.search("zoo", 64), others, is_complete=True)
    last = min(levels[key] for key in worded)
    assert levels.keys() == worded.keys() | others.keys()
    assert {key: levels[key] for key in [*worded, *unseen[:5]]} == {key: exact[key] for key in [*worded, *unseen[:5]]}
    assert [levels[key] for key in unseen[5:20]] == [0.75 * last] * 15
    assert all(exact[key] <= last for key in unseen)


async def test_an_identifier_is_found_though_the_vectors_point_elsewhere(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        texts = [{"id": word, "text": f"all about the {word} and its ways"} for word in WORDS]
        await running.client.ingest("docs", [*texts, {"id": "code", "text": "def parse_http_header(raw): return raw"}])
        # A vector that says nothing of any of them.
        away = Vector(np.ones(running.embedder.dimensions, dtype=np.float32))

        answer = await running.client.search("parseHttpHeader", vector=away)

    assert answer.hits[0].document_id == "code"


async def test_a_query_of_unknown_words_is_left_to_the_vectors(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", [{"id": word, "text": f"the {word}"} for word in WORDS])
        dense = await running.client.search("zyx wvu", mode="dense")
        answer = await running.client.search("zyx wvu", explain=True)

    assert [hit.document_id for hit in dense.hits] == [hit.document_id for hit in answer.hits]
    assert answer.plan is not None
    assert answer.plan.dense_weight == 1.0


async def test_alpha_moves_the_balance_to_either_end(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("docs", [{"id": word, "text": f"the {word} {word[::-1]}"} for word in WORDS])
        ends = {}
        for alpha, mode in ((0.0, "lexical"), (1.0, "dense")):
            answer = await running.client.search("tac dog", fusion=Fusion(alpha=alpha), limit=2)
            ends[mode] = [hit.document_id for hit in answer.hits]
        lexical = await running.client.search("tac dog", mode="lexical", limit=2)
        dense = await running.client.search("tac dog", mode="dense", limit=2)

    assert ends == {
        "lexical": [hit.document_id for hit in lexical.hits],
        "dense": [hit.document_id for hit in dense.hits],
    }


async def test_a_collections_language_is_kept_and_cannot_change_under_its_documents(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        client = running.client
        assert (await client.put_collection("buch", CollectionSpec())).language == "en"
        assert (await client.search("Haus", collection="buch")).hits == []
        assert (await client.put_collection("buch", CollectionSpec(language="de"))).language == "de"
        await client.ingest("buch", [{"id": "1", "text": "die alten Häuser der Stadt"}])
        assert len((await client.search("Haus", collection="buch", mode="lexical")).hits) == 1
        with pytest.raises(Conflict, match="analysed as 'de'"):
            await client.put_collection("buch", CollectionSpec(language="en"))
    async with running_retrieval(tmp_path) as running:
        assert (await running.client.collection("buch")).language == "de"
        assert len((await running.client.search("Haus", collection="buch", mode="lexical")).hits) == 1
