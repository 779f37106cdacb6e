"""Files that cannot be read fail with a reason that says what to do, and bombs before they go off."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from retrieval.conversion.converting import convert_content, convert_text
from retrieval.conversion.limits import Unreadable
from tests.retrieval import files
from tests.retrieval.files import LIMITS

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def reason(content: bytes, declared: str | None = None, name: str = "", **limits: Any) -> str:
    with pytest.raises(Unreadable) as caught:
        convert_content(content, declared, name, replace(LIMITS, **limits))
    return str(caught.value)


def zipped(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def encrypted_zip() -> bytes:
    """An Office file whose parts are marked as encrypted, one by one."""
    content = bytearray(files.word())
    position = 0
    while (position := content.find(b"PK\x01\x02", position)) >= 0:
        content[position + 8] |= 1
        position += 4
    return bytes(content)


@pytest.mark.parametrize(
    "make", [files.encrypted_pdf, files.encrypted_office, encrypted_zip], ids=["pdf", "office", "zip"]
)
def test_an_encrypted_file_is_told_to_be_opened_first(make: Callable[[], bytes]) -> None:
    assert reason(make()) == "encrypted: remove the password"


@pytest.mark.parametrize(
    "content",
    [
        lambda: files.pdf()[:200],
        lambda: b"%PDF-1.4\n" + b"[" * 100_000,
        lambda: files.word()[: len(files.word()) // 2],
        lambda: files.rezipped(files.word(), word__document=b"<w:document"),
        lambda: files.rezipped(files.workbook(), xl__workbook=b"<workbook"),
        lambda: files.rezipped(files.slides(), ppt__presentation=b"<p:presentation"),
        lambda: zipped(word__document=b"nothing"),
        lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "Workbook".encode("utf-16-le") + b"\x00" * 600,
    ],
    ids=["pdf cut", "pdf nested", "docx cut", "docx xml", "xlsx xml", "pptx xml", "docx parts", "xls"],
)
def test_a_broken_file_is_called_broken(content: Callable[[], bytes]) -> None:
    assert reason(content()).startswith("broken: ")


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\x00\x00"])
def test_an_empty_file_is_called_empty(content: bytes) -> None:
    assert reason(content, "application/pdf", "a.pdf").startswith("empty: ")


def test_a_scan_is_told_that_it_needs_ocr() -> None:
    assert reason(files.scanned_pdf()) == "empty: no text was found; scanned pages need OCR first"
    assert reason(b"<html><script>x()</script>", "text/html") == "empty: no text was found"


@pytest.mark.parametrize(
    ("content", "declared", "name", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00", None, "x.png", "a PNG image"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "text/plain", "x.txt", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00", "application/pdf", "x.pdf", "a JPEG image"),
        (b"\x1f\x8b\x08\x00\xff", None, "x.gz", "a gzip archive"),
        (b"\x7fELF\x02\x00\xff", None, "x", "a program"),
        (zipped(a__txt=b"x"), None, "x.zip", "a ZIP archive; send the files in it one by one"),
        (zipped(mimetype=b"application/epub+zip"), None, "x.epub", "an EPUB book"),
        (zipped(mimetype=b"application/vnd.oasis.opendocument.text"), None, "x.odt", "save it as DOCX"),
        (b"{\\rtf1 hello}", None, "x.rtf", "looks like RTF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "WordDocument".encode("utf-16-le"), None, "x.doc", "an old Word file"),
        (b"just text", "application/pdf", "x.pdf", "looks like plain text, not like application/pdf"),
        (b"just text", WORD, "x.docx", "looks like plain text, not like " + WORD),
        (b"\x01\x00\x02\xff", "text/plain", "x.txt", "looks like binary data, not like text/plain"),
        (b"a\x00b", "text/plain; charset=latin-1", "x.txt", "NUL"),
        (b"caf\xe9", "text/plain", "x.txt", "not valid utf-8: unexpected end of data at byte 3; name its charset"),
        (b"caf\xe9", "text/csv; charset=ascii", "x.csv", "not valid ascii"),
        (b"x", "text/plain; charset=klingon", "", "unknown charset"),
        (b'{"a": 1,}', "application/json", "", "not valid JSON"),
        (b'{"a": 1}\n{"a"', None, "x.jsonl", "not valid JSON"),
    ],
)
def test_what_is_mislabelled_or_of_no_use_is_named(content: bytes, declared: str | None, name: str, words: str) -> None:
    assert words in reason(content, declared, name)


def test_office_files_that_unpack_to_too_much_are_taken_for_bombs() -> None:
    packed = zipped(word__document=b"<a/>", word__huge=b"\x00" * (20 * 1024 * 1024))

    assert len(packed) < 30_000
    assert "convert_unzipped_bytes_max" in reason(packed, unzipped_bytes_max=1024 * 1024)
    assert "convert_unzipped_ratio_max" in reason(packed)
    assert "bomb" not in reason(packed, unzipped_ratio_max=2000)


def test_too_many_parts_are_taken_for_a_bomb() -> None:
    assert "parts in one file" in reason(zipped(word__document=b"<a/>", **{f"p{n}": b"" for n in range(10_001)}))


def test_entities_are_refused_before_any_of_them_grows() -> None:
    assert "word/document.xml declares a document type" in reason(files.billion_laughs())


def test_files_outside_are_never_read() -> None:
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>'

    assert "document type" in reason(files.rezipped(files.word(), word__document=entity.encode()))
    assert "document type" in reason(files.rezipped(files.slides(), ppt__presentation=entity.encode("utf-16")))


@pytest.mark.parametrize(
    ("content", "limits", "words"),
    [
        (lambda: files.pdf_of(4), {"pages_max": 3}, "4 pages, more than 3 (convert_pages_max)"),
        (files.slides, {"pages_max": 1}, "more than 1 slides (convert_pages_max)"),
        (lambda: files.pdf_of(4), {"characters_max": 40}, "more than 40 characters"),
        (lambda: files.workbook(2), {"characters_max": 40}, "more than 40 characters"),
        (files.word, {"characters_max": 40}, "more than 40 characters"),
        (files.slides, {"characters_max": 40}, "more than 40 characters"),
        (lambda: b"a,b\n" * 40, {"characters_max": 40}, "more than 40 characters"),
        (lambda: b"x" * 41, {"characters_max": 40}, "more than 40 characters"),
    ],
    ids=["pages", "slides", "pdf", "xlsx", "docx", "pptx", "text", "plain"],
)
def test_what_is_too_long_names_the_limit(content: Callable[[], bytes], limits: dict[str, Any], words: str) -> None:
    assert words in reason(content(), **limits)


def test_a_file_just_within_its_limits_is_read() -> None:
    assert convert_content(files.pdf_of(3), None, "", replace(LIMITS, pages_max=3)).pages == (0, 22, 44)
    assert len(convert_content(b"x" * 40, None, "", replace(LIMITS, characters_max=40)).text) == 40


@pytest.mark.parametrize(
    ("text", "kind"),
    [("<div>" * 20_000 + "x", "text/html"), ("[" * 100_000, "application/json"), ('{"a":' * 99_999, "text/json")],
)
def test_what_is_nested_too_deeply_fails(text: str, kind: str) -> None:
    with pytest.raises(Unreadable, match="nested too deeply"):
        convert_text(text, kind, LIMITS)


def test_halves_of_characters_are_replaced() -> None:
    assert convert_text(r'["a\ud800b", "\u0000"]', "application/json", LIMITS).text == "a\ufffdb, \ufffd"
