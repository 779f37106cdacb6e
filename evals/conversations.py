"""Golden conversations with questions, read at run time and never copied into the project."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.data import read_records
from diptych import TurnIn
from shared.memory_messages import Role

# How each set writes its times.
_TIMES: Final = {"locomo": "%I:%M %p on %d %B, %Y", "beam-100k": "%B-%d-%Y"}
_ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant"}
SETS: Final = tuple(_TIMES)


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` names the turns that answer it; never empty."""

    id: str
    text: str
    category: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Conversation:
    """One user's memory. `session_of` is by turn id, which is one of a kind within the conversation."""

    user_id: str
    sessions: dict[str, list[TurnIn]]
    session_of: dict[str, str]
    ended_at: datetime
    questions: list[Question]


def read_conversations(data_dir: Path, name: str) -> list[Conversation]:
    """Questions without evidence are left out. Raises SettingsError where the set is missing."""
    turns: dict[str, list[Mapping[str, Any]]] = {}
    for record in read_records(data_dir, f"memory/{name}/turns.jsonl"):
        turns.setdefault(record["conv_id"], []).append(record)
    questions: dict[str, list[Question]] = {}
    for record in read_records(data_dir, f"memory/{name}/questions.jsonl"):
        if record["evidence_turns"]:
            question = Question(
                record["question_id"], record["question"], record["category"], frozenset(record["evidence_turns"])
            )
            questions.setdefault(record["conv_id"], []).append(question)
    return [_conversation(name, user_id, of_user, questions[user_id]) for user_id, of_user in turns.items()]


def _conversation(name: str, user_id: str, records: list[Mapping[str, Any]], questions: list[Question]) -> Conversation:
    sessions: dict[str, list[TurnIn]] = {}
    session_of: dict[str, str] = {}
    ended_at = datetime.min.replace(tzinfo=UTC)
    for record in records:
        session = f"{user_id}/{record['session_id']}"
        said_at = datetime.strptime(record["time"], _TIMES[name]).replace(tzinfo=UTC)
        sessions.setdefault(session, []).append(_turn(record, records[0]["speaker"], said_at))
        session_of[record["turn_id"]] = session
        ended_at = max(ended_at, said_at)
    return Conversation(user_id, sessions, session_of, ended_at, questions)


def _turn(record: Mapping[str, Any], first_speaker: str, said_at: datetime) -> TurnIn:
    """Who opened a conversation between two people has the user's part."""
    speaker = record["speaker"]
    role = _ROLES.get(speaker)
    return TurnIn(
        id=record["turn_id"],
        role=role or ("user" if speaker == first_speaker else "assistant"),
        name=None if role else speaker,
        content=record["text"],
        created_at=said_at,
    )
