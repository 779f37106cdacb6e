"""DOCX by way of HTML, so that headings, lists and tables take the path that web pages take."""

import io
import xml.parsers.expat
import zipfile
from typing import Any, Final

import mammoth

from retrieval.chunks.parsing import Parsed, parse
from retrieval.conversion.limits import Limits, Unreadable, too_long
from retrieval.conversion.zipped import check_archive
from shared.content_types import DOCX, HTML

# Word's own styles that mammoth leaves as paragraphs.
_STYLES: Final = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"


def convert_docx(content: bytes, limits: Limits) -> Parsed:
    """Pictures are left out unread, and so is everything that the document links to. Raises Unreadable."""
    check_archive(content, limits)
    try:
        html: str = mammoth.convert_to_html(
            io.BytesIO(content),
            style_map=_STYLES,
            convert_image=_no_image,
            external_file_access=False,
        ).value
    except (
        KeyError,
        ValueError,
        AttributeError,
        IndexError,
        OSError,
        zipfile.BadZipFile,
        xml.parsers.expat.ExpatError,
    ) as error:
        raise Unreadable(f"broken: it cannot be read as a Word document ({error})") from error
    parsed = parse(html, HTML)
    if len(parsed.text) > limits.characters_max:
        raise too_long(limits)
    return Parsed(parsed.title, DOCX, parsed.text, parsed.blocks)


def _no_image(_image: Any) -> list[Any]:
    return []
