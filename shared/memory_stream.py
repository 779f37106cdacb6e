"""A memory's export as bytes and back: the same records as lines of JSON or as MessagePack objects one after another. Pure.

The reader holds the bytes of one record at most. It refuses other versions, records out of order, and a stream that was
cut off, which the last record tells: it counts the others.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shared.errors import FieldError, InvalidFields, Malformed, ServiceError, TooLarge, UnsupportedMedia, invalid
from shared.memory_records import (
    FORMAT,
    FORMAT_VERSION,
    ExportedFact,
    ExportedFeedback,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
    ExportEnd,
    ExportHeader,
    MemoryRecord,
)
from shared.wire import JSON, MSGPACK, Decoder, MessagePackFrames, decode, encode, media_type, negotiate

NDJSON: Final = "application/x-ndjson"
_COUNTED: Final[dict[type[Any], str]] = {
    ExportedSession: "sessions",
    ExportedTurn: "turns",
    ExportedSpan: "spans",
    ExportedFact: "facts",
    ExportedFeedback: "feedback",
}
_RECORDS: Final = Decoder[MemoryRecord](MemoryRecord)


class _AnyHeader(msgspec.Struct, frozen=True):
    """As much of a header as every version will have."""

    type: str = ""
    version: int = 0


def negotiate_records(accept: str | None) -> str:
    """MessagePack where `Accept` prefers it, else lines of JSON."""
    wanted = (accept or "").lower().replace(NDJSON, JSON)
    return MSGPACK if negotiate(wanted, JSON) == MSGPACK else NDJSON


def records_media_type(content_type: str | None) -> str:
    """The encoding that a Content-Type names. Raises UnsupportedMedia."""
    name = (content_type or "").partition(";")[0].strip().lower()
    if name == NDJSON:
        return NDJSON
    if name != JSON and content_type and media_type(content_type) == MSGPACK:
        return MSGPACK
    raise UnsupportedMedia(f"Content-Type {name!r} is no stream of records; send {NDJSON} or {MSGPACK}")


class MemoryStreamWriter:
    def __init__(self, media: str) -> None:
        self._media = media
        self._counts = Counter[str]()

    def write(self, record: MemoryRecord) -> bytes:
        if type(record) in _COUNTED:
            self._counts[_COUNTED[type(record)]] += 1
        return encode(record, MSGPACK) if self._media == MSGPACK else encode(record, JSON) + b"\n"

    def end(self) -> bytes:
        return self.write(_end_of(self._counts))


class MemoryStreamReader:
    """`feed` it all the bytes, then `close` it. Errors name the record by its number, counted from 1.

    After `close` the stream was whole: in order, of a known version, and as long as when it was written.
    """

    def __init__(self, media: str, *, record_bytes_max: int | None = None) -> None:
        self._media = JSON if media == NDJSON else media
        self._bytes_max = record_bytes_max
        self._frames = _Lines() if media == NDJSON else MessagePackFrames()
        self._rest = bytearray()
        self._read = 0
        self._counts = Counter[str]()
        self._order = _Order()
        # Of the record that was read last.
        self.number = 0

    def feed(self, part: bytes) -> list[tuple[int, MemoryRecord]]:
        """The records that `part` completes. Raises Malformed, InvalidFields or TooLarge."""
        found: list[tuple[int, MemoryRecord]] = []
        for raw in self._complete(part):
            record = self._record(raw)
            found.append((self.number, record))
        return found

    def close(self) -> None:
        """Raises Malformed where the stream does not end as it should."""
        if self._rest:
            raise Malformed(f"the stream was cut off within record {self.number + 1}")
        if not self._order.has_ended:
            raise Malformed(f"the stream was cut off after record {self.number}")

    def _complete(self, part: bytes) -> list[bytes]:
        self._rest += part
        found: list[bytes] = []
        start = 0
        try:
            for end in self._frames.ends(part):
                found.append(bytes(self._rest[start : end - self._read]))
                start = end - self._read
        except Malformed as error:
            raise _numbered(error, self.number + len(found) + 1) from error
        del self._rest[:start]
        self._read += start
        if self._bytes_max is not None and max(len(raw) for raw in (*found, self._rest)) > self._bytes_max:
            message = f"a record after number {self.number} is larger than {self._bytes_max} bytes"
            raise TooLarge(f"{message} (import_record_bytes_max)")
        return found

    def _record(self, raw: bytes) -> MemoryRecord:
        self.number += 1
        try:
            if self.number == 1:
                _check_version(decode(raw, self._media, _AnyHeader))
            record = _RECORDS.decode(raw, self._media)
            self._order.take(record)
            if isinstance(record, ExportEnd):
                _check_end(record, _end_of(self._counts))
            elif not isinstance(record, ExportHeader):
                self._counts[_COUNTED[type(record)]] += 1
        except (Malformed, InvalidFields) as error:
            raise _numbered(error, self.number) from error
        return record


class _Lines:
    """Where lines end in bytes that come in parts."""

    def __init__(self) -> None:
        self._read = 0

    def ends(self, part: bytes) -> Iterator[int]:
        start = 0
        while (found := part.find(b"\n", start)) >= 0:
            start = found + 1
            yield self._read + start
        self._read += len(part)


class _Order:
    """Which record may follow which. Ids and numbers rise, so that nothing stands twice."""

    def __init__(self) -> None:
        self._session: ExportedSession | None = None
        self._last: MemoryRecord | None = None
        self._seq = 0
        self.has_ended = False

    def take(self, record: MemoryRecord) -> None:
        """Raises InvalidFields, or Malformed after the end."""
        if self.has_ended:
            raise Malformed("the record comes after the end")
        if isinstance(record, ExportHeader) != (self._last is None):
            raise _not_a_header()
        match record:
            case ExportedSession():
                self._take_session(record)
            case ExportedTurn() | ExportedSpan():
                self._take_part(record)
            case ExportedFact() if isinstance(self._last, ExportedFeedback):
                raise invalid("$.type", "facts come before feedback")
            case ExportEnd():
                self.has_ended = True
        self._last = record

    def _take_session(self, record: ExportedSession) -> None:
        if isinstance(self._last, ExportedFact | ExportedFeedback):
            raise invalid("$.type", "sessions come before facts and feedback")
        if self._session is not None and record.id <= self._session.id:
            raise invalid("$.id", "sessions come by id, each once")
        self._session, self._seq = record, 0

    def _take_part(self, record: ExportedTurn | ExportedSpan) -> None:
        is_late = isinstance(self._last, ExportedFact | ExportedFeedback)
        if is_late or self._session is None or record.session_id != self._session.id:
            raise invalid("$.session_id", "turns and spans follow their own session")
        if isinstance(record, ExportedSpan):
            return
        if isinstance(self._last, ExportedSpan):
            raise invalid("$.type", "turns come before spans")
        if not self._seq < record.seq <= self._session.last_seq:
            raise invalid("$.seq", f"turns come in order, after {self._seq} and up to {self._session.last_seq}")
        self._seq = record.seq


def _not_a_header() -> InvalidFields:
    return invalid("$.type", f"a stream has one header of type {FORMAT!r}, and it comes first")


def _check_version(header: _AnyHeader) -> None:
    if header.type != FORMAT:
        raise _not_a_header()
    if header.version != FORMAT_VERSION:
        raise invalid("$.version", f"version {header.version} is not known here; version {FORMAT_VERSION} is")


def _check_end(said: ExportEnd, counted: ExportEnd) -> None:
    for name in _COUNTED.values():
        if getattr(said, name) != getattr(counted, name):
            raise invalid(f"$.{name}", f"says {getattr(said, name)}, and {getattr(counted, name)} came before")


def _end_of(counts: Counter[str]) -> ExportEnd:
    return ExportEnd(**{name: counts[name] for name in _COUNTED.values()})


def in_record(error: InvalidFields, number: int) -> InvalidFields:
    """The same error, with the record's number: `$.seq` of the third record is `$[3].seq`."""
    errors = [FieldError(f"$[{number}]{each.path.removeprefix('$')}", each.message) for each in error.errors]
    return InvalidFields(f"record {number}: {error.detail}", errors=errors)


def _numbered(error: Malformed | InvalidFields, number: int) -> ServiceError:
    if isinstance(error, InvalidFields):
        return in_record(error, number)
    return Malformed(f"record {number}: {error.detail.replace('the body', 'it', 1)}")
