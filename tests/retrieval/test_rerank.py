"""Reranking with a real cross-encoder: tiny, with random weights that are always the same."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sentence_transformers import CrossEncoder

from diptych import Mmr, Rerank, Vector
from retrieval.models.cross_encoder import SentenceTransformerCrossScorer
from retrieval.models.reranker import Reranker
from retrieval.settings import RetrievalSettings
from shared.errors import InvalidFields, Overloaded, SettingsError
from shared.retrieval_messages import Hit
from shared.settings import load_settings
from tests.diptych.command import Shell
from tests.harness import PROCESS_WAIT_S, WAIT_S, RunningRetrieval, clean_environment, running_retrieval
from tests.retrieval.models import make_cross_encoder, packaged
from tests.retrieval.test_search_options import COPIED, QUERY, fill, pages_of


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
async def filled(tmp_path: Path, cross_encoder: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path, rerank_models=(str(cross_encoder),)) as running:
        await fill(running)
        yield running


def scores_of(model: Path, texts: Sequence[str]) -> list[float]:
    found = CrossEncoder(str(model)).predict([(QUERY, text) for text in texts], show_progress_bar=False)
    return [float(score) for score in found]


@pytest.mark.blocking  # the model is also asked here, directly
class TestOrder:
    async def test_it_is_that_of_the_cross_encoder_over_the_best_by_fusion(
        self, filled: RunningRetrieval, cross_encoder: Path
    ) -> None:
        depth = 20
        plain = (await filled.client.search(QUERY, limit=1000)).hits
        answer = await filled.client.search(QUERY, limit=depth, rerank=Rerank(depth=depth), explain=True)

        # Documents without a title: what the model reads is the text.
        scores = scores_of(cross_encoder, [hit.text for hit in plain[:depth]])
        expected = {hit.chunk_id: score for hit, score in zip(plain, scores, strict=False)}
        assert len(set(scores)) > depth // 2
        assert {hit.chunk_id for hit in answer.hits} == expected.keys()
        assert [hit.scores.rerank for hit in answer.hits] == [hit.score for hit in answer.hits]
        for hit in answer.hits:
            assert hit.score == pytest.approx(expected[hit.chunk_id], abs=1e-6)
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
        assert [hit.chunk_id for hit in answer.hits] != [hit.chunk_id for hit in plain[:depth]]
        before = {hit.chunk_id: hit.scores for hit in plain}
        assert all(hit.scores.dense == before[hit.chunk_id].dense for hit in answer.hits)
        assert answer.plan is not None
        assert answer.plan.stages_ms.rerank > 0

    async def test_the_model_reads_the_place_and_the_context_of_a_chunk(
        self, retrieval_with_table: RunningRetrieval, cross_encoder: Path
    ) -> None:
        (hit,) = (await retrieval_with_table.client.search("bolt11", limit=1, rerank=True)).hits
        document = await retrieval_with_table.client.document("docs", "a")
        assert any(passage.context for passage in document.passages)
        (passage,) = (each for each in document.passages if each.id == hit.chunk_id)
        read = "\n".join(part for part in ("Parts > Bolts", passage.context, passage.text) if part)

        found = CrossEncoder(str(cross_encoder)).predict([("bolt11", read)], show_progress_bar=False)

        assert hit.score == pytest.approx(float(found[0]), abs=1e-6)


@pytest.fixture
async def retrieval_with_table(tmp_path: Path, cross_encoder: Path) -> AsyncIterator[RunningRetrieval]:
    rows = "\n".join(f"| bolt{n} | {n} mm |" for n in range(40))
    text = f"## Bolts\n\n| fastener | diameter |\n|---|---|\n{rows}\n"
    async with running_retrieval(tmp_path, rerank_models=(str(cross_encoder),)) as running:
        await running.client.ingest(
            "docs", [{"id": "a", "title": "Parts", "text": text, "content_type": "text/markdown"}]
        )
        yield running


class TestTogether:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"mode": "dense"},
            {"mode": "lexical"},
            {"group_by_document": True},
            {"mmr": Mmr(diversity=0.4)},
            {"suppress_duplicates": True},
            {"filter": {"even": True}, "group_by_document": True, "mmr": True, "suppress_duplicates": True},
        ],
        ids=str,
    )
    async def test_pages_join(self, filled: RunningRetrieval, options: dict[str, Any]) -> None:
        options = {"query": QUERY, "rerank": Rerank(depth=30), **options}
        whole = await filled.client.search(limit=30, **options)
        assert whole.next_cursor is None
        assert whole.hits

        answers = await pages_of(filled.client, [4, 1, 9], **options)

        assert [_without_noise(hit) for answer in answers for hit in answer.hits] == [
            _without_noise(hit) for hit in whole.hits
        ]

    async def test_the_best_by_the_cross_encoder_stands_for_its_copies(self, filled: RunningRetrieval) -> None:
        answer = await filled.client.search(QUERY, limit=50, rerank=True, suppress_duplicates=True)

        (kept,) = (hit for hit in answer.hits if hit.text == COPIED)
        assert len(kept.duplicates or []) == 5

    async def test_a_budget_packs_what_was_reranked(self, filled: RunningRetrieval) -> None:
        best = (await filled.client.search(QUERY, rerank=True, limit=1)).hits[0]
        packed = (await filled.client.search(QUERY, rerank=True, limit=5, max_tokens=500)).hits

        assert packed[0].chunk_id == best.chunk_id
        assert packed[0].scores.rerank == pytest.approx(best.scores.rerank, abs=1e-6)

    async def test_nothing_found_is_nothing_reranked(self, filled: RunningRetrieval) -> None:
        answer = await filled.client.search("zzz", mode="lexical", rerank=True)

        assert (answer.hits, answer.next_cursor) == ([], None)


def _without_noise(hit: Hit) -> tuple[int, float, list[int] | None]:
    return hit.chunk_id, round(hit.score, 5), hit.duplicates


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "path", "words"),
        [
            ({"rerank": Rerank(model="other")}, "$.rerank.model", "this server may rerank with"),
            ({"rerank": Rerank(depth=9), "limit": 10}, "$.rerank.depth", "is below limit (10)"),
            ({"query": None, "rerank": True, "mode": "dense"}, "$.rerank", "give a query"),
        ],
    )
    async def test_they_name_the_field(
        self, filled: RunningRetrieval, fields: dict[str, Any], path: str, words: str
    ) -> None:
        vector = {"vector": _vector(filled)} if "query" in fields else {}
        with pytest.raises(InvalidFields) as caught:
            await filled.client.search(**{"query": QUERY, **vector, **fields})

        assert [error.path for error in caught.value.errors] == [path]
        assert words in caught.value.errors[0].message

    async def test_a_server_without_a_model_says_so(self, retrieval: RunningRetrieval) -> None:
        for model in (None, "any"):
            with pytest.raises(InvalidFields, match="may rerank with none"):
                await retrieval.client.search("x", rerank=Rerank(model=model))


def _vector(running: RunningRetrieval) -> Any:
    return Vector(running.embedder.embed([QUERY], "query")[0])


class Noting(SentenceTransformerCrossScorer):
    """The real one, and what it was asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked: list[tuple[str, int]] = []

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((query, len(texts)))
        return super().score(query, texts)


