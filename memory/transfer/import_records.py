"""The records of an import as they are taken one after another, and what became of each. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from shared.memory_records import (
    CONFLICTS_SHOWN_MAX,
    ExportedFact,
    ExportedFeedback,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
    ImportConflict,
    ImportCounts,
    MemoryRecord,
)

_KINDS: Final[dict[type[Any], Literal["session", "fact", "feedback"]]] = {
    ExportedSession: "session",
    ExportedFact: "fact",
    ExportedFeedback: "feedback",
}


class Refused(Exception):
    """The record differs from what is there, or does not fit what came with it."""


@dataclass(slots=True)
class Tally:
    """What became of the records, by kind. `vectors` are those that came along and are used."""

    created: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    vectors: int = 0
    conflicts: list[ImportConflict] = field(default_factory=list)

    def refuse(self, number: int, record: ExportedSession | ExportedFact | ExportedFeedback, error: Refused) -> None:
        if len(self.conflicts) < CONFLICTS_SHOWN_MAX:
            kind = _KINDS[type(record)]
            self.conflicts.append(ImportConflict(record=number, type=kind, id=record.id, message=str(error)))

    def counts(self, kind: str) -> ImportCounts:
        return ImportCounts(created=self.created[kind], unchanged=self.unchanged[kind], refused=self.refused[kind])


class Records:
    """Records with their numbers, and a look at the next one."""

    def __init__(self, records: Iterator[tuple[int, MemoryRecord]]) -> None:
        self._records = records
        self.next = next(records, None)

    def skip(self) -> None:
        self.next = next(self._records, None)


class SessionParts:
    """The turns and spans that follow a session's record, counted as they are taken."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.turn_count = 0
        self.span_count = 0

    def turns(self) -> Iterator[ExportedTurn]:
        while self._records.next is not None and isinstance(turn := self._records.next[1], ExportedTurn):
            self._records.skip()
            self.turn_count += 1
            yield turn

    def spans(self) -> Iterator[ExportedSpan]:
        while self._records.next is not None and isinstance(span := self._records.next[1], ExportedSpan):
            self._records.skip()
            self.span_count += 1
            yield span

    def skip_rest(self) -> None:
        for _ in self.turns():
            pass
        for _ in self.spans():
            pass
