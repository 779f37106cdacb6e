"""Conversations are read with their times and roles, and sliced whole."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from diptych.evaluation.conversations import MemoryDataset, read_conversations, sliced_memory
from diptych.evaluation.memory_runs import metrics_of, score_turns


def turn(conversation: str, session: str, name: str, **more: Any) -> dict[str, Any]:
    return {"conv_id": conversation, "session_id": session, "turn_id": name, "speaker": "Ann", "text": name, **more}


def question(conversation: str, name: str, *evidence: str, **more: Any) -> dict[str, Any]:
    return {"conv_id": conversation, "question_id": name, "question": f"{name}?", "evidence_turns": evidence, **more}


def read(folder: Path, turns: list[dict[str, Any]], questions: list[dict[str, Any]]) -> MemoryDataset:
    encoder = msgspec.json.Encoder()
    (folder / "turns.jsonl").write_bytes(encoder.encode_lines(turns))
    (folder / "questions.jsonl").write_bytes(encoder.encode_lines(questions))
    return read_conversations(folder)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-08T13:56:00Z", datetime(2024, 5, 8, 13, 56, tzinfo=UTC)),
        ("2024-05-08", datetime(2024, 5, 8, tzinfo=UTC)),
        ("2024-05-08T15:56:00+02:00", datetime(2024, 5, 8, 13, 56, tzinfo=UTC)),
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("March-15-2024", datetime(2024, 3, 15, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_write_them(tmp_path: Path, text: str, moment: datetime) -> None:
    dataset = read(tmp_path, [turn("c", "s", "t", time=text)], [question("c", "q", "t")])

    (conversation,) = dataset.conversations
    assert conversation.ended_at == moment
    assert conversation.moment(conversation.questions[0]) == moment


def test_a_question_may_have_been_asked_before_the_end(tmp_path: Path) -> None:
    turns = [turn("c", "s", "t", time="2024-05-08"), turn("c", "s", "u", time="2024-05-09")]
    dataset = read(tmp_path, turns, [question("c", "q", "t", as_of="2024-05-08T12:00:00Z"), question("c", "r", "u")])

    (conversation,) = dataset.conversations
    moments = [conversation.moment(each) for each in conversation.questions]
    assert moments == [datetime(2024, 5, 8, 12, tzinfo=UTC), datetime(2024, 5, 9, tzinfo=UTC)]


def test_without_times_a_memory_is_asked_as_it_is(tmp_path: Path) -> None:
    turns = [turn("c", "s", "t", time="2024-05-08"), turn("c", "s", "u")]
    dataset = read(tmp_path, turns, [question("c", "q", "t")])

    assert dataset.conversations[0].ended_at is None


def test_who_spoke_decides_the_role_unless_it_is_said(tmp_path: Path) -> None:
    speakers: list[dict[str, Any]] = [
        {"speaker": "Bob"},
        {"speaker": "Ann"},
        {"speaker": "assistant"},
        {"speaker": "Bob", "role": "tool"},
    ]
    turns = [turn("c", "s", str(number), **each) for number, each in enumerate(speakers)]

    dataset = read(tmp_path, turns, [question("c", "q", "0")])

    assert [(each.role, each.name) for each in dataset.conversations[0].turns] == [
        ("user", "Bob"),
        ("assistant", "Ann"),
        ("assistant", None),
        ("tool", "Bob"),
    ]


def test_a_slice_keeps_all_that_was_said(tmp_path: Path) -> None:
    turns = [turn(f"c{number}", "s", f"t{at}") for number in range(6) for at in range(5)]
    questions = [question(f"c{number}", f"q{number}-{at}", "t0") for number in range(6) for at in range(4)]
    dataset = read(tmp_path, turns, questions)

    part = sliced_memory(dataset, conversations_max=2, questions_max=5)

    assert (part.counts["conversations"], part.counts["turns"], part.counts["questions"]) == (2, 10, 5)
    assert part.sha256 == sliced_memory(dataset, conversations_max=2, questions_max=5).sha256
    assert part.sha256 != sliced_memory(dataset, conversations_max=2, questions_max=5, seed=1).sha256
    assert sliced_memory(dataset) == dataset
    fewer = sliced_memory(dataset, conversations_max=2, questions_max=7)
    assert fewer.turns_sha256 == part.turns_sha256
    assert fewer.sha256 != part.sha256


def test_sessions_are_found_by_their_best_turns(tmp_path: Path) -> None:
    turns = [turn("c", f"s{number}", f"t{number}{at}") for number in range(12) for at in range(2)]
    dataset = read(tmp_path, turns, [question("c", "near", "t00", "t91"), question("c", "far", "t00", "t100")])
    # Session by session, two turns each: the eleventh session is out of the first ten.
    ranking = [f"t{number}{at}" for number in range(12) for at in (1, 0)]

    scores = score_turns(dataset, {"near": ranking, "far": ranking}, (2, 20))

    assert list(scores["near"]) == metrics_of((2, 20))
    assert scores["near"] == {
        "any@2": 1.0,
        "any@20": 1.0,
        "share@2": 0.5,
        "share@20": 1.0,
        "all@2": 0.0,
        "all@20": 1.0,
        "sessions@10": 1.0,
    }
    assert (scores["far"]["share@20"], scores["far"]["sessions@10"]) == (0.5, 0.0)
