"""Bodies that are forms with files (multipart/form-data), read part by part into a typed message.

A form is described by a message like any other body. Fields of type `list[UploadedFile]` are files; of the others, which
are small, objects are read as JSON and the rest as text. What is too much is refused as soon as it has been seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from aiohttp import BodyPartReader, web

from shared.errors import Malformed, Overloaded, TooLarge, UnsupportedMedia, invalid
from shared.wire import convert

FormT = TypeVar("FormT", bound=msgspec.Struct)

FORM: Final = "multipart/form-data"
_CHUNK_BYTES: Final = 64 * 1024
# A form's own fields; metadata, the largest of them, has a limit of its own.
_TEXT_BYTES_MAX: Final = 1024 * 1024
# Boundaries and headers of parts, in a body whose files are just within their limit.
_FRAME_BYTES_MAX: Final = 2 * 1024 * 1024


class UploadedFile:
    """A file of a form. `content_type` is what the sender said, which is often nothing or wrong."""

    __slots__ = ("content", "content_type", "name")

    def __init__(self, name: str, content_type: str | None, content: bytes) -> None:
        self.name = name
        self.content_type = content_type
        self.content = content


class FormReader:
    """Holds at most `in_flight_max` forms of `bytes_max` in memory."""

    def __init__(self, *, file_bytes_max: int, bytes_max: int, in_flight_max: int) -> None:
        self._file_bytes_max = file_bytes_max
        self._bytes_max = bytes_max
        self._in_flight_max = in_flight_max
        self._in_flight = 0

    async def read(self, request: web.Request, kind: type[FormT]) -> FormT:
        """Raises UnsupportedMedia, Malformed, TooLarge, Overloaded or InvalidFields."""
        if request.content_type != FORM:
            raise UnsupportedMedia(f"Content-Type {request.content_type!r} is not supported; send {FORM}")
        if (request.content_length or 0) > self._bytes_max + _FRAME_BYTES_MAX:
            raise self._too_large()
        with self._slot():
            try:
                return convert(await self._values(request, kind), kind, root="$")
            except (ValueError, AssertionError, aiohttp.ClientError, web.RequestPayloadError) as error:
                raise Malformed(f"the body is not a valid form: {error}") from error

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._in_flight >= self._in_flight_max:
            raise Overloaded(
                f"{self._in_flight} uploads are being received (uploads_in_flight_max); try again shortly",
                retry_after_s=1.0,
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _values(self, request: web.Request, kind: type[FormT]) -> dict[str, Any]:
        fields = {field.encode_name: field.type for field in msgspec.inspect.type_info(kind).fields}  # type: ignore[attr-defined]
        values: dict[str, Any] = {}
        size = 0
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                raise Malformed("the body is not a valid form: a part of it is a form itself")
            name = part.name or ""
            if name not in fields:
                raise invalid(f"$.{name}", "unknown field")
            if _is_files(fields[name]):
                files = values.setdefault(name, [])
                content = await self._content(part, f"{name}[{len(files)}]", size)
                size += len(content)
                files.append(UploadedFile(part.filename or "", part.headers.get("Content-Type"), content))
            elif name in values:
                raise invalid(f"$.{name}", "given more than once")
            else:
                values[name] = _value(await self._text(part), fields[name], f"$.{name}")
        return values

    async def _content(self, part: BodyPartReader, place: str, size_before: int) -> bytes:
        if part.headers.get("Content-Encoding") or part.headers.get("Content-Transfer-Encoding", "binary") not in {
            "binary",
            "8bit",
            "7bit",
        }:
            raise invalid(f"$.{place}", "send its bytes as they are, neither compressed nor encoded")
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            content += chunk
            if len(content) > self._file_bytes_max:
                name = part.filename or place
                raise TooLarge(
                    f"the file {name!r} is larger than {self._file_bytes_max} bytes (content_bytes_max); split it"
                )
            if size_before + len(content) > self._bytes_max:
                raise self._too_large()
        return bytes(content)

    async def _text(self, part: BodyPartReader) -> str:
        content = bytearray()
        while chunk := await part.read_chunk(_CHUNK_BYTES):
            content += chunk
            if len(content) > _TEXT_BYTES_MAX:
                raise TooLarge(f"the field {part.name!r} is larger than {_TEXT_BYTES_MAX} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise invalid(f"$.{part.name}", f"not valid UTF-8: {error.reason} at byte {error.start}") from error

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the files are larger than {self._bytes_max} bytes together (upload_bytes_max); send fewer at once"
        )


def _plain(field: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Without what its description added."""
    return _plain(field.type) if isinstance(field, msgspec.inspect.Metadata) else field


def _is_files(field: msgspec.inspect.Type) -> bool:
    field = _plain(field)
    return isinstance(field, msgspec.inspect.ListType) and isinstance(field.item_type, msgspec.inspect.CustomType)


def _value(text: str, field: msgspec.inspect.Type, path: str) -> Any:
    field = _plain(field)
    types = field.types if isinstance(field, msgspec.inspect.UnionType) else (field,)
    if not any(isinstance(_plain(each), msgspec.inspect.DictType) for each in types):
        return text
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(path, f"not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise invalid(path, "must be a JSON object")
    return value


def describe_file() -> dict[str, Any]:
    """For `/openapi.json`: the bytes of a file."""
    return {"type": "string", "format": "binary"}
