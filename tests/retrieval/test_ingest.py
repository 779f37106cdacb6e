"""Documents in: once, in order, durable, and never more work than needed."""

import asyncio
from pathlib import Path

import pytest

from diptych import RetrievalClient
from retrieval.models.hash_embedder import HashEmbedder
from shared.errors import Conflict, InvalidFields, NotFound, Overloaded
from shared.retrieval_messages import Chunking, CollectionSpec, DocumentIn, IngestAnswer, IngestRequest
from tests.harness import RunningRetrieval, running_retrieval, until
from tests.retrieval.test_batcher import GatedEmbedder, batches


def statuses(answer: IngestAnswer) -> dict[str, str]:
    return {result.id: result.status for result in answer.results or []}


async def test_a_document_is_searchable_when_wait_returns(retrieval: RunningRetrieval) -> None:
    answer = await retrieval.client.ingest("docs", [{"id": "a", "text": "the quick brown fox"}])

    assert (answer.job.status, answer.job.total, answer.job.done, answer.job.failed) == ("succeeded", 1, 1, 0)
    assert statuses(answer) == {"a": "created"}
    assert [hit.document_id for hit in (await retrieval.client.search("fox")).hits] == ["a"]


async def test_the_same_document_again_is_unchanged_and_costs_no_embedding(retrieval: RunningRetrieval) -> None:
    document = {
        "id": "a",
        "text": "# One\n\nalpha\n\n# Two\n\nbeta",
        "content_type": "text/markdown",
        "metadata": {"n": 1},
    }
    await retrieval.client.ingest("docs", [document])
    embedded = len(retrieval.embedder.embedded)
    before = await retrieval.client.collection("docs")

    again = await retrieval.client.ingest("docs", [document])

    assert (statuses(again), (again.results or [])[0].chunks) == ({"a": "unchanged"}, 2)
    assert embedded == len(retrieval.embedder.embedded)
    assert before == await retrieval.client.collection("docs")


async def test_a_changed_document_replaces_and_embeds_only_what_is_new(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest(
        "docs", [{"id": "a", "text": "# One\n\nalpha\n\n# Two\n\nbeta", "content_type": "text/markdown"}]
    )
    retrieval.embedder.embedded.clear()

    answer = await retrieval.client.ingest(
        "docs", [{"id": "a", "text": "# One\n\nalpha\n\n# Two\n\ngamma", "content_type": "text/markdown"}]
    )

    assert statuses(answer) == {"a": "replaced"}
    assert len(retrieval.embedder.embedded) == 1
    assert "gamma" in retrieval.embedder.embedded[0]
    assert not any("beta" in hit.text for hit in (await retrieval.client.search("beta")).hits)


async def test_new_metadata_alone_replaces_without_embedding(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "alpha", "metadata": {"v": 1}}])
    retrieval.embedder.embedded.clear()

    await retrieval.client.ingest("docs", [{"id": "a", "text": "alpha", "metadata": {"v": 2}}])

    assert retrieval.embedder.embedded == []
    assert (await retrieval.client.search("alpha")).hits[0].metadata == {"v": 2}


async def test_a_document_that_is_only_to_be_new_replaces_nothing(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "alpha"}])
    retrieval.embedder.embedded.clear()

    answer = await retrieval.client.ingest(
        "docs", [{"id": "a", "text": "beta", "only_if_new": True}, {"id": "b", "text": "gamma", "only_if_new": True}]
    )
    again = await retrieval.client.ingest("docs", [{"id": "b", "text": "gamma"}])

    assert statuses(answer) == {"a": "unchanged", "b": "created"}
    assert retrieval.embedder.embedded == ["gamma"]
    assert (await retrieval.client.document("docs", "a")).text == "alpha"
    assert statuses(again) == {"b": "unchanged"}


async def test_one_that_was_only_to_be_new_does_not_stand_in_the_way_of_an_earlier_one(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        embedder.let(1)
        await running.client.ingest("docs", [{"id": "a", "text": "alpha"}])
        replacing = await running.client.ingest("docs", [{"id": "a", "text": "beta"}], wait=False)

        skipped = await running.client.ingest("docs", [{"id": "a", "text": "gamma", "only_if_new": True}])
        embedder.let(1)
        await running.service.ingested("default", replacing.job.id)

        assert statuses(skipped) == {"a": "unchanged"}
        assert (await running.client.document("docs", "a")).text == "beta"


async def test_two_documents_with_the_same_text_are_two_documents(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "same"}, {"id": "b", "text": "same"}])
    await retrieval.client.delete_document("docs", "a")

    assert [hit.document_id for hit in (await retrieval.client.search("same")).hits] == ["b"]


