"""Conversations with questions about them, and the turns that answer each: the evaluation data of memory, read at run time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.data import read_records
from shared.errors import SettingsError

_SET: Final = "memory/locomo"
_TIME: Final = "%I:%M %p on %d %B, %Y"


@dataclass(frozen=True, slots=True)
class Said:
    """`turn` is one of a kind within the talk."""

    session: str
    turn: str
    speaker: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """`evidence` names the turns that answer it; never empty."""

    query: str
    evidence: frozenset[str]


@dataclass(frozen=True, slots=True)
class Talk:
    """One user's memory."""

    user: str
    said: list[Said]
    asked: list[Asked]

    @property
    def ended_at(self) -> datetime:
        return max(each.at for each in self.said)


def read_talks(data_dir: Path, talks: int, turns_max: int, questions_max: int) -> list[Talk]:
    """The first `talks` of LoCoMo. Of each, the first turns, and questions that they answer, spread over all of these. Raises
    SettingsError where the data is missing."""
    said: dict[str, list[Said]] = {}
    for record in read_records(data_dir, f"{_SET}/turns.jsonl"):
        said.setdefault(record["conv_id"], []).append(_said(record))
    questions: dict[str, list[Asked]] = {}
    for record in read_records(data_dir, f"{_SET}/questions.jsonl"):
        evidence = frozenset(record["evidence_turns"])
        if evidence:
            questions.setdefault(record["conv_id"], []).append(Asked(record["question"], evidence))
    found = [
        cut(user, turns, questions.get(user, []), turns_max=turns_max, questions_max=questions_max)
        for user, turns in islice(said.items(), talks)
    ]
    if not all(each.asked for each in found):
        raise SettingsError(f"the first {turns_max} turns answer no question; take more of them")
    return found


def _said(record: dict[str, Any]) -> Said:
    at = datetime.strptime(record["time"], _TIME).replace(tzinfo=UTC)
    return Said(record["session_id"], record["turn_id"], record["speaker"], record["text"], at)


def cut(user: str, turns: list[Said], questions: list[Asked], *, turns_max: int, questions_max: int) -> Talk:
    """The first turns, and questions that they answer, spread over all of these."""
    kept = turns[:turns_max]
    known = {each.turn for each in kept}
    answerable = [each for each in questions if each.evidence <= known]
    step = max(1, len(answerable) // questions_max)
    return Talk(user, kept, answerable[::step][:questions_max])


def found_share(found: list[str], asked: Asked) -> float:
    """Of the evidence, among what was found."""
    return len(asked.evidence.intersection(found)) / len(asked.evidence)
