"""Bytes to typed messages and back, the same fields in JSON and MessagePack. Pure: no I/O, no clock.

JSON goes through msgspec. MessagePack bytes go through the `msgpack` package, so that any MessagePack library can talk
to us, and then through msgspec's conversion, so that both encodings are checked by the same types.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgpack
import msgspec

from shared.errors import FieldError, InvalidFields, Malformed, UnsupportedMedia
from shared.vectors import Vector

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
# What other clients call MessagePack: the name registered with IANA, and the one used before it.
_ALIASES: Final = {"application/x-msgpack": MSGPACK, "application/vnd.msgpack": MSGPACK}

# The same few headers come with every request; one that is kept may be as long as a header.
_HEADERS_KEPT: Final = 128

MessageT = TypeVar("MessageT")


@lru_cache(maxsize=_HEADERS_KEPT)
def media_type(content_type: str | None) -> str:
    """The encoding that a Content-Type names. Raises UnsupportedMedia."""
    name = (content_type or JSON).partition(";")[0].strip().lower()
    name = _ALIASES.get(name, name)
    if name not in {JSON, MSGPACK}:
        raise UnsupportedMedia(f"Content-Type {name!r} is not supported; send {JSON} or {MSGPACK}")
    return name


@lru_cache(maxsize=_HEADERS_KEPT)
def negotiate(accept: str | None, request_type: str | None) -> str:
    """The encoding to answer in: the best that Accept names, else the request's own, else JSON."""
    best, best_quality = None, 0.0
    for part in (accept or "").split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        name = _ALIASES.get(name.replace("problem+", ""), name.replace("problem+", ""))
        quality = _quality(parameters)
        if name in {JSON, MSGPACK} and quality > best_quality:
            best, best_quality = name, quality
    if best:
        return best
    own = (request_type or "").partition(";")[0].strip().lower()
    return MSGPACK if _ALIASES.get(own, own) == MSGPACK else JSON


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


class Decoder(Generic[MessageT]):
    """Of many messages of one kind, which may be a union."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._json = msgspec.json.Decoder(kind, dec_hook=_decode_custom)

    def decode(self, data: bytes, media: str) -> MessageT:
        """Raises Malformed where the bytes cannot be read, and InvalidFields where they do not fit."""
        found: MessageT = _decoded(data, media, self._kind, self._json.decode)
        return found


def decode(data: bytes, media: str, kind: type[MessageT]) -> MessageT:
    """Raises Malformed where the bytes cannot be read, and InvalidFields where they do not fit `kind`."""
    found: MessageT = _decoded(
        data, media, kind, lambda raw: msgspec.json.decode(raw, type=kind, dec_hook=_decode_custom)
    )
    return found


def _decoded(data: bytes, media: str, kind: Any, read_json: Callable[[bytes], Any]) -> Any:
    try:
        if media == MSGPACK:
            return msgspec.convert(_unpack(data), kind, builtin_types=(bytes,), dec_hook=_decode_custom)
        return read_json(data)
    except msgspec.ValidationError as error:
        raise invalid_fields(error, root="$") from error
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from error
    except msgspec.DecodeError as error:
        raise Malformed(f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error


def convert(values: object, kind: type[MessageT], *, root: str) -> MessageT:
    """Strings from a path or query string to a typed message. Raises InvalidFields, paths starting with `root`."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise invalid_fields(error, root=root) from error


def encode(message: object, media: str) -> bytes:
    if media == MSGPACK:
        plain = msgspec.to_builtins(message, builtin_types=(bytes,), enc_hook=_encode_raw)
        packed: bytes = msgpack.packb(plain)
        return packed
    return msgspec.json.encode(message, enc_hook=_encode_numbers)


def _unpack(data: bytes) -> Any:
    try:
        # Ext types and timestamps are refused: no message has one, and each library maps them differently.
        return msgpack.unpackb(data, raw=False, strict_map_key=True, timestamp=0, ext_hook=_refuse_extension)
    except UnicodeDecodeError:
        raise
    except msgpack.StackError as error:
        raise Malformed("the body is nested too deeply") from error
    except (msgpack.UnpackException, ValueError) as error:
        raise Malformed(f"the body is not valid MessagePack: {error or type(error).__name__}") from error


class MessagePackFrames:
    """Finds where objects end that stand one after another in bytes that come in parts."""

    def __init__(self) -> None:
        # Whoever feeds it bounds what it holds.
        self._unpacker = msgpack.Unpacker(max_buffer_size=0)

    def ends(self, part: bytes) -> Iterator[int]:
        """Counted from the first byte of all. Raises Malformed."""
        self._unpacker.feed(part)
        while True:
            try:
                self._unpacker.skip()
            except msgpack.OutOfData:
                return
            except (msgpack.UnpackException, ValueError) as error:
                raise Malformed(f"the body is not valid MessagePack: {error or type(error).__name__}") from error
            yield self._unpacker.tell()


def _refuse_extension(code: int, _data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of the protocol")


def _decode_custom(kind: type, value: Any) -> Any:
    if issubclass(kind, Vector):
        return kind.from_wire(value)
    raise NotImplementedError(kind)


def _encode_numbers(value: Any) -> Any:
    if isinstance(value, Vector):
        return value.to_numbers()
    raise NotImplementedError(type(value))


def _encode_raw(value: Any) -> Any:
    if isinstance(value, Vector):
        return value.to_bytes()
    raise NotImplementedError(type(value))


_LOCATED = re.compile(r"(?P<message>.*?)(?: - at (?P<key>`key` in )?`(?P<place>.*)`)?", re.DOTALL)
_NAMED_FIELD = re.compile(r"Object (?P<what>contains unknown|missing required) field `(?P<field>.*)`", re.DOTALL)


def invalid_fields(error: msgspec.ValidationError, *, root: str) -> InvalidFields:
    """msgspec puts the place into its sentence; a caller wants it apart, with the unknown or missing field named."""
    located = _LOCATED.fullmatch(str(error))
    if located is None:  # the pattern matches any text
        raise AssertionError(error)
    message = located["message"]
    place = root + (located["place"] or "$").removeprefix("$").removeprefix("." if root == "" else "")
    if named := _NAMED_FIELD.fullmatch(message):
        place = f"{place}.{named['field']}"
        message = "unknown field" if named["what"] == "contains unknown" else "required field is missing"
    elif located["key"]:
        message = "a key is not text"
    elif "matching regex" in message:
        message = "must not contain NUL or, in ids, control characters"
    return InvalidFields(f"{place}: {message}", errors=[FieldError(place, message)])
