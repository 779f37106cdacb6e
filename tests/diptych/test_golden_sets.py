"""What was judged comes out as a set that measures just that: through the services, against a naive account of it."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.data import read_records
from diptych import RetrievalClient
from diptych.evaluation.conversations import read_conversations
from diptych.evaluation.datasets import read_retrieval
from diptych.golden_sets import grades_of, write_recall_set, write_search_set
from shared.errors import NotFound
from shared.feedback_messages import JudgedDocument
from tests.harness import make_key, running_memory, running_retrieval

# Files are written as a command writes them, whose event loop serves nobody else.
pytestmark = pytest.mark.blocking

# Each example starts a service: a smaller one is not worth minutes.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
START = datetime(2026, 3, 1, tzinfo=UTC)
TEXTS = {'a"b': "Keys rotate.", "b": "Deploy on Fridays.", "c d": "Rotate the tyres."}


@dataclass(frozen=True, slots=True)
class Said:
    who: str
    query: str
    item: str
    is_part: bool
    grade: int
    day: int


def sayings(who: Sequence[str], items: Sequence[str]) -> st.SearchStrategy[list[Said]]:
    return st.lists(
        st.builds(
            Said,
            st.sampled_from(who),
            st.sampled_from(["one", "two\t\n", '"three"']),
            st.sampled_from(items),
            st.booleans(),
            st.integers(0, 3),
            st.integers(0, 20),
        ),
        max_size=14,
    )


def held(said: Sequence[Said]) -> dict[tuple[str, str], dict[tuple[str, bool], int]]:
    """By whom and query, and then by item: the last that was said, and of two at once the kinder."""
    found: dict[tuple[str, str], dict[tuple[str, bool], int]] = {}
    for each in sorted(said, key=lambda each: (each.day, each.grade)):
        found.setdefault((each.who, each.query), {})[each.item, each.is_part] = each.grade
    return found


@settings(max_examples=10, deadline=None, phases=_PHASES)
@given(sayings(["mine", "other"], list(TEXTS)))
def test_a_search_set_holds_what_a_tenant_judged_and_nothing_else(said: list[Said]) -> None:
    asyncio.run(_searches(said))


async def _searches(said: list[Said]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = {who: await make_key(folder, who) for who in ("mine", "other")}
        async with (
            running_retrieval(folder, key=keys["mine"]) as running,
            RetrievalClient(running.url, api_key=keys["other"]) as stranger,
        ):
            clients = {"mine": running.client, "other": stranger}
            chunks = {who: await _filled(client) for who, client in clients.items()}
            for each in said:
                judged = {"document_id": each.item, "relevance": each.grade}
                part = {"chunk_id": chunks[each.who][each.item]} if each.is_part else {}
                moment = START + timedelta(days=each.day)
                await clients[each.who].add_feedback("c", each.query, [judged | part], judged_at=moment)
            counts = await write_search_set(running.client, "c", folder / "set")

            expected = {
                query: {
                    item: grades[item, False] if (item, False) in grades else grades[item, True]
                    for item in {item for item, _ in grades}
                }
                for (who, query), grades in held(said).items()
                if who == "mine"
            }
            right = {
                query: {item: grade for item, grade in grades.items() if grade} for query, grades in expected.items()
            }
            answered = {query: grades for query, grades in right.items() if grades}
            assert _read_search_set(folder / "set") == (TEXTS, answered)
            assert counts["left_out"] == len(expected) - len(answered)


async def _filled(client: RetrievalClient) -> dict[str, int]:
    """The chunk of each document."""
    await client.ingest("c", [{"id": name, "text": text} for name, text in TEXTS.items()])
    return {name: (await client.document("c", name)).passages[0].id for name in TEXTS}


def _read_search_set(folder: Path) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """As `diptych eval` reads it, which passes over grades of 0; queries by their words."""
    if (folder / "queries.jsonl").stat().st_size == 0:  # of which it says that there is nothing to measure
        return {each["_id"]: each["text"] for each in read_records(folder, "corpus.jsonl")}, {}
    read = read_retrieval(folder)
    corpus = {each.id or "": each.text or "" for each in read.documents}
    return corpus, {read.queries[query]: grades for query, grades in read.judgements.items()}


TURNS = {"s": ["s0", "s1"], "t": ["t0", "t1"], "g": ["g0", "g1"]}
OWNERS = {"s": "ada", "t": "ada", "g": "grace"}
SESSION_OF = {turn: session for session, turns in TURNS.items() for turn in turns}


@settings(max_examples=10, deadline=None, phases=_PHASES)
@given(sayings(["ada", "grace"], list(SESSION_OF)), st.sampled_from([None, *SESSION_OF]))
def test_a_recall_set_holds_what_was_judged_of_a_user_and_is_still_there(
    said: list[Said], forgotten: str | None
) -> None:
    asyncio.run(_recalls([each for each in said if OWNERS[SESSION_OF[each.item]] == each.who], forgotten))


async def _recalls(said: list[Said], forgotten: str | None) -> None:
    """`is_part` here: asked of the turn's session alone, which is a question of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_memory(folder) as running:
            client = running.client
            for session, turns in TURNS.items():
                given = [{"id": turn, "role": "user", "content": f"about {turn}"} for turn in turns]
                await client.append(session, given, user_id=OWNERS[session])
            for each in said:
                session = SESSION_OF[each.item]
                judged = {"id": each.item, "session_id": session, "relevance": each.grade}
                scope: dict[str, Any] = {"session_id": session} if each.is_part else {"user_id": each.who}
                await client.add_feedback(each.query, [judged], judged_at=START + timedelta(days=each.day), **scope)
            if forgotten is not None:
                await client.forget(session_id=SESSION_OF[forgotten], ids=[forgotten], dry_run=False)
            await write_recall_set(client, {"user_id": "ada"}, folder / "set")

            assert _read_questions(folder / "set") == _expected_questions(said, forgotten)
            conversations = {record["conv_id"] for record in read_records(folder / "set", "turns.jsonl")}
            assert conversations <= {"user:ada"}
            assert (await client.check()).clean


