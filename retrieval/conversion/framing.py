"""What the service and its converters say to each other: MessagePack behind a length of four bytes."""

import struct
from typing import BinaryIO, Final

import msgspec

from retrieval.chunks.parsing import Parsed

_LENGTH: Final = struct.Struct(">I")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One of `text` and `content`, and what reading it may cost."""

    text: str | None = None
    content: bytes | None = None
    declared: str | None
    file_name: str
    timeout_s: float
    memory_bytes_max: int
    characters_max: int
    pages_max: int
    unzipped_bytes_max: int
    unzipped_ratio_max: int


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` says why there is nothing. `defect` is for our log: an error that nobody had foreseen."""

    parsed: Parsed | None = None
    reason: str | None = None
    defect: str | None = None


def write_frame(stream: BinaryIO, payload: bytes) -> None:
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """None at the end of the stream, also where it ends inside of a frame."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    return payload if len(payload) == length else None