async def test_of_an_id_given_twice_the_last_wins_and_the_answer_says_so(retrieval: RunningRetrieval) -> None:
    answer = await retrieval.client.ingest(
        "docs", [{"id": "a", "text": "first"}, {"id": "b", "text": "other"}, {"id": "a", "text": "last"}]
    )

    assert answer.duplicates == ["a"]
    assert statuses(answer) == {"a": "created", "b": "created"}
    assert (await retrieval.client.document("docs", "a")).text == "last"


async def test_a_document_comes_back_as_it_was_sent(retrieval: RunningRetrieval) -> None:
    metadata = {"year": 2024, "tags": ["x", "é"], "deep": {"ok": True, "none": None, "pi": 3.5}}
    await retrieval.client.ingest(
        "docs",
        [
            {
                "id": "a/b c",
                "text": "# T\n\nbody",
                "content_type": "text/markdown",
                "uri": "file:x",
                "metadata": metadata,
            }
        ],
    )

    document = await retrieval.client.document("docs", "a/b c")

    assert ("a/b c", "T", "file:x", metadata, "# T\n\nbody") == (
        document.id,
        document.title,
        document.uri,
        document.metadata,
        document.text,
    )
    assert all(document.text[part.start : part.end] == part.text for part in document.passages)


async def test_bytes_are_ingested_in_both_encodings(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [DocumentIn(id="m", content=b"<h1>Bytes</h1>", content_type="text/html")])
    async with RetrievalClient(retrieval.url, encoding="application/json") as client:
        await client.ingest("docs", [DocumentIn(id="j", content=b"json bytes")])

    assert (await retrieval.client.document("docs", "m")).text == "# Bytes"
    assert (await retrieval.client.document("docs", "j")).text == "json bytes"


async def test_a_document_that_breaks_its_parser_fails_alone_with_a_reason(retrieval: RunningRetrieval) -> None:
    bomb = "<div>" * 20_000 + "x" + "</div>" * 20_000

    answer = await retrieval.client.ingest(
        "docs", [{"id": "bomb", "text": bomb, "content_type": "text/html"}, {"id": "fine", "text": "fine"}]
    )

    assert statuses(answer) == {"bomb": "failed", "fine": "created"}
    assert (answer.job.failed, answer.job.status) == (1, "succeeded")
    assert [(error.id, error.message) for error in answer.job.errors] == [("bomb", "nested too deeply")]


async def test_a_job_in_which_everything_failed_has_failed(retrieval: RunningRetrieval) -> None:
    bomb = "<div>" * 20_000

    answer = await retrieval.client.ingest("docs", [{"id": "bomb", "text": bomb, "content_type": "text/html"}])

    assert answer.job.status == "failed"


async def test_deleting_makes_a_document_unfindable_at_once(retrieval: RunningRetrieval) -> None:
    await retrieval.client.ingest("docs", [{"id": str(number), "text": f"alpha {number}"} for number in range(5)])

    deleted = await retrieval.client.delete_documents("docs", ["1", "3", "3", "missing"])

    assert deleted.deleted == 2
    for mode in ("dense", "lexical", "hybrid"):
        hits = (await retrieval.client.search("alpha", mode=mode)).hits
        assert {"0", "2", "4"} == {hit.document_id for hit in hits}, mode
    with pytest.raises(NotFound):
        await retrieval.client.document("docs", "1")
    with pytest.raises(NotFound):
        await retrieval.client.delete_document("docs", "1")
    assert (await retrieval.client.check()).clean


async def test_deleting_a_collection_takes_everything_and_its_name_can_be_used_again(
    retrieval: RunningRetrieval,
) -> None:
    await retrieval.client.ingest("docs", [{"id": "a", "text": "alpha"}])

    assert (await retrieval.client.delete_collection("docs")).deleted == 1

    with pytest.raises(NotFound):
        await retrieval.client.collection("docs")
    await retrieval.client.ingest("docs", [{"id": "b", "text": "beta"}])
    assert [hit.document_id for hit in (await retrieval.client.search("alpha beta", collection="docs")).hits] == ["b"]
    assert (await retrieval.client.check()).clean


async def test_documents_and_collections_are_listed_page_by_page(retrieval: RunningRetrieval) -> None:
    for name in ("c", "a", "b"):
        await retrieval.client.ingest(name, [{"id": f"{number:02}", "text": "x"} for number in range(5)])

    seen, cursor = list[str](), None
    while True:
        page = await retrieval.client.documents("b", cursor=cursor, limit=2)
        seen += [document.id for document in page.items]
        if page.next_cursor is None:
            break
        cursor = page.next_cursor
    assert seen == ["00", "01", "02", "03", "04"]
    first = await retrieval.client.collections(limit=2)
    assert ([each.name for each in first.items], first.next_cursor) == (["a", "b"], "b")
    rest = await retrieval.client.collections(limit=2, cursor=first.next_cursor)
    assert ([each.name for each in rest.items], rest.next_cursor) == (["c"], None)


