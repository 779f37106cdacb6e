"""Conversations with questions about them: turns.jsonl and questions.jsonl. One conversation is one user's memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from diptych.evaluation.lines import fingerprint, read_lines, sample
from shared.errors import SettingsError
from shared.memory_messages import Role, TurnIn

# What people write beside RFC 3339, in published sets.
_TIMES: Final = ("%I:%M %p on %d %B, %Y", "%B-%d-%Y", "%d %B %Y", "%d %B, %Y")
_ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool"}


class _Turn(msgspec.Struct, frozen=True):
    conv_id: str
    session_id: str
    turn_id: str
    speaker: str
    text: str
    time: str | None = None
    role: Role | None = None


class _Question(msgspec.Struct, frozen=True):
    question_id: str
    conv_id: str
    question: str
    category: str = ""
    answer: str | float | None = None
    evidence_turns: tuple[str, ...] = ()
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` names the turns that answer it; never empty. `as_of` is the moment it was asked, if that is known."""

    id: str
    text: str
    category: str
    evidence: frozenset[str]
    answer: str = ""
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Sessions and turns in the order in which they were said. `session_of` is by turn id, which is one of a kind within the
    conversation. `ended_at` is when the last turn was said, if the turns have times."""

    id: str
    sessions: dict[str, list[TurnIn]]
    session_of: dict[str, str]
    ended_at: datetime | None
    questions: list[Question]

    def moment(self, question: Question) -> datetime | None:
        """As of when it is asked: as it was, or after the last turn."""
        return question.as_of or self.ended_at

    @property
    def turns(self) -> Iterator[TurnIn]:
        return (turn for turns in self.sessions.values() for turn in turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryDataset:
    """`sha256` is of what is used: turns and questions, after any of them were left out."""

    name: str
    conversations: list[Conversation]

    @property
    def questions(self) -> list[tuple[Conversation, Question]]:
        return [(each, question) for each in self.conversations for question in each.questions]

    @property
    def sha256(self) -> str:
        asked = [
            (
                *(each.id, question.id, question.text, question.category, question.answer, sorted(question.evidence)),
                *([question.as_of] if question.as_of else []),
            )
            for each, question in self.questions
        ]
        return fingerprint(self.turns_sha256, asked)

    @property
    def turns_sha256(self) -> str:
        """Of what was said, whatever is asked about it."""
        return fingerprint(
            [
                (each.id, session, turn.id, turn.role, turn.name, turn.content, turn.created_at)
                for each in self.conversations
                for session, turns in each.sessions.items()
                for turn in turns
            ]
        )

    @property
    def counts(self) -> dict[str, int]:
        return {
            "conversations": len(self.conversations),
            "sessions": sum(len(each.sessions) for each in self.conversations),
            "turns": sum(len(each.session_of) for each in self.conversations),
            "questions": len(self.questions),
        }


def read_conversations(folder: Path) -> MemoryDataset:
    """Questions without evidence are left out, and conversations without questions. Raises SettingsError that says which file,
    line or question is wrong."""
    turns: dict[str, list[_Turn]] = {}
    for turn in read_lines(folder / "turns.jsonl", _Turn):
        turns.setdefault(turn.conv_id, []).append(turn)
    questions: dict[str, list[Question]] = {}
    seen: set[str] = set()
    for line in read_lines(folder / "questions.jsonl", _Question):
        _check(folder, line, turns.get(line.conv_id, []))
        if line.question_id in seen:
            raise SettingsError(f"{folder}: there are two questions {line.question_id}")
        seen.add(line.question_id)
        if line.evidence_turns:
            answer = "" if line.answer is None else str(line.answer)
            question = Question(
                line.question_id,
                line.question,
                line.category,
                frozenset(line.evidence_turns),
                answer,
                None if line.as_of is None else _in_utc(line.as_of),
            )
            questions.setdefault(line.conv_id, []).append(question)
    if not questions:
        raise SettingsError(f"{folder}: no question has evidence_turns")
    return MemoryDataset(
        name=folder.resolve().name,
        conversations=[
            _conversation(folder, name, said, questions[name]) for name, said in turns.items() if name in questions
        ],
    )


def sliced_memory(
    dataset: MemoryDataset, *, conversations_max: int | None = None, questions_max: int | None = None, seed: int = 0
) -> MemoryDataset:
    """Conversations by lot, then questions about them by lot. Their turns stay whole: what is recalled is looked for among
    all that was said."""
    names = sample((each.id for each in dataset.conversations), conversations_max, seed)
    chosen = [each for each in dataset.conversations if each.id in names]
    asked = sample((question.id for each in chosen for question in each.questions), questions_max, seed)
    kept = [
        dataclasses.replace(each, questions=[question for question in each.questions if question.id in asked])
        for each in chosen
    ]
    return dataclasses.replace(dataset, conversations=[each for each in kept if each.questions])


def _check(folder: Path, line: _Question, turns: Sequence[_Turn]) -> None:
    known = {turn.turn_id for turn in turns}
    if unknown := [turn for turn in line.evidence_turns if turn not in known]:
        raise SettingsError(
            f"{folder}: question {line.question_id} rests on turns that conversation {line.conv_id} does not have: "
            f"{', '.join(unknown[:5])}"
        )


def _conversation(folder: Path, name: str, said: Sequence[_Turn], questions: list[Question]) -> Conversation:
    sessions: dict[str, list[TurnIn]] = {}
    session_of: dict[str, str] = {}
    for turn in said:
        if turn.turn_id in session_of:
            raise SettingsError(f"{folder}: conversation {name} has two turns {turn.turn_id}")
        sessions.setdefault(turn.session_id, []).append(_turn(folder, turn, said[0].speaker))
        session_of[turn.turn_id] = turn.session_id
    times = [turn.created_at for turns in sessions.values() for turn in turns if turn.created_at is not None]
    return Conversation(name, sessions, session_of, max(times) if len(times) == len(said) else None, questions)


def _turn(folder: Path, turn: _Turn, first_speaker: str) -> TurnIn:
    """Where nothing says the role, who opened a conversation between two people has the user's part."""
    named = _ROLES.get(turn.speaker)
    return TurnIn(
        id=turn.turn_id,
        role=turn.role or named or ("user" if turn.speaker == first_speaker else "assistant"),
        name=None if named else turn.speaker,
        content=turn.text,
        created_at=None if turn.time is None else _moment(folder, turn.turn_id, turn.time),
    )


def _moment(folder: Path, turn: str, text: str) -> datetime:
    """Without a zone it is UTC."""
    try:
        return _in_utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    for form in _TIMES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise SettingsError(f"{folder}: turn {turn} has the time {text!r}; write it like 2024-05-08T13:56:00Z")


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
