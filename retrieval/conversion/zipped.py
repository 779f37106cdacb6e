"""What an Office file must not be: a bomb, an attack by XML, or encrypted. Pure."""

import io
import zipfile
from typing import Final

from retrieval.conversion.limits import Limits, Unreadable

# An honest workbook of 10,000 parts has not been seen; each costs a reader time even when it is empty.
_PARTS_MAX: Final = 10_000
# Repetitive XML of a small file may be packed a thousandfold and harm nobody.
_RATIO_FLOOR_BYTES: Final = 16 * 1024 * 1024
_PROLOG_BYTES: Final = 4096
_ENCRYPTED_FLAG: Final = 0x1
_DOCTYPES: Final = tuple("<!DOCTYPE".encode(charset) for charset in ("ascii", "utf-16-le", "utf-16-be"))


def check_archive(content: bytes, limits: Limits) -> None:
    """Raises Unreadable, without unpacking more than the start of each part."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_sizes(archive, len(content), limits)
            for part in archive.infolist():
                if part.filename.endswith((".xml", ".rels", ".vml")):
                    _check_prolog(archive, part)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise Unreadable(f"broken: {error}") from error


def _check_sizes(archive: zipfile.ZipFile, size: int, limits: Limits) -> None:
    parts = archive.infolist()
    if any(part.flag_bits & _ENCRYPTED_FLAG for part in parts):
        raise Unreadable("encrypted: remove the password")
    if len(parts) > _PARTS_MAX:
        raise Unreadable(f"looks like a bomb: {len(parts)} parts in one file")
    unzipped = sum(part.file_size for part in parts)
    if unzipped > limits.unzipped_bytes_max:
        raise Unreadable(
            f"looks like a bomb: {unzipped} bytes unzipped, more than {limits.unzipped_bytes_max} "
            "(convert_unzipped_bytes_max)"
        )
    if unzipped > max(_RATIO_FLOOR_BYTES, size * limits.unzipped_ratio_max):
        raise Unreadable(
            f"looks like a bomb: {unzipped} bytes from {size}, more than {limits.unzipped_ratio_max} times as many "
            "(convert_unzipped_ratio_max)"
        )


def _check_prolog(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> None:
    """Office files have no document types; whoever writes one wants entities that grow or reach for files."""
    with archive.open(part) as opened:
        prolog = opened.read(_PROLOG_BYTES)
    if any(doctype in prolog for doctype in _DOCTYPES):
        raise Unreadable(f"refused: {part.filename} declares a document type, which Office files never do")
