"""Filters through a real service: every mode, every way of narrowing, deletes and lists, in both encodings."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.indexes.lexical import LexicalIndex
from retrieval.indexes.narrowing import fetch_depth
from retrieval.truth.records import ChunkTexts, TextChanges
from shared.errors import InvalidFields
from shared.retrieval_messages import SearchAnswer, SearchMode
from tests.harness import RunningRetrieval, raw_session, running_retrieval
from tests.shared.filter_oracle import holds
from tests.test_bad_input import ENCODINGS, packed, send

LANGUAGES = ("en", "de", "fr")
METADATA: dict[str, dict[str, Any]] = {
    f"d{number:02}": {
        "lang": LANGUAGES[number % 3],
        "number": number,
        "tags": ["even" if number % 2 == 0 else "odd", number % 5],
        **({"source": {"path": f"folder/{number % 4}/file"}} if number % 7 else {}),
    }
    for number in range(40)
}
FILTERS: list[dict[str, Any]] = [
    {},
    {"lang": "en"},
    {"number": {"$gte": 10, "$lt": 12}},
    {"tags": {"$contains": "odd"}, "lang": {"$ne": "de"}},
    {"source.path": {"$prefix": "folder/2"}},
    {"source": {"$exists": False}},
    {"$or": [{"number": 3}, {"$and": [{"lang": "fr"}, {"$not": {"tags": {"$contains": 1}}}]}]},
    {"number": {"$in": [1, 2.0, "3"]}},
    {"number": -1},
]


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as running:
        documents = [
            {"id": name, "text": f"the common words and number {name}", "metadata": metadata}
            for name, metadata in METADATA.items()
        ]
        await running.client.ingest("c", documents[:30])
        await running.client.ingest("d", documents[30:])
        yield running


def found(answer: SearchAnswer) -> set[str]:
    return {hit.document_id for hit in answer.hits}


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
async def test_every_mode_finds_exactly_what_matches_over_all_collections(
    filled: RunningRetrieval, mode: SearchMode
) -> None:
    for conditions in FILTERS:
        answer = await filled.client.search("common words", mode=mode, limit=100, filter=conditions)

        assert {name for name, metadata in METADATA.items() if holds(conditions, metadata)} == found(answer), conditions


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_both_encodings_mean_the_same(filled: RunningRetrieval, encoding: str) -> None:
    for conditions in FILTERS:
        body = packed({"query": "common words", "limit": 100, "filter": conditions}, encoding)
        status, answer = await send(filled.url, "/v1/search", body, encoding)

        expected = {name for name, metadata in METADATA.items() if holds(conditions, metadata)}
        assert (status, {hit["document_id"] for hit in answer["hits"]}) == (200, expected)


async def test_a_filter_changes_no_score_and_candidates_are_counted_after_it(filled: RunningRetrieval) -> None:
    whole = await filled.client.search("number d07 d11", mode="dense", collection="c", limit=100)
    some = await filled.client.search(
        "number d07 d11", mode="dense", collection="c", limit=100, candidates=3, filter={"lang": "de"}
    )

    best = [hit for hit in whole.hits if METADATA[hit.document_id]["lang"] == "de"][:3]
    assert {METADATA[hit.document_id]["lang"] for hit in some.hits} == {"de"}
    assert [hit.score for hit in some.hits] == pytest.approx([hit.score for hit in best], rel=1e-5)


async def test_the_plan_says_what_the_filter_left_and_whether_it_was_known(filled: RunningRetrieval) -> None:
    plans = []
    for _ in range(2):
        answer = await filled.client.search("common", filter={"number": {"$lt": 5}}, explain=True)
        assert answer.plan is not None
        assert answer.plan.stages_ms.filter > 0
        plans.append([each.filter for each in answer.plan.collections])

    (first_c, first_d), (again_c, _) = plans
    assert first_c is not None
    assert first_d is not None
    assert again_c is not None
    assert (first_c.matched, first_c.cached, first_c.lexical) == (5, False, "clause")
    assert (first_d.matched, first_d.lexical) == (0, "none")
    assert again_c.cached
    unfiltered = (await filled.client.search("common", explain=True)).plan
    assert unfiltered is not None
    assert unfiltered.collections[0].filter is None


async def test_a_change_of_metadata_alone_is_seen_by_the_next_search(filled: RunningRetrieval) -> None:
    conditions = {"lang": "en", "number": 0}
    assert found(await filled.client.search("common", filter=conditions)) == {"d00"}

    text = "the common words and number d00"
    await filled.client.ingest("c", [{"id": "d00", "text": text, "metadata": {"lang": "de", "number": 0}}])

    assert found(await filled.client.search("common", filter=conditions)) == set()
    assert found(await filled.client.search("common", filter={"lang": "de", "number": 0})) == {"d00"}


async def test_what_matches_is_deleted_and_the_rest_stays(filled: RunningRetrieval) -> None:
    conditions = {"tags": {"$contains": "odd"}}
    deleted = await filled.client.delete_documents("c", filter=conditions)
    again = await filled.client.delete_documents("c", filter=conditions)

    left = {name for name, metadata in METADATA.items() if name >= "d30" or not holds(conditions, metadata)}
    assert (deleted.deleted, again.deleted) == (15, 0)
    assert found(await filled.client.search("common", limit=100)) == left
    assert (await filled.client.check()).clean


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.ids"),
        ({"ids": ["d01"], "filter": {"number": 1}}, "$.ids"),
        ({"filter": {}}, "$.filter"),
        ({"filter": {"number": {"$gt": None}}}, "$.filter.number.$gt"),
        ({"filter": []}, "$.filter"),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_delete_that_could_mean_too_much_is_refused(
    filled: RunningRetrieval, body: dict[str, Any], path: str, encoding: str
) -> None:
    where = "/v1/collections/c/documents/delete"
    status, problem = await send(filled.url, where, packed(body, encoding), encoding)

    assert (status, problem["errors"][0]["path"]) == (422, path)
    assert (await filled.client.collection("c")).documents == 30


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_wrong_filter_names_its_operand_in_a_search(filled: RunningRetrieval, encoding: str) -> None:
    body = packed({"query": "x", "filter": {"$or": [{"year": {"$gte": [1]}}]}}, encoding)
    status, problem = await send(filled.url, "/v1/search", body, encoding)

    assert (status, problem["errors"][0]["path"]) == (422, "$.filter.$or[0].year.$gte")


async def test_documents_are_listed_by_filter_page_by_page(filled: RunningRetrieval) -> None:
    names: list[str] = []
    cursor = None
    while True:
        page = await filled.client.documents("c", filter={"lang": "en"}, cursor=cursor, limit=4)
        names += [each.id for each in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break

    assert names == [name for name, metadata in METADATA.items() if name < "d30" and metadata["lang"] == "en"]
    with pytest.raises(InvalidFields) as caught:
        await filled.client.documents("c", filter={"lang": {"$in": 1}})
    assert caught.value.errors[0].path == "query.filter.lang.$in"
    async with raw_session(filled.url) as session:
        for wrong in ("[]", "x", json.dumps("x")):
            async with session.get("/v1/collections/c/documents", params={"filter": wrong}) as response:
                assert response.status == 422


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> LexicalIndex:
    index = LexicalIndex(tmp_path_factory.mktemp("narrowing"), "en")
    words = np.random.default_rng(1).choice(["red", "blue", "fox", "hen", "the"], size=(400, 6))
    for start in (1, 201):
        texts = [ChunkTexts(start + each, "", "", " ".join(words[start + each - 1])) for each in range(200)]
        index.apply(TextChanges(start, texts, []))
    return index


@pytest.mark.blocking
class TestNarrowing:
    @given(
        st.lists(st.sampled_from(["red", "blue", "fox", "hen", "cow"]), min_size=1, max_size=3),
        st.sets(st.integers(1, 450)),
        st.sampled_from([1, 5, 40]),
    )
    @settings(deadline=None)
    def test_it_gives_the_best_of_the_allowed_with_the_scores_of_all(
        self, index: LexicalIndex, words: list[str], allowed: set[int], limit: int
    ) -> None:
        query = " ".join(words)
        chosen = np.array(sorted(allowed), dtype=np.int64)

        hits, _ = index.search_within(query, limit, chosen)

        everything = index.search(query, 1000)
        expected = [score for chunk_id, score in everything.items() if chunk_id in allowed][:limit]
        assert hits.keys() <= allowed
        assert list(hits.values()) == pytest.approx(expected, rel=1e-5)
        assert [everything[chunk_id] for chunk_id in hits] == pytest.approx(list(hits.values()), rel=1e-5)

    def test_each_way_is_taken_where_it_is_cheaper(self, index: LexicalIndex) -> None:
        everything = np.arange(1, 401, dtype=np.int64)
        blue = np.array(sorted(index.search("blue", 1000)), dtype=np.int64)
        rarely_red = np.array(sorted(set(everything.tolist()) - index.search("red", 1000).keys()), dtype=np.int64)

        assert index.search_within("red", 5, everything)[1] == "post"
        assert index.search_within("red", 5, blue[:5])[1] == "clause"
        hits, way = index.search_within("red", 1, rarely_red)
        assert (hits, way) == ({}, "post+clause")
        assert index.search_within("red", 5, everything[:0]) == ({}, "none")
        assert index.search_within("cow", 5, everything)[0] == {}

    @pytest.mark.parametrize(("allowed", "is_clause"), [(100, True), (1000, True), (2000, False), (90_000, False)])
    def test_the_crossing_is_where_it_was_measured(self, allowed: int, is_clause: bool) -> None:  # noqa: FBT001
        assert (fetch_depth(100, allowed, 100_000) is None) == is_clause
