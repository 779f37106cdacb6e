"""What every record of an import must be, beyond its type: the limits that an append has too. Pure."""

from memory.settings import MemorySettings
from shared.errors import InvalidFields, invalid
from shared.memory_records import (
    ExportedFact,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
    ExportHeader,
    MemoryRecord,
)
from shared.memory_stream import in_record
from shared.metadata import check_metadata
from shared.vectors import Vector


class ImportChecks:
    """Takes every record in turn."""

    def __init__(self, settings: MemorySettings) -> None:
        self._settings = settings
        # Of the vectors that come along: what they are of, empty where there are none, and how long each is.
        self.model = ""
        self.embed_text = ""
        self.dimensions: int | None = None
        self.records = 0

    def take(self, number: int, record: MemoryRecord) -> None:
        """Raises InvalidFields that names the record."""
        self.records = number
        try:
            self._check(record)
        except InvalidFields as error:
            raise in_record(error, number) from error

    def _check(self, record: MemoryRecord) -> None:
        match record:
            case ExportHeader():
                self.model, self.embed_text = record.model or "", record.embed_text or ""
            case ExportedSession():
                check_metadata(record.metadata, path="$.metadata", bytes_max=self._settings.metadata_bytes_max)
                if record.policy.tail_tokens_keep > record.policy.tail_tokens_max:
                    raise invalid("$.policy.tail_tokens_keep", "must not be larger than tail_tokens_max")
            case ExportedTurn():
                self._check_turn(record)
                self._check_vector(record.vector)
            case ExportedSpan() | ExportedFact():
                self._check_vector(record.vector)

    def _check_turn(self, turn: ExportedTurn) -> None:
        limit = self._settings.turn_characters_max
        if len(turn.content) > limit:
            message = f"{len(turn.content)} characters; at most {limit} are accepted (turn_characters_max)"
            raise invalid("$.content", message)
        check_metadata(turn.metadata, path="$.metadata", bytes_max=self._settings.metadata_bytes_max)

    def _check_vector(self, vector: Vector | None) -> None:
        """One model makes vectors of one length, and a recall index relies on it."""
        if vector is None:
            return
        if not self.model:
            raise invalid("$.vector", "the header says that there are no vectors")
        if self.dimensions not in {None, len(vector.array)}:
            raise invalid("$.vector", f"has {len(vector.array)} numbers, and those before it {self.dimensions}")
        self.dimensions = len(vector.array)
