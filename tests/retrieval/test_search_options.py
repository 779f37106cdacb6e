"""What a search may be asked for besides its mode: pages, grouping, no repetition, variety, many collections."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from diptych import Mmr, RetrievalClient
from retrieval.indexes.projections import COLLECTIONS_PER_SLICE
from retrieval.searching.hits import read_vectors
from retrieval.searching.legs import Clock, Fused, Legs, Searched
from retrieval.searching.pages import read_page
from shared.errors import InvalidFields, NotFound
from shared.retrieval_messages import Chunking, CollectionSpec, Fusion, Hit, SearchAnswer, SearchMode, SearchRequest
from tests.harness import RunningRetrieval, make_key, raw_session, running_retrieval, until

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
COPIED = "Every ninety days the amber key of the birch gateway is rotated by whoever is on call that week."
MODES: tuple[SearchMode, ...] = ("hybrid", "dense", "lexical")
OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "grouped": {"group_by_document": True},
    "mmr": {"mmr": Mmr(diversity=0.4)},
    "without duplicates": {"suppress_duplicates": True},
    "filter": {"filter": {"even": True}},
    "all of them": {
        "group_by_document": True,
        "mmr": Mmr(diversity=0.7),
        "suppress_duplicates": True,
        "filter": {"number": {"$lt": 25}},
    },
}
QUERY = "amber key of the birch gateway"


def text_of(number: int) -> str:
    """Three paragraphs, so three chunks; every fifth document begins with the same one."""
    paragraphs = [
        f"The {WORDS[(number + step) % 8]} stands {number} miles from the {WORDS[(number * step + 3) % 8]} and is called {step}."
        for step in (1, 2, 3)
    ]
    if number % 5 == 0:
        paragraphs[0] = COPIED
    return "\n\n".join(paragraphs)


def corpus(start: int = 0, count: int = 30) -> list[dict[str, Any]]:
    return [
        {"id": f"d{number}", "text": text_of(number), "metadata": {"number": number, "even": number % 2 == 0}}
        for number in range(start, start + count)
    ]


async def fill(running: RunningRetrieval) -> None:
    for name, start in (("left", 0), ("right", 15)):
        await running.client.put_collection(name, CollectionSpec(chunking=Chunking(max_tokens=32)))
        await running.client.ingest(name, corpus(start, 15))


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as running:
        await fill(running)
        yield running


async def pages_of(client: RetrievalClient, limits: Sequence[int], **options: Any) -> list[SearchAnswer]:
    """To the last one."""
    answers: list[SearchAnswer] = []
    for limit in cycle(limits):
        cursor = answers[-1].next_cursor if answers else None
        answers.append(await client.search(limit=limit, cursor=cursor, explain=len(answers) % 2 == 0, **options))
        if answers[-1].next_cursor is None:
            return answers
    raise AssertionError("a cycle has no end")


class TestPages:
    @pytest.mark.parametrize("mode", MODES)
    async def test_they_join_without_gap_or_repetition_whatever_is_asked_for(
        self, filled: RunningRetrieval, mode: SearchMode
    ) -> None:
        for name, chosen in OPTIONS.items():
            options = {"query": QUERY, "mode": mode, **chosen}
            whole = await filled.client.search(limit=1000, **options)
            assert whole.next_cursor is None
            assert len(whole.hits) > 10, name
            for limits in ([1], [3, 1, 7], [len(whole.hits)], [len(whole.hits) - 1]):
                answers = await pages_of(filled.client, limits, **options)
                assert [hit for answer in answers for hit in answer.hits] == whole.hits, (name, limits)
                assert all(answer.hits for answer in answers)
                assert {answer.sequence for answer in answers} == {whole.sequence}

    async def test_a_cursor_of_another_search_is_refused(self, filled: RunningRetrieval) -> None:
        first = await filled.client.search(QUERY, limit=2)
        assert first.next_cursor is not None
        place, _, digest = first.next_cursor.partition("-")
        others: list[dict[str, Any]] = [
            {"query": "another"},
            {"query": QUERY, "mode": "dense"},
            {"query": QUERY, "collection": "left"},
            {"query": QUERY, "filter": {"even": True}},
            {"query": QUERY, "candidates": 99},
            {"query": QUERY, "fusion": Fusion(method="rrf")},
            {"query": QUERY, "group_by_document": True},
            {"query": QUERY, "mmr": True},
            {"query": QUERY, "suppress_duplicates": True},
        ]
        for other in others:
            with pytest.raises(InvalidFields, match="cursor"):
                await filled.client.search(cursor=first.next_cursor, **other)
        for cursor in ("", "5", f"-{digest}", f"{place}-{digest[:-1]}", f"{'9' * 7}-{digest}", f"\u0662-{digest}"):
            with pytest.raises(InvalidFields, match="cursor"):
                await filled.client.search(QUERY, cursor=cursor)

    async def test_a_page_past_the_end_is_empty(self, filled: RunningRetrieval) -> None:
        first = await filled.client.search(QUERY, limit=2)
        assert first.next_cursor is not None
        past = await filled.client.search(QUERY, cursor="999-" + first.next_cursor.partition("-")[2])

        assert (past.hits, past.next_cursor) == ([], None)

    @pytest.mark.parametrize("budget", [10, 40, 100, 1000])
    async def test_pages_of_a_budget_show_every_hit(self, filled: RunningRetrieval, budget: int) -> None:
        whole = await filled.client.search(QUERY, limit=100)

        shown: list[tuple[str, int, int]] = []
        cursor = None
        for _ in range(len(whole.hits)):
            page = await filled.client.search(QUERY, limit=3, max_tokens=budget, cursor=cursor)
            shown += [(hit.document_id, hit.start, 10**9 if hit.is_cut else hit.end) for hit in page.hits]
            cursor = page.next_cursor
            if cursor is None:
                break

        assert cursor is None
        for hit in whole.hits:
            assert any(
                document_id == hit.document_id and start <= hit.start and hit.end <= end
                for document_id, start, end in shown
            )


class TestGrouping:
    async def test_a_document_has_one_hit_and_it_is_its_best(self, filled: RunningRetrieval) -> None:
        for mode in MODES:
            every = (await filled.client.search(QUERY, mode=mode, limit=1000)).hits
            grouped = (await filled.client.search(QUERY, mode=mode, limit=1000, group_by_document=True)).hits

            best: dict[tuple[str, str], Hit] = {}
            for hit in every:
                best.setdefault((hit.collection, hit.document_id), hit)
            assert grouped == list(best.values())
            assert len(grouped) < len(every)

    async def test_a_page_is_full_of_documents(self, filled: RunningRetrieval) -> None:
        page = (await filled.client.search(QUERY, limit=12, group_by_document=True)).hits

        assert len({(hit.collection, hit.document_id) for hit in page}) == 12


class TestRepetition:
    async def test_the_best_of_each_kind_names_the_chunks_that_it_stands_for(self, filled: RunningRetrieval) -> None:
        every = (await filled.client.search(QUERY, limit=1000)).hits
        copies = [hit.chunk_id for hit in every if hit.text == COPIED]
        assert len(copies) == 6

        kept = (await filled.client.search(QUERY, limit=1000, suppress_duplicates=True)).hits

        assert [hit.chunk_id for hit in kept if hit.text == COPIED] == copies[:1]
        assert {hit.chunk_id: hit.duplicates for hit in kept if hit.duplicates} == {copies[0]: copies[1:]}
        assert [hit.chunk_id for hit in kept] == [hit.chunk_id for hit in every if hit.chunk_id not in copies[1:]]
        assert all(hit.duplicates is None for hit in every)

    async def test_a_passage_names_what_each_of_its_chunks_stands_for(self, retrieval: RunningRetrieval) -> None:
        first, second = (" ".join(f"{word}{n}" for n in range(25)) for word in ("one", "two"))
        await retrieval.client.put_collection("docs", CollectionSpec(chunking=Chunking(max_tokens=32)))
        for name in ("original", "copy"):
            await retrieval.client.ingest("docs", [{"id": name, "text": f"{first}\n\n{second}"}])
        plain = (await retrieval.client.search("one1 two1", limit=10)).hits
        copies = {hit.chunk_id for hit in plain if hit.document_id == "copy"}
        assert len(copies) == 2

        (passage,) = (
            await retrieval.client.search("one1 two1", limit=10, suppress_duplicates=True, max_tokens=2000)
        ).hits

        assert passage.document_id == "original"
        assert set(passage.duplicates or []) == copies


class TestVariety:
    async def test_the_order_is_that_of_marginal_relevance_over_the_stored_vectors(
        self, filled: RunningRetrieval
    ) -> None:
        diversity = 0.6
        plain = (await filled.client.search(QUERY, limit=1000)).hits
        varied = (await filled.client.search(QUERY, limit=1000, mmr=Mmr(diversity=diversity))).hits
        vectors = await filled.service.store.database.read(
            lambda connection: read_vectors(connection, [hit.chunk_id for hit in plain])
        )

        scores = np.asarray([hit.score for hit in plain])
        relevance = dict(zip([hit.chunk_id for hit in plain], (scores - scores.min()) / np.ptp(scores), strict=True))
        assert [hit.chunk_id for hit in varied] != [hit.chunk_id for hit in plain]
        assert {hit.chunk_id: hit for hit in varied} == {hit.chunk_id: hit for hit in plain}

        def marginal(chunk_id: int, before: Sequence[int]) -> float:
            nearest = max((float(vectors[chunk_id][1] @ vectors[each][1]) for each in before), default=0.0)
            return float((1 - diversity) * relevance[chunk_id] - diversity * max(0.0, nearest))

        order = [hit.chunk_id for hit in varied]
        for place, chosen in enumerate(order[:20]):
            assert (
                marginal(chosen, order[:place]) >= max(marginal(each, order[:place]) for each in order[place:]) - 1e-5
            )

    async def test_no_diversity_changes_nothing(self, filled: RunningRetrieval) -> None:
        plain = await filled.client.search(QUERY, limit=50)
        varied = await filled.client.search(QUERY, limit=50, mmr=Mmr(diversity=0))

        assert [hit.score for hit in varied.hits] == [hit.score for hit in plain.hits]


class TestPlan:
    async def test_a_stage_that_was_not_needed_took_no_time_and_is_not_counted(self, filled: RunningRetrieval) -> None:
        answer = await filled.client.search(QUERY, mode="lexical", explain=True)

        assert answer.plan is not None
        stages = answer.plan.stages_ms
        assert (stages.embed, stages.dense, stages.rerank) == (0, 0, 0)
        assert min(stages.resolve, stages.lexical, stages.fuse, stages.fetch) > 0
        assert [(plan.collection, plan.dense, plan.lexical) for plan in answer.plan.collections] == [
            ("left", "off", "bm25"),
            ("right", "off", "bm25"),
        ]
        async with raw_session(filled.url) as session, session.get("/metrics") as response:
            counts = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if line[0] != "#")
        assert counts['diptych_search_seconds_count{stage="lexical"}'] == "1.0"
        assert counts['diptych_search_seconds_count{stage="rerank"}'] == "0.0"

    async def test_the_sequence_is_never_ahead_of_what_was_searched(self, retrieval: RunningRetrieval) -> None:
        """Whatever is written meanwhile, an answer holds all that its sequence promises."""
        numbers: dict[int, int] = {}

        async def write() -> None:
            for number in range(25):
                await retrieval.client.ingest("docs", [{"id": str(number), "text": f"alpha {number}"}])
                numbers[number] = (await retrieval.client.collection("docs")).sequence

        async def look() -> None:
            while not writing.done():
                try:
                    answers = await asyncio.gather(
                        *(retrieval.client.search("alpha", collection="docs", limit=100) for _ in range(4))
                    )
                except NotFound:  # it has not begun
                    continue
                for answer in answers:
                    promised = {str(number) for number, sequence in numbers.items() if sequence <= answer.sequence}
                    assert promised <= {hit.document_id for hit in answer.hits}

        writing = asyncio.create_task(write())
        await asyncio.gather(writing, look())


class TestManyCollections:
    COUNT = COLLECTIONS_PER_SLICE + 5

    async def fill(self, running: RunningRetrieval) -> list[str]:
        names = [f"c{number:02}" for number in range(self.COUNT)]
        await asyncio.gather(*(running.client.ingest(name, corpus(3 * number, 3)) for number, name in enumerate(names)))
        return names

    @pytest.mark.parametrize("mode", ["dense", "lexical"])
    async def test_more_than_are_held_at_once_answer_as_one_by_one(self, tmp_path: Path, mode: SearchMode) -> None:
        async with running_retrieval(tmp_path, open_collections_max=4) as running:
            names = await self.fill(running)
            for wanted in (None, {"even": True}):
                alone = [
                    hit
                    for name in names
                    for hit in (
                        await running.client.search(QUERY, mode=mode, collection=name, filter=wanted, limit=100)
                    ).hits
                ]
                expected = sorted(alone, key=lambda hit: (-hit.score, hit.chunk_id))[:40]

                found = await running.client.search(
                    QUERY, mode=mode, filter=wanted, limit=40, candidates=40, explain=True
                )

                assert [(hit.chunk_id, hit.score, hit.text) for hit in found.hits] == [
                    (hit.chunk_id, hit.score, hit.text) for hit in expected
                ]
                assert found.plan is not None
                assert [plan.collection for plan in found.plan.collections] == names

    @pytest.mark.parametrize("method", ["adaptive", "rrf", "relative"])
    @pytest.mark.parametrize("candidates", [5, 100])
    async def test_slices_fuse_as_all_at_once(self, tmp_path: Path, method: Any, candidates: int) -> None:
        async with running_retrieval(tmp_path) as running:
            names = await self.fill(running)
            rows = await running.service.store.collections("default", names)
            opened = [await running.service.projections.of(row) for row in rows]
            vector = running.embedder.embed([QUERY], "query")[0]
            request = SearchRequest(query=QUERY, candidates=candidates)

            def fused(size: int) -> Fused:
                legs = Legs(request, Fusion(method=method), Clock(), models=["hash"] * len(opened))
                for start in range(0, len(opened), size):
                    some = opened[start : start + size]
                    legs.ask(
                        [Searched(each, each.sequence, "hash", each.legs["hash"].index) for each in some],
                        {"hash": vector},
                    )
                return legs.fused()

            at_once = await asyncio.to_thread(fused, len(opened))
            assert len(at_once.dense) == len(at_once.lexical) == min(candidates, len(at_once.dense))
            assert at_once.order
            for size in (1, 4):
                assert await asyncio.to_thread(fused, size) == at_once

    async def test_searches_answer_the_same_while_collections_close_and_are_rebuilt(self, tmp_path: Path) -> None:
        async with running_retrieval(tmp_path, open_collections_max=2, collection_idle_s=0.01) as running:
            names = await self.fill(running)

            async def found() -> dict[int, tuple[str, float | None]]:
                hits = (await running.client.search(QUERY, limit=1000, candidates=1000)).hits
                return {hit.chunk_id: (hit.text, hit.scores.dense) for hit in hits}

            # BM25 counts what was deleted until an index is made anew, so its scores move a little.
            expected = await found()
            assert len(expected) == 3 * self.COUNT

            async def look() -> None:
                for _ in range(6):
                    assert await found() == expected

            async def rebuild() -> None:
                for name in names[:6]:
                    await running.client.rebuild(name)

            await asyncio.gather(look(), look(), rebuild())
            assert (await running.client.check()).findings == []

    async def test_a_collection_deleted_meanwhile_is_skipped_unless_it_was_named(
        self, filled: RunningRetrieval
    ) -> None:
        projections, store = filled.service.projections, filled.service.store
        rows = await store.collections("default", None)
        await filled.client.delete_collection("left")

        async def names(*, skip_deleted: bool) -> list[str]:
            slices = projections.in_slices(rows, skip_deleted=skip_deleted)
            return [row.name async for some in slices for row, _ in some]

        assert await names(skip_deleted=True) == ["right"]
        with pytest.raises(NotFound, match="'left'"):
            await names(skip_deleted=False)
        # Another one of its name is not the one that was meant.
        await filled.client.ingest("left", corpus(0, 1))
        assert await names(skip_deleted=True) == ["right"]
        with pytest.raises(NotFound, match="'left'"):
            await names(skip_deleted=False)

    async def test_searching_everything_goes_on_while_collections_come_and_go(self, filled: RunningRetrieval) -> None:
        async def come_and_go(name: str) -> None:
            for _ in range(8):
                await filled.client.ingest(name, corpus(100, 2))
                await filled.client.delete_collection(name)

        async def look() -> None:
            while not all(task.done() for task in going):
                assert {"left", "right"} <= {
                    hit.collection for hit in (await filled.client.search(QUERY, limit=100)).hits
                }

        going = [asyncio.create_task(come_and_go(name)) for name in ("one", "two", "three")]
        await asyncio.gather(look(), *going)


class TestWhatIsNotThere:
    @pytest.mark.parametrize("name", OPTIONS)
    async def test_a_tenant_without_anything_finds_nothing(self, tmp_path: Path, name: str) -> None:
        token = await make_key(tmp_path, "empty", "retrieval:read")
        async with running_retrieval(tmp_path, key=token) as running:
            for mode in MODES:
                answer = await running.client.search(QUERY, mode=mode, explain=True, **OPTIONS[name])
                assert (answer.hits, answer.next_cursor, answer.sequence) == ([], None, 0)
                assert answer.plan is not None
                assert answer.plan.collections == []

    async def test_a_limit_above_what_there_is_gives_all(self, filled: RunningRetrieval) -> None:
        answer = await filled.client.search(QUERY, mode="dense", limit=1000, candidates=1000)

        assert answer.next_cursor is None
        assert len(answer.hits) == sum(each.chunks for each in (await filled.client.collections()).items)

    @pytest.mark.parametrize("name", OPTIONS)
    async def test_a_chunk_deleted_since_the_indexes_were_asked_is_left_out(
        self, filled: RunningRetrieval, name: str
    ) -> None:
        options = {key: value for key, value in OPTIONS[name].items() if key != "filter"}
        hits = (await filled.client.search(QUERY, limit=1000)).hits
        fused = Fused([(hit.chunk_id, hit.score) for hit in hits], {hit.chunk_id: hit.score for hit in hits}, {})
        gone = hits[0]
        await filled.client.delete_document(gone.collection, gone.document_id)

        for budget in (None, 100_000):
            request = SearchRequest(query=QUERY, limit=1000, max_tokens=budget, **options)

            def page(request: SearchRequest, connection: sqlite3.Connection) -> list[Hit]:
                return read_page(connection, request, fused, None)[0]

            found = await filled.service.store.database.read(partial(page, request))

            documents = {(hit.collection, hit.document_id) for hit in found}
            assert (
                documents == {(hit.collection, hit.document_id) for hit in hits} - {(gone.collection, gone.document_id)}
                or "suppress_duplicates" in options
            )
            assert (gone.collection, gone.document_id) not in documents


class TestDamage:
    async def test_it_is_answered_with_503_and_heals(self, filled: RunningRetrieval) -> None:
        body = {"query": QUERY, "mode": "lexical", "limit": 1000}
        expected = {hit.chunk_id for hit in (await filled.client.search(QUERY, mode="lexical", limit=1000)).hits}
        await asyncio.to_thread(_overwrite, filled.settings.directory / "lexical")

        async with raw_session(filled.url) as session:
            async with session.post("/v1/search", json=body) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")

            async def is_healed() -> bool:
                async with session.post("/v1/search", json=body) as response:
                    hits = (await response.json(content_type=None)).get("hits", [])
                    return {hit["chunk_id"] for hit in hits} == expected

            await until(is_healed)
        assert (await filled.client.check()).findings == []

    async def test_what_was_healed_since_it_was_found_is_left_alone(self, filled: RunningRetrieval) -> None:
        row = await filled.service.store.collection("default", "left")
        indexes = await filled.service.projections.of(row)
        found_damaged = indexes.lexical.version
        await filled.service.projections.repair(row, found_damaged)
        await filled.service.projections.reach(row)
        healed = indexes.lexical.version

        await filled.service.projections.repair(row, found_damaged)

        assert healed != found_damaged
        assert (indexes.lexical.version, indexes.lexical.sequence) == (healed, indexes.dense.sequence)


def _overwrite(folder: Path) -> None:
    """In place: the service has the files mapped into memory."""
    for path in folder.rglob("*.idx"):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)


async def test_both_encodings_answer_the_same_and_take_each_others_cursor(filled: RunningRetrieval) -> None:
    vector = filled.embedder.embed([QUERY], "query")[0]
    options: dict[str, Any] = {
        "query": QUERY,
        "limit": 4,
        "mmr": {"diversity": 0.5},
        "suppress_duplicates": True,
        "group_by_document": True,
        "filter": {"number": {"$lt": 28}},
        "fusion": {"alpha": 0.25},
    }
    as_json = {**options, "vector": vector.tolist()}
    packed = {**options, "vector": {"dtype": "float32", "shape": [len(vector)], "data": vector.tobytes()}}
    async with raw_session(filled.url) as session:

        async def ask(body: dict[str, Any], *, is_packed: bool) -> dict[str, Any]:
            kind = "application/msgpack" if is_packed else "application/json"
            data = msgpack.packb(body) if is_packed else json.dumps(body).encode()
            async with session.post("/v1/search", data=BytesIO(data), headers={"Content-Type": kind}) as response:
                assert (response.status, response.content_type) == (200, kind)
                raw = await response.read()
            answer: dict[str, Any] = msgpack.unpackb(raw) if is_packed else json.loads(raw)
            del answer["took_ms"]
            return answer

        first = await ask(as_json, is_packed=False)
        assert await ask(packed, is_packed=True) == first
        cursor = first["next_cursor"]
        second = await ask({**as_json, "cursor": cursor}, is_packed=False)
        assert await ask({**packed, "cursor": cursor}, is_packed=True) == second
        assert second["hits"] != first["hits"]
