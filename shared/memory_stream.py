"""A memory's export as bytes and back: the same records as lines of JSON or as MessagePack objects one after another. Pure.

The reader holds the bytes of one record at most. It refuses other versions, records out of order, and a stream that was
cut off or changed on its way, which the last record tells: it counts the others and has their digest.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from shared.errors import FieldError, InvalidFields, Malformed, ServiceError, TooLarge, UnsupportedMedia, invalid
from shared.memory_records import (
    FORMAT,
    FORMAT_VERSION,
    ExportedFact,
    ExportedSession,
    ExportedSpan,
    ExportedTurn,
    ExportEnd,
    ExportHeader,
    MemoryRecord,
)
from shared.wire import JSON, MSGPACK, MessagePackFrames, decode, encode, media_type, negotiate

NDJSON: Final = "application/x-ndjson"
_COUNTED: Final = ("session", "turn", "span", "fact")


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
        self._digest = hashlib.sha256()
        self._counts = dict.fromkeys(_COUNTED, 0)

    def header(self, record: ExportHeader) -> bytes:
        return self._encoded(record)

    def write(self, record: ExportedSession | ExportedTurn | ExportedSpan | ExportedFact) -> bytes:
        data = self._encoded(record)
        self._digest.update(data)
        self._counts[_tag(record)] += 1
        return data

    def end(self) -> bytes:
        return self._encoded(_end_of(self._counts, self._digest.hexdigest()))

    def _encoded(self, record: MemoryRecord) -> bytes:
        return encode(record, MSGPACK) if self._media == MSGPACK else encode(record, JSON) + b"\n"


class MemoryStreamReader:
    """`feed` it all the bytes, then `close` it. Errors name the record by its number, counted from 1.

    After `close` the stream was whole: in order, of a known version, and as long and the same as when it was written.
    """

    def __init__(self, media: str, *, record_bytes_max: int) -> None:
        self._media = JSON if media == NDJSON else media
        self._bytes_max = record_bytes_max
        self._frames = _Lines() if media == NDJSON else MessagePackFrames()
        self._rest = bytearray()
        self._read = 0
        self._digest = hashlib.sha256()
        self._counts = dict.fromkeys(_COUNTED, 0)
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
        try:
            for end in self._frames.ends(part):
                found.append(bytes(self._rest[: end - self._read]))
                del self._rest[: end - self._read]
                self._read = end
        except Malformed as error:
            raise _numbered(error, self.number + len(found) + 1) from error
        if max(len(raw) for raw in (*found, self._rest)) > self._bytes_max:
            message = f"a record after number {self.number} is larger than {self._bytes_max} bytes"
            raise TooLarge(f"{message} (import_record_bytes_max)")
        return found

    def _record(self, raw: bytes) -> MemoryRecord:
        self.number += 1
        try:
            if self.number == 1:
                _check_version(decode(raw, self._media, _AnyHeader))
            record: MemoryRecord = decode(raw, self._media, MemoryRecord)  # type: ignore[arg-type]  # a union is a type here
            self._order.take(record)
            if isinstance(record, ExportEnd):
                _check_end(record, _end_of(self._counts, self._digest.hexdigest()))
            elif not isinstance(record, ExportHeader):
                self._digest.update(raw)
                self._counts[_tag(record)] += 1
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
            raise invalid("$.type", f"a stream has one header of type {FORMAT!r}, and it comes first")
        match record:
            case ExportedSession():
                self._take_session(record)
            case ExportedTurn() | ExportedSpan():
                self._take_part(record)
            case ExportEnd():
                self.has_ended = True
        self._last = record

    def _take_session(self, record: ExportedSession) -> None:
        if isinstance(self._last, ExportedFact):
            raise invalid("$.type", "sessions come before facts")
        if self._session is not None and record.id <= self._session.id:
            raise invalid("$.id", "sessions come by id, each once")
        self._session, self._seq = record, 0

    def _take_part(self, record: ExportedTurn | ExportedSpan) -> None:
        if isinstance(self._last, ExportedFact) or self._session is None or record.session_id != self._session.id:
            raise invalid("$.session_id", "turns and spans follow their own session")
        if isinstance(record, ExportedSpan):
            return
        if isinstance(self._last, ExportedSpan):
            raise invalid("$.type", "turns come before spans")
        if not self._seq < record.seq <= self._session.last_seq:
            raise invalid("$.seq", f"turns come in order, after {self._seq} and up to {self._session.last_seq}")
        self._seq = record.seq


def _check_version(header: _AnyHeader) -> None:
    if header.type != FORMAT:
        raise invalid("$.type", f"a stream has one header of type {FORMAT!r}, and it comes first")
    if header.version != FORMAT_VERSION:
        raise invalid("$.version", f"version {header.version} is not known here; version {FORMAT_VERSION} is")


def _check_end(found: ExportEnd, counted: ExportEnd) -> None:
    for name in (*(f"{each}s" for each in _COUNTED), "sha256"):
        said, seen = getattr(found, name), getattr(counted, name)
        if said != seen:
            raise invalid(f"$.{name}", f"says {said}, and what came before has {seen}: the stream was changed")


def _end_of(counts: dict[str, int], sha256: str) -> ExportEnd:
    return ExportEnd(**{f"{name}s": count for name, count in counts.items()}, sha256=sha256)


def _tag(record: ExportedSession | ExportedTurn | ExportedSpan | ExportedFact) -> str:
    return str(record.__struct_config__.tag)


def in_record(error: InvalidFields, number: int) -> InvalidFields:
    """The same error, with the record's number: `$.seq` of the third record is `$[3].seq`."""
    errors = [FieldError(f"$[{number}]{each.path.removeprefix('$')}", each.message) for each in error.errors]
    return InvalidFields(f"record {number}: {error.detail}", errors=errors)


def _numbered(error: Malformed | InvalidFields, number: int) -> ServiceError:
    if isinstance(error, InvalidFields):
        return in_record(error, number)
    return Malformed(f"record {number}: {error.detail.replace('the body', 'it', 1)}")
