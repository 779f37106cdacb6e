"""PPTX: a heading for each slide, with its texts from top to bottom, tables, and the speaker's notes."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import lxml.etree
import pptx
import pptx.exc
from pptx.enum.shapes import MSO_SHAPE_TYPE

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.composing import Composer
from retrieval.conversion.limits import Limits, Unreadable
from retrieval.conversion.zipped import check_archive
from shared.content_types import PPTX

_GROUPS_DEEP_MAX: Final = 16


def convert_pptx(content: bytes, limits: Limits) -> Parsed:
    """Slide numbers stand in the headings, for who cites them. Raises Unreadable."""
    check_archive(content, limits)
    composer = Composer(limits)
    try:
        presentation = pptx.Presentation(io.BytesIO(content))
        for number, slide in enumerate(presentation.slides, start=1):
            if number > limits.pages_max:
                raise Unreadable(f"too long: more than {limits.pages_max} slides (convert_pages_max); split it")
            _slide(composer, slide, number)
        title = presentation.core_properties.title
    except (
        pptx.exc.PythonPptxError,
        lxml.etree.LxmlError,
        KeyError,
        ValueError,
        AttributeError,
        IndexError,
        zipfile.BadZipFile,
    ) as error:
        raise Unreadable(f"broken: it cannot be read as a presentation ({error})") from error
    # python-pptx's own template says this of every presentation made with it.
    return composer.finish(PPTX, title if title != "PowerPoint Presentation" else None)


def _slide(composer: Composer, slide: Any, number: int) -> None:
    title = slide.shapes.title
    name = " ".join(title.text_frame.text.split()) if title is not None and title.has_text_frame else ""
    shapes = [shape for shape in _flat(slide.shapes, 0) if title is None or shape.shape_id != title.shape_id]
    notes = slide.notes_slide.notes_text_frame.text if slide.has_notes_slide and _has_notes(slide) else ""
    texts = [shape for shape in shapes if shape.has_text_frame and shape.text_frame.text.strip()]
    tables = [shape for shape in shapes if getattr(shape, "has_table", False)]
    if not (name or texts or tables or notes.strip()):
        return
    composer.heading(f"Slide {number}: {name}" if name else f"Slide {number}", 1)
    for shape in sorted([*texts, *tables], key=lambda shape: (shape.top or 0, shape.left or 0)):
        if getattr(shape, "has_table", False):
            composer.table([[cell.text for cell in row.cells] for row in shape.table.rows])
        else:
            composer.paragraph("\n".join(_lines(shape.text_frame)))
    if notes.strip():
        composer.paragraph(f"Notes: {notes.strip()}")


def _has_notes(slide: Any) -> bool:
    return slide.notes_slide.notes_text_frame is not None


def _flat(shapes: Any, depth: int) -> Iterator[Any]:
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP and depth < _GROUPS_DEEP_MAX:
            yield from _flat(shape.shapes, depth + 1)
        else:
            yield shape


def _lines(frame: Any) -> Iterator[str]:
    """Several paragraphs of a text frame are nearly always a list."""
    paragraphs = [part for part in frame.paragraphs if part.text.strip()]
    for paragraph in paragraphs:
        text = " ".join(paragraph.text.split())
        yield f"{'  ' * paragraph.level}- {text}" if len(paragraphs) > 1 else text