async def test_a_collection_keeps_what_it_was_made_with(retrieval: RunningRetrieval) -> None:
    spec = CollectionSpec(chunking=Chunking(max_tokens=64, overlap_tokens=8), description="for tests")
    made = await retrieval.client.put_collection("docs", spec)
    assert (made.chunking.max_tokens, made.description, made.model) == (64, "for tests", "hash")
    await retrieval.client.ingest("docs", [{"id": "a", "text": "alpha"}])

    with pytest.raises(Conflict):
        await retrieval.client.put_collection("docs", CollectionSpec(chunking=Chunking(max_tokens=128)))
    changed = await retrieval.client.put_collection("docs", CollectionSpec(description="new"))

    assert (changed.chunking.max_tokens, changed.description, changed.documents) == (64, "new", 1)
    with pytest.raises(InvalidFields, match="this server embeds with 'hash'"):
        await retrieval.client.put_collection("other", CollectionSpec(model="bigger"))


async def test_without_wait_the_answer_is_202_and_the_job_can_be_followed(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        answer = await running.client.ingest("docs", [{"id": "a", "text": "alpha"}], wait=False)
        assert answer.results is None

        async def succeeded() -> bool:
            return (await running.client.job(answer.job.id)).status == "succeeded"

        await until(succeeded)
        # Succeeded means searchable.
        assert [hit.document_id for hit in (await running.client.search("alpha")).hits] == ["a"]
        assert [answer.job.id] == [job.id for job in (await running.client.jobs(status="succeeded")).items]
        assert (await running.client.jobs(status="running")).items == []


async def test_a_cancelled_job_stores_nothing_more(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        answer = await running.client.ingest(
            "docs", [{"id": str(number), "text": f"text {number}"} for number in range(40)], wait=False
        )
        await batches(embedder, 1)

        cancelled = await running.client.cancel_job(answer.job.id)
        embedder.let(100)

        assert cancelled.status == "cancelled"
        assert (await running.client.collection("docs")).documents == 0
        assert (await running.client.job(answer.job.id)).status == "cancelled"
        # The name is free for the next write, which must not be voided by the cancelled one.
        assert statuses(await running.client.ingest("docs", [{"id": "1", "text": "later"}])) == {"1": "created"}


async def test_a_later_write_and_a_later_delete_win_over_an_earlier_one_that_is_slow(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder) as running:
        early = await running.client.ingest(
            "docs", [{"id": "w", "text": "early write"}, {"id": "d", "text": "early doomed"}], wait=False
        )
        await batches(embedder, 1)
        assert (await running.client.delete_documents("docs", ["d"])).deleted == 0
        late = asyncio.create_task(running.client.ingest("docs", [{"id": "w", "text": "late write"}]))
        embedder.let(100)
        await late

        async def ended() -> bool:
            return (await running.client.job(early.job.id)).status == "succeeded"

        await until(ended)
        assert [document.id for document in (await running.client.documents("docs")).items] == ["w"]
        assert (await running.client.document("docs", "w")).text == "late write"
        assert (await running.client.check()).clean


async def test_more_than_the_queue_holds_is_refused_whole(tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=embedder, ingest_queue_documents_max=3) as running:
        await running.client.ingest("docs", [{"id": "a", "text": "a"}, {"id": "b", "text": "b"}], wait=False)
        for collection in ("docs", "new"):
            with pytest.raises(Overloaded) as caught:
                await running.service.ingest("default", collection, _request("c", "d"))
            assert caught.value.retry_after_s == 5.0
        assert [each.name for each in (await running.client.collections()).items] == ["docs"]
        embedder.let(100)

        async def drained() -> bool:
            return not (await running.client.jobs(status="running")).items

        await until(drained)
        assert {"a", "b"} == {document.id for document in (await running.client.documents("docs")).items}


async def test_what_a_stop_interrupted_is_taken_up_again_and_nothing_is_embedded_twice(tmp_path: Path) -> None:
    gated = GatedEmbedder()
    async with running_retrieval(tmp_path, embedder=gated, ingest_documents_in_flight_max=1) as running:
        answer = await running.client.ingest(
            "docs", [{"id": str(number), "text": f"text {number}"} for number in range(5)], wait=False
        )
        gated.let(2)
        await batches(gated, 3)
        gated.let(100)

    plain = HashEmbedder()
    async with running_retrieval(tmp_path, embedder=plain) as running:

        async def succeeded() -> bool:
            return (await running.client.job(answer.job.id)).status == "succeeded"

        await until(succeeded)
        assert (await running.client.collection("docs")).documents == 5
        assert len(plain.embedded) < 5
        assert (await running.client.check()).clean


def _request(*ids: str) -> IngestRequest:
    return IngestRequest(documents=[DocumentIn(id=each, text=each) for each in ids])
