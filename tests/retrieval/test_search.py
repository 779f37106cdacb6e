"""Search: the three modes, the fusions, budgets and plans, against values worked out apart from the service."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from diptych import Fusion, Vector
from retrieval.models.hash_embedder import HashEmbedder
from shared.errors import InvalidFields, NotFound
from shared.fusion import ListFusion, fuse
from shared.retrieval_messages import CollectionSpec, SearchAnswer
from shared.tokens import estimate_tokens
from tests.harness import RunningRetrieval, running_retrieval

TEXTS = {
    "fox": "the quick brown fox jumps over the lazy dog",
    "hen": "a red hen lays eggs at dawn",
    "dog": "the dog sleeps all day",
    "key": "rotate the api key every ninety days",
}


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as running:
        await running.client.ingest("animals", [{"id": name, "text": text} for name, text in TEXTS.items()])
        yield running


def ids(answer: SearchAnswer) -> list[str]:
    return [hit.document_id for hit in answer.hits]


async def test_the_dense_mode_ranks_by_cosine_similarity(filled: RunningRetrieval) -> None:
    answer = await filled.client.search("the dog", mode="dense", limit=10)

    embedder = HashEmbedder()
    query = embedder.embed(["the dog"], "query")[0]
    expected = {name: float(embedder.embed([text], "document")[0] @ query) for name, text in TEXTS.items()}
    assert sorted(expected, key=lambda name: -expected[name]) == ids(answer)
    assert [expected[name] for name in ids(answer)] == pytest.approx([hit.score for hit in answer.hits], abs=1e-5)
    assert [hit.scores.dense_rank for hit in answer.hits] == [1, 2, 3, 4]
    assert all(hit.scores.lexical is None for hit in answer.hits)


async def test_the_lexical_mode_returns_only_what_shares_a_word(filled: RunningRetrieval) -> None:
    answer = await filled.client.search("sleeping dogs", mode="lexical")

    assert ids(answer) == ["dog", "fox"]
    assert [hit.scores.lexical_rank for hit in answer.hits] == [1, 2]
    assert (await filled.client.search("zebra", mode="lexical")).hits == []


@pytest.mark.parametrize("method", ["relative", "rrf", "dbsf"])
async def test_hybrid_fuses_what_the_legs_said(filled: RunningRetrieval, method: ListFusion) -> None:
    fusion = Fusion(method=method, alpha=0.3, k=7)
    answer = await filled.client.search("the lazy dog", fusion=fusion, limit=10)

    dense = {hit.chunk_id: hit.scores.dense for hit in answer.hits if hit.scores.dense is not None}
    lexical = {hit.chunk_id: hit.scores.lexical for hit in answer.hits if hit.scores.lexical is not None}
    expected = fuse(dense, lexical, method=method, alpha=0.3, k=7)
    assert [chunk for chunk, _ in expected] == [hit.chunk_id for hit in answer.hits]
    assert [score for _, score in expected] == pytest.approx([hit.score for hit in answer.hits], rel=1e-5)


async def test_a_collections_own_fusion_is_used_when_the_request_names_none(filled: RunningRetrieval) -> None:
    own = Fusion(method="rrf", k=5)
    await filled.client.put_collection("animals", CollectionSpec(fusion=own))

    answer = await filled.client.search("dog", collection="animals", explain=True)

    assert answer.plan is not None
    assert own == answer.plan.fusion


async def test_a_vector_can_be_given_instead_of_or_beside_words(filled: RunningRetrieval) -> None:
    vector = Vector(3.0 * HashEmbedder().embed([TEXTS["hen"]], "query")[0])

    alone = await filled.client.search(vector=vector)
    beside = await filled.client.search("api key", vector=vector)

    assert ids(alone)[0] == "hen"
    assert pytest.approx(1.0, abs=1e-5) == alone.hits[0].scores.dense
    assert {"hen", "key"} == set(ids(beside)[:2])


async def test_limit_candidates_and_token_budget_are_kept(filled: RunningRetrieval) -> None:
    assert len((await filled.client.search("the", limit=2)).hits) == 2
    assert len((await filled.client.search("the dog", mode="dense", candidates=1, limit=10)).hits) == 1

    whole = await filled.client.search("the dog", limit=10)
    budget = sum(estimate_tokens(hit.text) for hit in whole.hits[:2])
    packed = await filled.client.search("the dog", limit=10, max_tokens=budget)
    assert ids(whole)[:2] == ids(packed)[:2]
    assert sum(estimate_tokens(hit.text) for hit in packed.hits) <= budget
    assert [hit.text for hit in (await filled.client.search("the dog", max_tokens=1)).hits] == ["the"]


async def test_the_plan_says_what_was_done_and_what_it_took(filled: RunningRetrieval) -> None:
    answer = await filled.client.search("dog", explain=True)

    assert answer.plan is not None
    assert (
        answer.plan.mode,
        answer.plan.model,
        answer.plan.candidates,
        answer.plan.fusion.method,
    ) == ("hybrid", "hash", 100, "adaptive")
    assert answer.plan.dense_weight is not None
    assert 0 < answer.plan.dense_weight < 1
    plan = answer.plan.collections[0]
    assert (plan.collection, plan.dense, plan.lexical, plan.chunks) == ("animals", "exact", "bm25", 4)
    assert plan.sequence == answer.sequence == (await filled.client.collection("animals")).sequence
    stages = answer.plan.stages_ms
    assert 0 < max(stages.embed + stages.dense, stages.lexical) + stages.fuse + stages.fetch <= answer.took_ms + 0.01
    assert (await filled.client.search("dog")).plan is None


async def test_several_collections_are_searched_as_one_and_none_means_all(filled: RunningRetrieval) -> None:
    await filled.client.ingest("plants", [{"id": "oak", "text": "the oak grows slowly"}])
    await filled.client.ingest("rocks", [{"id": "slate", "text": "the slate splits"}])

    both = await filled.client.search("the oak dog", collections=["plants", "animals"])
    everything = await filled.client.search("the slate oak dog")

    assert {"plants", "animals"} == {hit.collection for hit in both.hits}
    assert {"plants", "animals", "rocks"} == {hit.collection for hit in everything.hits}
    assert {"plants"} == {hit.collection for hit in (await filled.client.search("dog oak", collection="plants")).hits}


async def test_an_empty_collection_answers_with_nothing(filled: RunningRetrieval) -> None:
    await filled.client.put_collection("empty")

    answer = await filled.client.search("dog", collection="empty")

    assert (answer.hits, answer.sequence) == ([], 0)


async def test_a_hit_brings_back_what_was_stored_to_the_letter(filled: RunningRetrieval) -> None:
    text = 'zebra \x01 \x1f \x7f \u2028 \ud7ff \U0001f600 "quoted" \\back /slash'
    deep: dict[str, object] = {"end": [1.5, -0.0, 2**63 - 1, None, True, "\x01\u2028"]}
    for _ in range(2):
        deep = {"in": [deep]}
    document = {"id": 'x"\\', "title": '\x01"t"', "uri": "u:\x1f", "text": text, "metadata": {"plain": 1, "deep": deep}}
    await filled.client.ingest("animals", [document])

    (hit,) = (await filled.client.search("zebra", mode="lexical", collection="animals")).hits

    assert (hit.document_id, hit.title, hit.uri, hit.text) == tuple(
        document[name] for name in ("id", "title", "uri", "text")
    )
    assert hit.metadata == document["metadata"]


async def test_equal_scores_come_in_the_same_order_every_time(filled: RunningRetrieval) -> None:
    await filled.client.ingest("same", [{"id": str(number), "text": "equal words"} for number in range(20)])

    answers = [await filled.client.search("equal words", collection="same", limit=20) for _ in range(3)]

    assert ids(answers[0]) == ids(answers[1]) == ids(answers[2])
    chunk_ids = [hit.chunk_id for hit in answers[0].hits]
    assert sorted(chunk_ids) == chunk_ids


@pytest.mark.parametrize(
    ("request_fields", "path"),
    [
        ({}, "$.query"),
        ({"query": "  "}, "$.query"),
        ({"vector": Vector(np.ones(64, np.float32)), "mode": "lexical"}, "$.query"),
        ({"vector": Vector(np.ones(3, np.float32)), "mode": "dense"}, "$.vector"),
        ({"vector": Vector(np.zeros(64, np.float32)), "mode": "dense"}, "$.vector"),
        ({"query": "x", "collection": "animals", "collections": ["animals"]}, "$.collections"),
        ({"query": "x", "limit": 0}, "$.limit"),
        ({"query": "x", "limit": 1001}, "$.limit"),
        ({"query": "x", "candidates": 0}, "$.candidates"),
        ({"query": "x", "collections": []}, "$.collections"),
        ({"query": "x", "mode": "fuzzy"}, "$.mode"),
        ({"query": "x" * 8193}, "$.query"),
        ({"query": "a\x00b"}, "$.query"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused_by_field(
    filled: RunningRetrieval, request_fields: dict[str, object], path: str
) -> None:
    with pytest.raises(InvalidFields) as caught:
        await filled.client.search(**request_fields)  # type: ignore[arg-type]

    assert [path] == [error.path for error in caught.value.errors]


async def test_a_collection_that_does_not_exist_is_named(filled: RunningRetrieval) -> None:
    with pytest.raises(NotFound, match="'nowhere'"):
        await filled.client.search("dog", collections=["animals", "nowhere"])


async def test_embedding_gives_unit_vectors_of_the_model(filled: RunningRetrieval) -> None:
    answer = await filled.client.embed(["one text", "another"], kind="document")

    np.testing.assert_allclose(
        answer.vectors.array, HashEmbedder().embed(["one text", "another"], "document"), rtol=1e-6
    )
    assert answer.model == "hash"
    with pytest.raises(InvalidFields):
        await filled.client.embed(["x"], kind="query", model="other")
