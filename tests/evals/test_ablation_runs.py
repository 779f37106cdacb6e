"""The ablations themselves, over tiny sets against real services."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from diptych import DocumentIn, TurnIn
from diptych.evaluation.conversations import Conversation, MemoryDataset, Question
from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.memory_runs import Owner, fill_memory
from diptych.evaluation.progress import progress_bar
from diptych.evaluation.retrieval_runs import SearchSettings, evaluate_retrieval, fill_collection
from diptych.evaluation.services import Services
from evals import ablation_memory, ablation_retrieval
from evals.ablation_memory import measure_memory, shown, stood_for
from evals.ablation_retrieval import RERANKED, WAYS, measure_parts, untitled
from evals.ablations import DEFAULT, rows_of
from shared.memory_messages import Recalled, RecallKind, RecallScores, Turn
from shared.retrieval_messages import Mmr
from tests.harness import running_memory, running_retrieval
from tests.retrieval.models import make_cross_encoder

MOMENT = datetime(2024, 3, 5, tzinfo=UTC)


def talk() -> Conversation:
    said = [f"about word{number} again" for number in range(12)]
    sessions = {
        name: [
            TurnIn(id=f"{name}{number}", role="user", content=text, created_at=MOMENT + timedelta(days=number))
            for number, text in enumerate(said[part])
        ]
        for name, part in (("a", slice(6)), ("b", slice(6, 12)))
    }
    session_of = {turn.id or "": name for name, turns in sessions.items() for turn in turns}
    questions = [
        Question("1", "word2", "", frozenset({"a2"})),
        Question("2", "word9 word8", "", frozenset({"b2", "b3"})),
    ]
    return Conversation("talk", sessions, session_of, MOMENT + timedelta(days=6), questions)


def recalled(turn: str, *, text: str = "x", kind: RecallKind = "turn", **given: Any) -> Recalled:
    return Recalled(kind=kind, id=turn, text=text, created_at=MOMENT, score=1.0, scores=RecallScores(), **given)


def stored(turn: str) -> Turn:
    return Turn(id=turn, seq=1, role="user", content=f"text of {turn}", created_at=MOMENT, metadata={}, tokens=1)


def test_what_is_shown_beside_several_turns_is_counted_once() -> None:
    items = [
        recalled("b", text="text of b", before=[stored("a")], after=[stored("c")]),
        recalled("c", text="text of c", before=[stored("b")], after=[stored("d")]),
    ]

    assert list(shown(items)) == ["a", "b", "c", "d"]
    assert shown(items)["b"] == "text of b"


def test_a_span_stands_for_its_turns_and_a_fact_for_none() -> None:
    conversation, owner = talk(), Owner("run/")
    span = recalled("s", kind="span", session_id="run/talk/b", first_seq=2, last_seq=4)

    assert stood_for(span, conversation, owner) == ["b1", "b2", "b3"]
    assert stood_for(recalled("a2"), conversation, owner) == ["a2"]
    assert stood_for(recalled("f", kind="fact"), conversation, owner) == []


def test_documents_lose_their_titles_and_nothing_else() -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[DocumentIn(id="1", text="x", title="T")],
        queries={"1": "x"},
        judgements={"1": {"1": 1}},
    )

    (document,) = untitled(golden).documents
    assert (document.id, document.text, document.title) == ("1", "x", None)
    assert untitled(golden).judgements == golden.judgements


@pytest.mark.blocking
async def test_every_part_of_a_search_is_measured(tmp_path: Path) -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[DocumentIn(id=word, title=word, text=f"they are {word}ing") for word in ("jump", "run", "swim")],
        queries={"1": "jumps", "2": "runs"},
        judgements={"1": {"jump": 1}, "2": {"run": 1}},
    )
    async with running_retrieval(tmp_path) as running:
        measured = await measure_parts(running.client, golden, progress_bar(quiet=True))

    parts = {
        row.part: row for row in rows_of(measured, metric=ablation_retrieval.METRIC, shown=ablation_retrieval.SHOWN)
    }
    assert len(parts) == len(measured) == len(WAYS) + 7
    assert parts[DEFAULT].scores["nDCG@10"] == 1.0
    assert parts["words alone"].scores["recall@10"] == 1.0
    # "jumps" is neither "jumping" nor "jump" where endings stay.
    stemless = parts["words alone, without stemming and stop words"]
    assert (stemless.base, stemless.scores["recall@10"]) == ("words alone", 0.0)


@pytest.mark.blocking
async def test_reranking_is_measured_where_the_service_has_a_cross_encoder(tmp_path: Path) -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[DocumentIn(id=word, text=f"they are {word}ing") for word in ("jump", "run", "swim")],
        queries={"1": "jumps", "2": "runs"},
        judgements={"1": {"jump": 1}, "2": {"run": 1}},
    )
    reranker = make_cross_encoder(tmp_path / "tiny")
    async with running_retrieval(tmp_path / "data", rerank_models=(str(reranker),)) as running:
        measured = await measure_parts(running.client, golden, progress_bar(quiet=True), is_reranked=True)

    rows = rows_of(measured, metric=ablation_retrieval.METRIC, shown=ablation_retrieval.SHOWN)
    reranked = [(row.part, row.base) for row in rows if row.group == "rerank"]
    assert reranked[: len(RERANKED)] == [(part, DEFAULT) for _, part in RERANKED]
    assert len(reranked) == 2 * len(RERANKED) == 4


@pytest.mark.blocking
async def test_the_judges_own_order_shows_what_reranking_could_gain(tmp_path: Path) -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[DocumentIn(id="near", text="jump and run"), DocumentIn(id="wanted", text="a rope to jump")],
        queries={"1": "jump run"},
        judgements={"1": {"wanted": 2, "absent": 1}},
    )
    async with running_retrieval(tmp_path) as running:
        measured = await measure_parts(running.client, golden, progress_bar(quiet=True))

    scores = {each.part: each.scores["1"] for each in measured if each.group in {"", "rerank"}}
    assert scores[DEFAULT]["recall@10"] == 0.5
    for depth in (20, 50):
        perfect = scores[f"the best {depth} as the judges would order them"]
        assert (perfect["MRR@10"], perfect["recall@10"]) == (1.0, 0.5)
        assert scores[DEFAULT]["nDCG@10"] < perfect["nDCG@10"] < 1.0


@pytest.mark.blocking
async def test_an_answer_is_scored_in_its_own_order_where_variety_changed_it(tmp_path: Path) -> None:
    golden = RetrievalDataset(
        name="tiny",
        documents=[
            DocumentIn(id=name, text=text) for name, text in (("a", "jump run"), ("b", "jump run"), ("c", "run far"))
        ],
        queries={"1": "jump run"},
        judgements={"1": {"a": 1, "b": 1}},
    )
    bar = progress_bar(quiet=True)
    async with running_retrieval(tmp_path) as running:
        await fill_collection(running.client, "tiny", golden, bar)
        found = [
            await evaluate_retrieval(
                running.client, golden, collection="tiny", settings=SearchSettings(mmr=mmr), is_timed=False, bar=bar
            )
            for mmr in (None, Mmr(diversity=1.0))
        ]

    plain, varied = (each.overall["nDCG@10"].mean for each in found)
    assert plain == 1.0
    assert varied < 1.0


@pytest.mark.blocking
async def test_every_part_of_a_recall_is_measured_and_agrees_with_the_service(tmp_path: Path) -> None:
    dataset, owner = MemoryDataset(name="tiny", conversations=[talk()]), Owner()
    bar = progress_bar(quiet=True)
    async with (
        running_retrieval(tmp_path / "retrieval") as retrieval,
        running_memory(tmp_path / "memory", retrieval_url=retrieval.url) as memory,
    ):
        services = Services(retrieval.client, memory.client)
        await fill_memory(memory.client, dataset, owner, bar)
        found = await measure_memory(services, dataset, owner, is_embedding=True, bar=bar)

    rows = {
        row.part: row for row in rows_of(found.measured, metric=ablation_memory.METRIC, shown=ablation_memory.SHOWN)
    }
    # The speaker is left out of the words, and of what the model reads.
    assert len({(row.group, row.part) for row in found.measured}) == len(found.measured)
    assert found.agreement == 1.0
    assert rows[DEFAULT].scores == {"any@10": 1.0, "share@10": 1.0, "all@10": 1.0}
    assert len(found.measured) == len(ablation_memory.PARTS) + 9
    assert (rows["10 turns with 2 `neighbours` on each side"].tokens or 0) > (rows[DEFAULT].tokens or 0)
    assert rows["spans among the ten, after compaction; a span counts as its turns"].scores["all@10"] == 1.0