def _expected_questions(said: list[Said], forgotten: str | None) -> dict[tuple[str, str | None], dict[str, int]]:
    found: dict[tuple[str, str | None], dict[str, int]] = {}
    for (who, query), grades in held(said).items():
        if who != "ada":
            continue
        for (turn, is_part), grade in grades.items():
            session = SESSION_OF[turn] if is_part else None
            found.setdefault((query, session), {})[turn] = grade
    alive = {key: grades for key, grades in found.items() if not grades.get(forgotten or "")}
    return {
        key: {turn: grade for turn, grade in grades.items() if grade}
        for key, grades in alive.items()
        if any(grades.values())
    }


def _read_questions(folder: Path) -> dict[tuple[str, str | None], dict[str, int]]:
    """With the turns' own names, as their texts have them."""
    names = {record["turn_id"]: record["text"].split()[1] for record in read_records(folder, "turns.jsonl")}
    found: dict[tuple[str, str | None], dict[str, int]] = {}
    records = read_records(folder, "questions.jsonl")
    evidence = {record["question_id"]: set(record["evidence_turns"]) for record in records}
    asked = read_conversations(folder).questions if records else []
    assert {question.id: question.evidence for _, question in asked} == evidence
    for record in records:
        assert record["evidence_turns"] == list(record["grades"])
        grades = {names[turn]: grade for turn, grade in record["grades"].items()}
        found[record["question"], record["session_id"]] = grades
    return found


def test_a_document_is_as_relevant_as_its_best_chunk_unless_it_was_judged_itself() -> None:
    def judged(name: str, chunk: int | None, relevance: int) -> JudgedDocument:
        return JudgedDocument(document_id=name, chunk_id=chunk, relevance=relevance, judged_at=START)

    assert grades_of([judged("a", 1, 0), judged("a", 2, 3), judged("b", None, 1), judged("b", 7, 3)]) == {
        "a": 3,
        "b": 1,
    }


