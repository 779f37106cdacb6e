"""Judging searches through the service: what is kept, what it replaces, and what goes with what."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlite_utils

from diptych import RetrievalClient
from retrieval.truth.schema import migrations
from shared.errors import Conflict, Forbidden, InvalidFields, NotFound
from tests.harness import RunningRetrieval, make_key, running_retrieval

THEN = datetime(2026, 3, 1, tzinfo=UTC)
QUERY = "how often do keys change?"


@pytest.fixture
async def client(retrieval: RunningRetrieval) -> RetrievalClient:
    await fill(retrieval.client)
    return retrieval.client


async def fill(client: RetrievalClient, collection: str = "guides") -> None:
    texts = {"a": "Keys rotate every 90 days.", "b": "Deploy on Fridays.", "c/d": "Rotate the tyres."}
    await client.ingest(collection, [{"id": name, "text": text} for name, text in texts.items()])


def said(client_page: object) -> list[tuple[str, dict[str, int]]]:
    return [
        (each.query, {judged.document_id: judged.relevance for judged in each.judgments})
        for each in client_page.items  # type: ignore[attr-defined]
    ]


async def test_what_a_search_found_is_judged_and_listed(client: RetrievalClient) -> None:
    hit = (await client.search(QUERY, collection="guides")).hits[0]
    answer = await client.add_feedback(
        "guides",
        QUERY,
        [
            {"document_id": hit.document_id, "chunk_id": hit.chunk_id, "relevance": 3},
            {"document_id": "b", "relevance": "wrong"},
        ],
        comment="found at once",
    )
    (kept,) = (await client.feedback("guides")).items

    assert (answer.status, answer.judged) == ("created", 2)
    assert (kept.id, kept.collection, kept.query, kept.comment, kept.filter) == (
        answer.id,
        "guides",
        QUERY,
        "found at once",
        None,
    )
    assert {(each.document_id, each.chunk_id, each.relevance) for each in kept.judgments} == {
        (hit.document_id, hit.chunk_id, 3),
        ("b", None, 0),
    }


async def test_judging_again_replaces_and_an_older_judgment_does_not(client: RetrievalClient) -> None:
    async def judge(relevance: int | str, day: int, document: str = "a") -> tuple[str, int]:
        judged = [{"document_id": document, "relevance": relevance}]
        answer = await client.add_feedback("guides", QUERY, judged, judged_at=THEN + timedelta(days=day))
        return answer.status, answer.judged

    assert await judge("right", 1) == ("created", 1)
    assert await judge("right", 1) == ("unchanged", 1)
    assert await judge("wrong", 3) == ("changed", 1)
    assert await judge(3, 2) == ("unchanged", 1)
    assert await judge("wrong", 4) == ("unchanged", 1)
    assert await judge(2, 0, "b") == ("changed", 2)
    (kept,) = (await client.feedback()).items
    assert {each.document_id: (each.relevance, each.judged_at.day) for each in kept.judgments} == {
        "a": (0, 5),
        "b": (2, 1),
    }
    assert kept.judged_at == THEN + timedelta(days=4)


async def test_the_same_words_with_another_filter_are_another_query(client: RetrievalClient) -> None:
    right = [{"document_id": "a", "relevance": "right"}]
    first = await client.add_feedback("guides", QUERY, right)
    empty = await client.add_feedback("guides", QUERY, right, filter={})
    narrowed = await client.add_feedback("guides", QUERY, right, filter={"x": 1, "y": 2})
    again = await client.add_feedback("guides", QUERY, right, filter={"y": 2, "x": 1})

    assert first.id == empty.id != narrowed.id == again.id
    assert [each.filter for each in (await client.feedback()).items] == [None, {"x": 1, "y": 2}]


async def test_pages_go_through_all_and_times_narrow_them(client: RetrievalClient) -> None:
    await fill(client, "other")
    for number in range(5):
        right = [{"document_id": "a", "relevance": "right"}]
        moment = THEN + timedelta(days=number)
        await client.add_feedback("other" if number == 4 else "guides", f"q{number}", right, judged_at=moment)

    first = await client.feedback(limit=3)
    rest = await client.feedback(limit=3, cursor=first.next_cursor)
    assert [each.query for each in (*first.items, *rest.items)] == [f"q{number}" for number in range(5)]
    assert rest.next_cursor is None
    assert len((await client.feedback("guides")).items) == 4
    within = await client.feedback(since=THEN + timedelta(days=1), until=THEN + timedelta(days=3))
    assert [each.query for each in within.items] == ["q1", "q2", "q3"]
    with pytest.raises(InvalidFields, match="cursor"):
        await client.feedback(cursor="x")


async def test_what_cannot_be_judged_is_refused_by_field_and_nothing_of_it_is_kept(client: RetrievalClient) -> None:
    with pytest.raises(NotFound, match="no collection"):
        await client.add_feedback("nowhere", QUERY, [{"document_id": "a", "relevance": 1}])
    with pytest.raises(InvalidFields) as caught:
        await client.add_feedback(
            "guides",
            QUERY,
            [
                {"document_id": "a", "relevance": 1},
                {"document_id": "gone", "relevance": 1},
                {"document_id": "b", "chunk_id": 10**6, "relevance": 1},
            ],
        )
    assert [error.path for error in caught.value.errors] == ["$.judgments[1].document_id", "$.judgments[2].chunk_id"]
    for wrong in (
        {"document_id": "a", "relevance": 4},
        {"document_id": "a", "relevance": "good"},
        {"document_id": "a"},
    ):
        with pytest.raises(InvalidFields):
            await client.add_feedback("guides", QUERY, [wrong])
    with pytest.raises(InvalidFields) as caught:
        await client.add_feedback("guides", QUERY, [{"document_id": "a", "relevance": 1}], filter={"x": {"$near": 1}})
    assert caught.value.errors[0].path.startswith("$.filter")
    assert (await client.feedback()).items == []


async def test_a_chunk_is_judged_only_as_its_own_documents(client: RetrievalClient) -> None:
    (chunk,) = (await client.document("guides", "a")).passages
    with pytest.raises(InvalidFields, match="no chunk"):
        await client.add_feedback("guides", QUERY, [{"document_id": "b", "chunk_id": chunk.id, "relevance": 1}])


async def test_judgments_outlive_a_replacement_and_go_with_the_document(client: RetrievalClient) -> None:
    both = [{"document_id": "a", "relevance": "right"}, {"document_id": "c/d", "relevance": "wrong"}]
    await client.add_feedback("guides", QUERY, both)
    await client.add_feedback("guides", "tyres", [{"document_id": "c/d", "relevance": 2}])
    await client.ingest("guides", [{"id": "c/d", "text": "Something else."}])
    assert said(await client.feedback()) == [(QUERY, {"a": 1, "c/d": 0}), ("tyres", {"c/d": 2})]

    await client.delete_document("guides", "c/d")

    assert said(await client.feedback()) == [(QUERY, {"a": 1})]
    report = await client.check()
    assert (report.clean, report.checked["feedback"]) == (True, 1)
    await client.delete_documents("guides", filter={"$not": {"x": 1}})
    assert (await client.feedback()).items == []


async def test_it_goes_with_the_collection_and_by_its_id(client: RetrievalClient) -> None:
    await fill(client, "other")
    right = [{"document_id": "a", "relevance": "right"}]
    one = await client.add_feedback("guides", "one", right)
    await client.add_feedback("guides", "two", right)
    await client.add_feedback("other", "three", right)

    assert (await client.delete_feedback(one.id)).deleted == 1
    with pytest.raises(NotFound, match="no feedback"):
        await client.delete_feedback(one.id)
    await client.delete_collection("guides")
    assert [each.query for each in (await client.feedback()).items] == ["three"]
    with pytest.raises(NotFound):
        await client.feedback("guides")
    await fill(client)
    assert (await client.feedback("guides")).items == []


async def test_no_tenant_sees_what_another_judged_nor_what_there_is_to_judge(tmp_path: Path) -> None:
    mine, other = [await make_key(tmp_path, name) for name in ("mine", "other")]
    async with (
        running_retrieval(tmp_path, key=mine) as running,
        RetrievalClient(running.url, api_key=other) as stranger,
    ):
        await fill(running.client)
        await fill(stranger)
        await stranger.ingest("guides", [{"id": "secret", "text": "x"}])
        kept = await running.client.add_feedback("guides", QUERY, [{"document_id": "a", "relevance": "right"}])

        assert (await stranger.feedback()).items == []
        with pytest.raises(NotFound, match="there is no feedback"):
            await stranger.delete_feedback(kept.id)
        errors: list[str] = []
        for name in ("secret", "nothing"):
            with pytest.raises(InvalidFields) as caught:
                await running.client.add_feedback("guides", QUERY, [{"document_id": name, "relevance": "right"}])
            errors.append(str(caught.value).replace(name, "?"))
        assert errors[0] == errors[1]


async def test_who_may_search_may_judge_and_only_who_may_write_may_delete(tmp_path: Path) -> None:
    writer = await make_key(tmp_path, "t")
    reader = await make_key(tmp_path, "t", "retrieval:read")
    async with (
        running_retrieval(tmp_path, key=writer) as running,
        RetrievalClient(running.url, api_key=reader) as client,
    ):
        await fill(running.client)
        answer = await client.add_feedback("guides", QUERY, [{"document_id": "a", "relevance": "right"}])
        with pytest.raises(Forbidden, match="retrieval:write"):
            await client.delete_feedback(answer.id)
        ((judged,),) = [each.judgments for each in (await client.feedback()).items]
        assert judged.key_id == reader.split("_")[1]
        assert (await running.client.delete_feedback(answer.id)).deleted == 1


async def test_a_tenant_keeps_so_many_and_no_more(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path, feedback_max=2) as running:
        await fill(running.client)
        right = [{"document_id": "a", "relevance": "right"}]
        for query in ("one", "two", "one"):
            await running.client.add_feedback("guides", query, right)
        with pytest.raises(Conflict, match="feedback_max"):
            await running.client.add_feedback("guides", "three", right)


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await fill(running.client)
        await running.client.add_feedback("guides", QUERY, [{"document_id": "a", "relevance": 2}], filter={"x": 1})
        before = await running.client.feedback()
    async with running_retrieval(tmp_path) as running:
        assert await running.client.feedback() == before


@pytest.mark.blocking
def test_collections_from_before_there_was_feedback_take_it_along(tmp_path: Path) -> None:
    for rows in (0, 1):
        database = sqlite_utils.Database(sqlite3.connect(tmp_path / f"{rows}.db"))
        migrations.apply(database, stop_before="m002_fields")
        for _ in range(rows):
            database.execute(
                "INSERT INTO collections (tenant, name, model, chunking, fusion, description, created_at) "
                "VALUES ('t', 'c', 'm', '{}', '{}', '', '')"
            )
        migrations.apply(database)
        assert database.execute("SELECT count(*) FROM feedback").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM collections").fetchone() == (rows,)
        database.close()
