"""One file to text with structure. Nothing here is asynchronous, and nothing knows whether it runs in a worker.

This is the boundary for converters: each module translates its library's errors, and what is left over here is what any
parser may meet. Modules with a library behind them are imported when the first such file comes.
"""

import importlib
from collections.abc import Callable
from typing import Final

from retrieval.chunks.parsing import Parsed, parse
from retrieval.conversion import formats
from retrieval.conversion.limits import Limits, Unreadable, too_long
from retrieval.conversion.records import convert_json, convert_json_lines
from retrieval.conversion.source import convert_source
from retrieval.conversion.tabular import convert_csv
from shared import content_types as kinds

_BINARY: Final = {
    kinds.PDF: ("retrieval.conversion.pdf", "convert_pdf"),
    kinds.DOCX: ("retrieval.conversion.docx", "convert_docx"),
    kinds.PPTX: ("retrieval.conversion.pptx", "convert_pptx"),
    kinds.XLSX: ("retrieval.conversion.sheets", "convert_xlsx"),
    kinds.XLS: ("retrieval.conversion.sheets", "convert_xls"),
    kinds.ODS: ("retrieval.conversion.sheets", "convert_ods"),
}
_TEXTUAL: Final[dict[str, Callable[[str, Limits], Parsed]]] = {
    kinds.CSV: lambda text, limits: convert_csv(text, limits, kind=kinds.CSV),
    kinds.TSV: lambda text, limits: convert_csv(text, limits, kind=kinds.TSV),
    kinds.JSON: convert_json,
    kinds.JSON_LINES: convert_json_lines,
    kinds.SOURCE: convert_source,
}


def convert_text(text: str, declared: str | None, limits: Limits) -> Parsed:
    """What came as text. Raises Unreadable."""
    kind = kinds.canonical(declared) or kinds.PLAIN
    return _convert_textual(text, kinds.PLAIN if kind == kinds.UNKNOWN else kind, limits)


def convert_content(content: bytes, declared: str | None, file_name: str, limits: Limits) -> Parsed:
    """What came as bytes. Raises Unreadable."""
    kind = formats.kind_of(content, declared, file_name)
    if kind in _BINARY:
        module, function = _BINARY[kind]
        convert: Callable[[bytes, Limits], Parsed] = getattr(importlib.import_module(module), function)
        try:
            parsed = convert(content, limits)
        except RecursionError as error:
            raise Unreadable("nested too deeply") from error
    else:
        parsed = _convert_textual(formats.decode(content, kinds.charset_of(declared)), kind, limits)
    if not parsed.text.strip():
        scanned = "; scanned pages need OCR first" if kind == kinds.PDF else ""
        raise Unreadable(f"empty: no text was found{scanned}")
    return parsed


def _convert_textual(text: str, kind: str, limits: Limits) -> Parsed:
    if kind not in {kinds.HTML, kinds.JSON, kinds.JSON_LINES} and len(text) > limits.characters_max:
        raise too_long(limits)
    try:
        if kind in _TEXTUAL:
            return _TEXTUAL[kind](text, limits)
        parsed = parse(text, kind)
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    if len(parsed.text) > limits.characters_max:
        raise too_long(limits)
    return parsed
