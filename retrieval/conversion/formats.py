"""What a file is. Pure.

A declared type is believed where the content does not contradict it. Content that is unmistakable wins over what was
declared; content that fits nothing fails with what it looks like. A name only counts where neither says anything.
"""

import codecs
import io
import zipfile
from typing import Final

from retrieval.conversion.limits import Unreadable
from shared import content_types as kinds

# Bytes looked at for what marks a file; PDF readers accept their mark within the first kilobyte.
_HEAD_BYTES: Final = 1024
_PDF: Final = b"%PDF-"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Recognised to be refused in words that help.
_FOREIGN: Final = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a bitmap image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"RIFF", "a sound, video or image file"),
    (b"ID3", "a sound file"),
    (b"OggS", "a sound or video file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, which starts alike
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PARTS: Final = (("word/document", kinds.DOCX), ("ppt/presentation", kinds.PPTX), ("xl/workbook", kinds.XLSX))
_OPEN_DOCUMENTS: Final = {
    b"application/vnd.oasis.opendocument.text": "an OpenDocument text; save it as DOCX",
    b"application/vnd.oasis.opendocument.presentation": "an OpenDocument presentation; save it as PPTX",
    b"application/epub+zip": "an EPUB book; convert it to HTML",
}


def kind_of(content: bytes, declared: str | None, file_name: str) -> str:
    """One of `shared.content_types`. Raises Unreadable, naming what the content looks like, where it cannot be read."""
    claimed = kinds.canonical(declared) or kinds.UNKNOWN
    if claimed == kinds.UNKNOWN:
        claimed = kinds.named_kind(file_name) or kinds.UNKNOWN
    if not content.strip(b"\x00 \t\r\n"):
        raise Unreadable("empty: there is nothing in it")
    found = _binary_kind(content)
    if found is not None:
        return found
    if is_text(content) or kinds.charset_of(declared):
        return _textual_kind(content, claimed)
    for mark, name in _FOREIGN:
        if content.startswith(mark):
            raise Unreadable(f"it looks like {name}, which has no text to read")
    if claimed in kinds.TEXTUAL and b"\x00" not in content:
        return claimed  # in some other charset: decoding says where it fails
    raise Unreadable(f"it looks like binary data{_said(claimed)}")


def may_be_binary(content: bytes) -> bool:
    """Whether anything but plain decoding may be needed. Cheap, so that it can be asked anywhere."""
    return content[:_HEAD_BYTES].lstrip().startswith((_PDF, b"PK", _OLE)) or not is_text(content)


def is_text(content: bytes) -> bool:
    if any(content.startswith(bom) for bom, _ in _BOMS):
        return True
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\x00" not in content


def decode(content: bytes, charset: str | None) -> str:
    """Raises Unreadable where the bytes are not text in `charset`, or, without one, in what a mark says, else UTF-8."""
    chosen = charset or next((name for bom, name in _BOMS if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(chosen)
    except LookupError as error:
        raise Unreadable(f"unknown charset {chosen!r}") from error
    except UnicodeDecodeError as error:
        remedy = "" if charset else "; name its charset, as in content_type 'text/plain; charset=windows-1252'"
        raise Unreadable(f"not valid {chosen}: {error.reason} at byte {error.start}{remedy}") from error
    if "\x00" in text:
        raise Unreadable("it contains NUL characters, so it looks like binary data")
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _binary_kind(content: bytes) -> str | None:
    # Junk may stand before the mark; in a text the mark is only what the text is about.
    if content[:_HEAD_BYTES].lstrip().startswith(_PDF) or (_PDF in content[:_HEAD_BYTES] and not is_text(content)):
        return kinds.PDF
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip_kind(content)
    if content.startswith(_OLE):
        return _ole_kind(content)
    if content.startswith(b"{\\rtf"):
        raise Unreadable("it looks like RTF; save it as DOCX or PDF")
    return None


def _zip_kind(content: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            for start, kind in _PARTS:
                if any(name.startswith(start) for name in names):
                    return kind
            mimetype = b""
            if "mimetype" in names:
                with archive.open("mimetype") as part:
                    mimetype = part.read(_HEAD_BYTES).strip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise Unreadable(f"broken: it starts like a ZIP or Office file but cannot be opened ({error})") from error
    if mimetype == kinds.ODS.encode():
        return kinds.ODS
    looks = _OPEN_DOCUMENTS.get(mimetype, "a ZIP archive; send the files in it one by one")
    raise Unreadable(f"it looks like {looks}")


def _ole_kind(content: bytes) -> str:
    """The container of old Office files, and of new ones that are encrypted. Names in it are UTF-16."""
    for name, reason in (
        ("EncryptedPackage", "encrypted: remove the password"),
        ("WordDocument", "it looks like an old Word file (.doc); save it as DOCX"),
        ("PowerPoint Document", "it looks like an old PowerPoint file (.ppt); save it as PPTX"),
    ):
        if name.encode("utf-16-le") in content:
            raise Unreadable(reason)
    if any(name.encode("utf-16-le") in content for name in ("Workbook", "Book")):
        return kinds.XLS
    raise Unreadable("it looks like an old Microsoft file of an unknown kind")


def _textual_kind(content: bytes, claimed: str) -> str:
    if claimed in kinds.TEXTUAL:
        return claimed
    head = content[:_HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return kinds.HTML
    if claimed == kinds.UNKNOWN:
        return kinds.PLAIN
    raise Unreadable(f"it looks like plain text{_said(claimed)}")


def _said(claimed: str) -> str:
    return "" if claimed == kinds.UNKNOWN else f", not like {claimed}"
