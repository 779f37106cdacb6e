"""`diptych eval memory` and its kin, against services that run in the test."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from diptych.evaluation.results import read_result
from tests.diptych.command import Shell
from tests.harness import RunningMemory, running_memory

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking

TURNS = [
    ("s1", "t1", "Ann", "My sister keeps bees behind the greenhouse."),
    ("s1", "t2", "Bob", "I never liked honey on toast."),
    ("s2", "t3", "Ann", "The violin lesson moved to Thursday at 16:30."),
    ("s2", "t4", "Bob", "Thursday suits me, ticket ZX-4471 is yours."),
]
QUESTIONS: list[dict[str, Any]] = [
    {
        "question_id": "q1",
        "question": "who keeps bees?",
        "category": "who",
        "answer": "sister",
        "evidence_turns": ["t1"],
    },
    {
        "question_id": "q2",
        "question": "when is the violin lesson?",
        "category": "when",
        "answer": "Thursday",
        "evidence_turns": ["t3", "t4"],
    },
    {"question_id": "q3", "question": "what is never said?", "category": "none", "evidence_turns": []},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "talk"
    found.mkdir()
    turns = [
        {"conv_id": "c1", "session_id": session, "turn_id": turn, "speaker": who, "time": "2024-05-08", "text": text}
        for session, turn, who, text in TURNS
    ]
    encoder = msgspec.json.Encoder()
    (found / "turns.jsonl").write_bytes(encoder.encode_lines(turns))
    (found / "questions.jsonl").write_bytes(encoder.encode_lines([{**each, "conv_id": "c1"} for each in QUESTIONS]))
    return found


async def test_recalls_are_scored_by_category_and_the_result_is_kept(
    shell: Shell, memory: RunningMemory, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "memory.json"
    done = await shell.run("eval", "memory", "--dataset", str(folder), "-o", str(kept), "-k", "2", "--user", "eval-")
    again = await shell.run(
        *("eval", "memory", "--dataset", str(folder), "-k", "2", "--user", "eval-", "--reuse"),
        *("--baseline", str(kept), "--no-latency", "--mode", "lexical", "--kind", "turn"),
    )

    assert (done.code, again.code) == (0, 0)
    result = read_result(kept)
    assert [(query.id, query.category) for query in result.queries] == [("q1", "who"), ("q2", "when")]
    assert list(result.overall) == ["any@2", "share@2", "all@2", "sessions@10"]
    assert result.overall["any@2"].mean == 1.0
    assert result.categories["who"]["all@2"].mean == 1.0
    assert result.latency is not None
    assert result.latency.count == 2
    assert result.tokens is not None
    assert "recall.mode: hybrid before, lexical now" in again.lines
    sessions = (await memory.client.sessions(user_id="eval-c1")).items
    assert {(session.id, session.turns) for session in sessions} == {("eval-c1/s1", 2), ("eval-c1/s2", 2)}


async def test_a_memory_that_is_not_there_cannot_be_reused(shell: Shell, folder: Path) -> None:
    done = await shell.run("eval", "memory", "--dataset", str(folder), "--reuse")

    assert (done.code, done.out) == (2, "")
    assert "has 0 turns, and the conversation 4: leave out --reuse" in done.err


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "turns.jsonl",
            '{"conv_id": "c1", "session_id": "s9", "turn_id": "t1", "speaker": "Ann", "text": "x"}',
            "two turns t1",
        ),
        (
            "turns.jsonl",
            '{"conv_id": "c1", "session_id": "s9", "turn_id": "t9", "speaker": "Ann", "text": "x", "time": "noon"}',
            "turn t9 has the time 'noon'",
        ),
        ("turns.jsonl", '{"conv_id": "c1"}', "turns.jsonl line 5"),
        (
            "questions.jsonl",
            '{"conv_id": "c1", "question_id": "q9", "question": "x", "evidence_turns": ["t8"]}',
            "q9 rests on turns that conversation c1 does not have: t8",
        ),
        (
            "questions.jsonl",
            '{"conv_id": "c1", "question_id": "q1", "question": "x", "evidence_turns": ["t1"]}',
            "there are two questions q1",
        ),
    ],
)
async def test_what_is_wrong_in_a_folder_is_named(
    shell: Shell, folder: Path, name: str, line: str, message: str
) -> None:
    with (folder / name).open("a") as file:
        file.write(f"{line}\n")

    done = await shell.run("eval", "memory", "--dataset", str(folder))

    assert (done.code, done.out) == (2, "")
    assert message in done.err


async def test_contexts_are_asked_before_and_after_folding(
    shell: Shell, memory: RunningMemory, folder: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "context.json"
    arguments = ("eval", "context", "--dataset", str(folder), "--budget", "400", "--user", "c-")

    done = await shell.run(*arguments, "--budget", "30", "-o", str(kept))
    again = await shell.run(*arguments, "--reuse")
    folded = await shell.run(*arguments, "--reuse", "--state", "folded", "--in-session", "--json")

    assert (done.code, again.code, folded.code) == (0, 2, 0)
    result = read_result(kept)
    assert list(result.overall) == ["share@400", "share@30", "share@400 folded", "share@30 folded"]
    assert result.overall["share@400"].mean == 1.0
    assert result.overall["share@30"].mean < 1.0
    assert {query.id for query in result.queries} == {"q1", "q2"}
    assert "is folded by an earlier run" in again.err
    assert list(folded.json["overall"]) == ["share@400 folded"]
    assert (await memory.client.session("c-c1/s1")).tail_tokens == 0


async def test_what_spans_keep_is_scored(shell: Shell, memory: RunningMemory, folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "spans.json"
    arguments = ("eval", "summaries", "--dataset", str(folder), "--user", "s-")

    done = await shell.run(*arguments, "-o", str(kept))
    again = await shell.run(*arguments, "--reuse", "--baseline", str(kept))

    assert (done.code, again.code) == (0, 0)
    result = read_result(kept)
    assert list(result.overall) == ["answers", "identifiers", "evidence", "saved"]
    assert result.scores("identifiers") == {"q2": 1.0}
    assert all(0.0 <= found.mean <= 1.0 for metric, found in result.overall.items() if metric != "saved")
    assert len((await memory.client.spans("s-c1/s2")).items) == 1


async def test_spans_are_compared_with_summaries_that_people_wrote(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text(
        '{"fname": "a", "dialogue": "#P1#: The lesson moved to Thursday.\\n#P2#: Good.", "summary": "The lesson moved."}\n'
    )

    done = await shell.run("eval", "summaries", "--dataset", str(tmp_path), "--json")
    wrong = await shell.run("eval", "summaries", "--dataset", str(tmp_path), "--reuse")

    assert (done.code, wrong.code) == (0, 2)
    assert list(done.json["overall"]) == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "recall-1", "saved"]
    assert done.json["overall"]["recall-1"]["mean"] == 1.0
    assert done.json["dataset"]["counts"] == {"dialogues": 1, "turns": 2}


async def test_a_memory_without_retrieval_is_not_scored_by_words_alone(tmp_path: Path, folder: Path) -> None:
    async with running_memory(tmp_path / "data") as alone:
        done = await Shell({"DIPTYCH_MEMORY_URL": alone.url}).run("eval", "memory", "--dataset", str(folder))

    assert (done.code, done.out) == (3, "")
    assert "memory cannot reach retrieval" in done.err