async def test_only_the_judged_documents_come_along_where_that_is_asked_for(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await _filled(running.client)
        grades = {"b": 2, "c d": "wrong"}
        judged = [{"document_id": name, "relevance": grade} for name, grade in grades.items()]
        answer = await running.client.add_feedback("c", "when?", judged, filter={"x": 1}, comment="why")
        counts = await write_search_set(running.client, "c", tmp_path / "set", judged_only=True)

        assert counts == {"documents": 2, "queries": 1, "judgments": 2, "left_out": 0}
        assert [record["_id"] for record in read_records(tmp_path / "set", "corpus.jsonl")] == ["b", "c d"]
        (query,) = read_records(tmp_path / "set", "queries.jsonl")
        assert query == {"_id": answer.id, "text": "when?", "metadata": {"filter": {"x": 1}, "comment": "why"}}
        assert (tmp_path / "set/qrels.tsv").read_text().splitlines() == [
            "query-id\tcorpus-id\tscore",
            f"{answer.id}\tb\t2",
            f"{answer.id}\tc d\t0",
        ]


async def test_a_set_that_cannot_be_finished_leaves_the_one_before_it(tmp_path: Path) -> None:
    async with running_retrieval(tmp_path) as running:
        await _filled(running.client)
        await running.client.add_feedback("c", "when?", [{"document_id": "b", "relevance": 2}])
        await write_search_set(running.client, "c", tmp_path / "set")
        before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}

        def interrupt() -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await write_search_set(running.client, "c", tmp_path / "set", progress=interrupt)
        with pytest.raises(NotFound):
            await write_search_set(running.client, "nowhere", tmp_path / "none")

        assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
        assert not (tmp_path / "none").exists()


async def test_conversations_are_told_apart_and_facts_stand_for_their_turns(tmp_path: Path) -> None:
    async with running_memory(tmp_path, facts_approval="none") as running:
        client = running.client
        for session, whose in (("s", {"user_id": "x"}), ("x", {}), ("a", {"agent_id": "x"})):
            turns = [{"id": f"{number}", "role": "user", "content": f"{session} {number}"} for number in range(3)]
            await client.append(session, turns, **whose)
        sources = [{"session_id": "s", "turn_id": number} for number in ("0", "1")]
        await client.put_fact(id="f", user_id="x", text="derived", sources=sources)
        await client.put_fact(id="own", user_id="x", text="said by itself")
        fact = {"kind": "fact", "id": "f", "relevance": 2}
        await client.add_feedback("by fact", [fact, {"session_id": "s", "id": "1", "relevance": 0}], user_id="x")
        await client.add_feedback("no turn", [{"kind": "fact", "id": "own", "relevance": 2}], user_id="x")
        await client.add_feedback("of session", [{"id": "2", "relevance": 1}], session_id="x")
        await client.add_feedback("of agent", [{"session_id": "a", "id": "0", "relevance": 1}], agent_id="x")

        counts = await write_recall_set(client, {"everything": True}, tmp_path / "set")

        assert counts == {"conversations": 3, "turns": 9, "questions": 3, "left_out": 1}
        questions: dict[str, Any] = {
            each["question"]: each for each in read_records(tmp_path / "set", "questions.jsonl")
        }
        assert {name: (each["conv_id"], each["grades"], each["wrong_turns"]) for name, each in questions.items()} == {
            "by fact": ("user:x", {"s#1": 2}, ["s#2"]),
            "of session": ("session:x", {"x#3": 1}, []),
            "of agent": ("agent:x", {"a#1": 1}, []),
        }
        (first, *_) = read_records(tmp_path / "set", "turns.jsonl")
        assert (first["conv_id"], first["session_id"], first["turn_id"], first["speaker"], first["text"]) == (
            "user:x",
            "s",
            "s#1",
            "user",
            "s 0",
        )
        assert msgspec.convert(first["time"], datetime).tzinfo is not None
