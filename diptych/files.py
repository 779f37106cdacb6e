"""Which files a path means, and what they are called once ingested."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.errors import SettingsError

CONTENT_TYPES: Final = {
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".txt": "text/plain",
    ".rst": "text/plain",
    ".html": "text/html",
    ".htm": "text/html",
    ".xhtml": "text/html",
}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """`document_id` is the path below the folder that was given, so that it stays the same wherever that folder lies."""

    path: Path
    document_id: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Selection:
    files: list[SourceFile]
    # Files of kinds that cannot be ingested; hidden ones are not even counted.
    skipped: list[Path]


def select_files(patterns: Sequence[str]) -> Selection:
    """Files, folders (recursive) and globs. Raises FileNotFoundError for a path or pattern that means nothing, and
    SettingsError for two files that would be the same document."""
    files: dict[str, SourceFile] = {}
    skipped: list[Path] = []
    for pattern in patterns:
        for path, document_id in _expand(pattern):
            content_type = CONTENT_TYPES.get(path.suffix.lower())
            if content_type is None:
                skipped.append(path)
                continue
            other = files.setdefault(document_id, SourceFile(path, document_id, content_type)).path
            if not other.samefile(path):
                raise SettingsError(
                    f"{other} and {path} would both be the document {document_id!r}; name a folder that holds both"
                )
    return Selection(list(files.values()), skipped)


def _expand(pattern: str) -> Iterator[tuple[Path, str]]:
    path = Path(pattern)
    if pattern and path.is_dir():  # an empty one is a variable that was not set, not the folder where we are
        yield from _below(path)
        return
    found = [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 - pattern may be absolute
    if "**" in pattern:  # it goes into folders by itself; once more, each file below would get a second name
        found = [each for each in found if each.is_file()]
    if not found:
        raise FileNotFoundError(pattern)
    for each in found:
        if each.is_dir():
            yield from _below(each)
        else:
            yield each, each.name if each.is_absolute() else each.as_posix()


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    name = folder.resolve().name
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            yield path, f"{name}/{relative.as_posix()}"
