"""Names of the kinds of content that can be ingested, and what a file's name says of its kind. Pure.

The client needs them to say what it sends, and the service to understand what it is sent.
"""

from pathlib import PurePosixPath
from typing import Final

PLAIN: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
CSV: Final = "text/csv"
TSV: Final = "text/tab-separated-values"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonl"
PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
XLS: Final = "application/vnd.ms-excel"
ODS: Final = "application/vnd.oasis.opendocument.spreadsheet"
SOURCE: Final = "text/x-source"
# Says nothing: the content decides, and then the name.
UNKNOWN: Final = "application/octet-stream"

BINARY: Final = frozenset({PDF, DOCX, PPTX, XLSX, XLS, ODS})
TEXTUAL: Final = frozenset({PLAIN, MARKDOWN, HTML, CSV, TSV, JSON, JSON_LINES, SOURCE})

_ALIASES: Final = {
    "text/x-markdown": MARKDOWN,
    "application/xhtml+xml": HTML,
    "application/csv": CSV,
    "text/tsv": TSV,
    "text/json": JSON,
    "application/x-ndjson": JSON_LINES,
    "application/ndjson": JSON_LINES,
    "application/x-jsonlines": JSON_LINES,
    "application/json-lines": JSON_LINES,
    "application/x-pdf": PDF,
    "application/vnd.ms-word.document.macroenabled.12": DOCX,
    "application/vnd.ms-powerpoint.presentation.macroenabled.12": PPTX,
    "application/vnd.ms-excel.sheet.macroenabled.12": XLSX,
    # What senders say who do not know better.
    "application/zip": UNKNOWN,
    "application/x-zip-compressed": UNKNOWN,
    "binary/octet-stream": UNKNOWN,
}
# Registered names of languages that are not called `text/x-`.
_SOURCE_NAMES: Final = frozenset(
    f"{family}/{name}"
    for family in ("text", "application")
    for name in (
        *("javascript", "ecmascript", "typescript", "x-javascript", "x-typescript", "x-sh", "x-python", "x-httpd-php"),
        *("sql", "x-sql", "yaml", "x-yaml", "toml", "xml", "css", "graphql", "rust", "vnd.dart"),
    )
)

_SOURCE_SUFFIXES: Final = (
    *("py", "pyi", "js", "mjs", "cjs", "jsx", "ts", "tsx", "vue", "svelte", "java", "kt", "kts", "scala", "groovy"),
    *("c", "h", "cc", "cpp", "cxx", "hh", "hpp", "cs", "go", "rs", "swift", "m", "mm", "rb", "php", "pl", "pm", "lua"),
    *("r", "jl", "dart", "ex", "exs", "erl", "hs", "ml", "mli", "clj", "lisp", "el", "sh", "bash", "zsh", "fish"),
    *("ps1", "sql", "yaml", "yml", "toml", "ini", "cfg", "conf", "xml", "css", "scss", "less", "graphql", "proto"),
    *("tf", "cmake", "gradle", "zig", "nim", "vb", "fs", "f90", "asm", "s", "v", "sv", "vhd"),
)
SUFFIXES: Final = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
    ".log": PLAIN,
    ".rst": PLAIN,
    ".adoc": PLAIN,
    ".org": PLAIN,
    ".tex": PLAIN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".csv": CSV,
    ".tsv": TSV,
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".pdf": PDF,
    ".docx": DOCX,
    ".docm": DOCX,
    ".pptx": PPTX,
    ".pptm": PPTX,
    ".xlsx": XLSX,
    ".xlsm": XLSX,
    ".xls": XLS,
    ".ods": ODS,
    **{f".{suffix}": SOURCE for suffix in _SOURCE_SUFFIXES},
}
_NAMES: Final = {"readme": PLAIN, "license": PLAIN, "makefile": SOURCE, "dockerfile": SOURCE}


def canonical(declared: str | None) -> str | None:
    """The kind that a Content-Type names, without its parameters: one of BINARY, TEXTUAL and UNKNOWN. None where it is
    none that can be read."""
    name = (declared or UNKNOWN).partition(";")[0].strip().lower()
    name = _ALIASES.get(name, name)
    if name in _SOURCE_NAMES or (name.startswith("text/x-") and name != SOURCE):
        return SOURCE
    return name if name in BINARY | TEXTUAL | {UNKNOWN} else None


def charset_of(declared: str | None) -> str | None:
    """The charset that a Content-Type names."""
    for part in (declared or "").split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'").lower() or None
    return None


def named_kind(file_name: str) -> str | None:
    """What a file's name says of its kind; None where it says nothing that can be read."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return SUFFIXES.get(path.suffix.lower()) or _NAMES.get(path.name.lower())