class Gated(Noting):
    """Says when it begins, and waits to be let on."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.begun, self.gate = threading.Event(), threading.Event()

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        self.begun.set()
        self.gate.wait(WAIT_S)
        return super().score(query, texts)


@pytest.mark.blocking  # loads models
class TestQueue:
    async def test_it_is_bounded_and_who_goes_away_is_not_worked_for(self, cross_encoder: Path) -> None:
        scorer, gate = Noting(str(cross_encoder)), threading.Event()
        texts = {number: f"text {number} " * (number + 1) for number in range(40)}
        with ThreadPoolExecutor(1) as threads:
            reranker = Reranker(["tiny"], lambda _: scorer, threads=threads, queue_max=3, registry=CollectorRegistry())
            await reranker.start()
            threads.submit(gate.wait, WAIT_S)

            async def ask(query: str) -> dict[int, float]:
                return await reranker.scores("tiny", query, texts)

            first, gone, second = (asyncio.create_task(ask(query)) for query in ("first", "gone", "second"))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as caught:
                await ask("one too many")
            assert caught.value.retry_after_s == 2.0
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            third = asyncio.create_task(ask("third"))
            gate.set()
            async with asyncio.timeout(WAIT_S):
                found = await asyncio.gather(first, second, third)
        assert all(list(each) == list(dict.fromkeys(each)) and each.keys() == texts.keys() for each in found)
        # One after the other, in batches.
        assert [query for query, _ in scorer.asked] == ["first"] * 3 + ["second"] * 3 + ["third"] * 3
        assert [count for _, count in scorer.asked[:3]] == [16, 16, 8]

    async def test_a_search_that_is_given_up_ends_after_its_batch(self, cross_encoder: Path) -> None:
        scorer, texts = Gated(str(cross_encoder)), dict.fromkeys(range(100), "text")
        with ThreadPoolExecutor(1) as threads:
            reranker = Reranker(["tiny"], lambda _: scorer, threads=threads, queue_max=3, registry=CollectorRegistry())
            await reranker.start()
            task = asyncio.create_task(reranker.scores("tiny", "gone", texts))
            await asyncio.to_thread(scorer.begun.wait, WAIT_S)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            scorer.gate.set()
            await reranker.scores("tiny", "next", {1: "text"})
        assert scorer.asked == [("gone", 16), ("next", 1)]


class TestModels:
    def test_names_come_with_commas_from_a_flag_or_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert load_settings(RetrievalSettings, {}).rerank_models == ()
        assert load_settings(RetrievalSettings, {"rerank_models": "a, b/c ,"}).rerank_models == ("a", "b/c")
        monkeypatch.setenv("DIPTYCH_RETRIEVAL_RERANK_MODELS", "x,y")
        assert load_settings(RetrievalSettings, {}).rerank_models == ("x", "y")

    async def test_the_first_is_taken_when_none_is_named(self, tmp_path: Path, cross_encoder: Path) -> None:
        other = await asyncio.to_thread(make_cross_encoder, tmp_path / "other", seed=8)
        async with running_retrieval(tmp_path, rerank_models=(str(cross_encoder), str(other))) as running:
            await fill(running)

            async def scores(model: str | None) -> list[float]:
                return [hit.score for hit in (await running.client.search(QUERY, rerank=Rerank(model=model))).hits]

            assert await scores(None) == pytest.approx(await scores(str(cross_encoder)), abs=1e-6)
            assert await scores(None) != pytest.approx(await scores(str(other)), abs=1e-3)
            async with asyncio.timeout(WAIT_S):
                shell = Shell({"DIPTYCH_RETRIEVAL_URL": running.url})
                done = await shell.run("--json", "search", QUERY, "--rerank-model", str(other), "-n", "60")
            assert done.code == 0
            assert len(done.json["hits"]) > 50
            assert all("rerank" in hit["scores"] for hit in done.json["hits"])

    @pytest.mark.blocking
    @pytest.mark.parametrize("kind", ["missing", "damaged", "classifier", "embedding model"])
    def test_what_cannot_rerank_is_refused_with_the_reason(self, tmp_path: Path, kind: str) -> None:
        folder = tmp_path / "model"
        match kind:
            case "missing":
                words = "could not be loaded"
            case "damaged":
                make_cross_encoder(folder)
                weights = folder / "model.safetensors"
                weights.write_bytes(weights.read_bytes()[:4000])
                words = "could not be loaded"
            case "classifier":
                make_cross_encoder(folder, labels=3)
                words = "tells 3 classes apart"
            case _:
                folder = packaged()
                words = "has no part that gives a score"
        with pytest.raises(SettingsError, match=words):
            SentenceTransformerCrossScorer(str(folder))

    async def test_a_wrong_name_ends_the_start_with_2_and_the_name(self, tmp_path: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "retrieval", "--port", "0", "--data-dir", str(tmp_path)),
            *("--rerank-models", f"{tmp_path}/nowhere,other"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(),
        )
        async with asyncio.timeout(PROCESS_WAIT_S):
            _, err = await process.communicate()

        last = err.decode().strip().splitlines()
        assert process.returncode == 2
        assert any(f"the reranking model '{tmp_path}/nowhere' could not be loaded" in line for line in last)
        assert "Traceback" not in err.decode()
