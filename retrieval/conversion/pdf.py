"""PDF: pages to lines with PDFium, lines to headings, paragraphs and tables (layout.py).

PDFium gives text in the order in which it was written, which for two columns is one after the other, and knows each
character's size and place. Pictures are never decoded.
"""

import ctypes
from collections.abc import Iterator
from typing import Final

import pypdfium2
import pypdfium2.raw as pdfium

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.composing import Composer
from retrieval.conversion.layout import Box, Character, Line, Page, Table, compose, find_tables
from retrieval.conversion.limits import Limits, Unreadable, too_long
from shared.content_types import PDF

# Drawings, not tables: looking for a grid in them takes long and finds none.
_RULES_MAX: Final = 2000
_RULE_THICKNESS_MAX: Final = 4.0
# A word that was cut at the end of a line is joined by PDFium, with one of these where the hyphen was.
_JOINTS: Final = {0x2, 0xFFFE}
_FONT_NAME_BYTES: Final = 128
_OUTLINE_DEEP_MAX: Final = 6
# Titles that programs write when nobody gave one.
_NO_TITLES: Final = ("untitled", "(anonymous)", "microsoft word -", "slide 1")


def convert_pdf(content: bytes, limits: Limits) -> Parsed:
    """Raises Unreadable."""
    document = _open(content)
    try:
        if len(document) > limits.pages_max:
            raise Unreadable(
                f"too long: {len(document)} pages, more than {limits.pages_max} (convert_pages_max); split it"
            )
        composer = Composer(limits)
        outline = {
            " ".join(entry.get_title().split()).casefold(): entry.level + 1
            for entry in document.get_toc(max_depth=_OUTLINE_DEEP_MAX)
        }
        title = document.get_metadata_value("Title").strip()
        compose(composer, list(_pages(document, limits)), outline)
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"broken: {error}") from error
    finally:
        document.close()
    return composer.finish(PDF, None if not title or title.lower().startswith(_NO_TITLES) else title)


def _open(content: bytes) -> pypdfium2.PdfDocument:
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code == pdfium.FPDF_ERR_PASSWORD:
            raise Unreadable("encrypted: remove the password") from error
        raise Unreadable(f"broken: {error}") from error


def _pages(document: pypdfium2.PdfDocument, limits: Limits) -> Iterator[Page]:
    characters = 0
    for number in range(len(document)):
        page = document[number]
        try:
            tables = tuple(find_tables(list(_rules(page))))
            lines = tuple(_lines(page, tables))
            characters += sum(len(line.text) for line in lines)
            if characters > limits.characters_max:
                raise too_long(limits)
            yield Page(page.get_height(), lines, tables)
        finally:
            page.close()


def _rules(page: pypdfium2.PdfPage) -> Iterator[Box]:
    """Ruled lines, also those drawn as thin boxes, and the four sides of larger boxes."""
    boxes = []
    for drawn in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_PATH], max_depth=4):
        boxes.append(Box(*drawn.get_bounds()))
        if len(boxes) > _RULES_MAX:
            return
    thickness = _RULE_THICKNESS_MAX
    for box in boxes:
        if box.right - box.left <= thickness or box.top - box.bottom <= thickness:
            yield box
        else:
            yield Box(box.left, box.bottom, box.left, box.top)
            yield Box(box.right, box.bottom, box.right, box.top)
            yield Box(box.left, box.bottom, box.right, box.bottom)
            yield Box(box.left, box.top, box.right, box.top)


def _lines(page: pypdfium2.PdfPage, tables: tuple[Table, ...]) -> Iterator[Line]:
    text_page = page.get_textpage()
    try:
        found: list[Character] = []
        in_table = False
        for index in range(text_page.count_chars()):
            code = pdfium.FPDFText_GetUnicode(text_page, index)
            if code in {0xA, 0xD}:
                if found:
                    yield _line(text_page, found)
                found = []
            elif code != 0 and code not in _JOINTS:
                box = _box(text_page, index) if in_table or not found else None
                if not found and box is not None:
                    in_table = any(table.holds(box) for table in tables)
                found.append(Character(_text(code), index, box))
        if found:
            yield _line(text_page, found)
    finally:
        text_page.close()


def _text(code: int) -> str:
    """What PDFium cannot map is a private or lone code that no text may hold."""
    return "\ufffd" if 0xD800 <= code <= 0xDFFF or code > 0x10FFFF else chr(code)  # noqa: PLR2004 - Unicode's own bounds


def _line(text_page: pypdfium2.PdfTextPage, characters: list[Character]) -> Line:
    """Its first letter or digit speaks for it: bullets are often of another font."""
    first = next((each for each in characters if each.text.isalnum()), characters[0])
    box = characters[0].box or _box(text_page, characters[0].index)
    name = ctypes.create_string_buffer(_FONT_NAME_BYTES)
    pdfium.FPDFText_GetFontInfo(text_page, first.index, name, _FONT_NAME_BYTES, None)
    font = name.value.decode("utf-8", "replace").lower()
    return Line(
        characters=tuple(characters),
        size=round(pdfium.FPDFText_GetFontSize(text_page, first.index), 1),
        bold="bold" in font or "black" in font or "heavy" in font,
        monospaced="mono" in font or "courier" in font or "consol" in font,
        box=box,
    )


def _box(text_page: pypdfium2.PdfTextPage, index: int) -> Box:
    found = pdfium.FS_RECTF()
    pdfium.FPDFText_GetLooseCharBox(text_page, index, found)
    return Box(found.left, found.bottom, found.right, found.top)
