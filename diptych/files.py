"""Which files a path means, and what they are called once ingested."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.content_types import named_kind
from shared.errors import SettingsError

# Folders that tools fill, and files that they write for themselves.
_IGNORED_FOLDERS: Final = frozenset({"node_modules", "__pycache__", "site-packages"})
_IGNORED_FILES: Final = frozenset({"package-lock.json", "npm-shrinkwrap.json", "composer.lock"})
_IGNORED_ENDINGS: Final = (".min.js", ".min.css", ".map")
# What marks a folder as a virtual environment of Python.
_ENVIRONMENT_MARK: Final = "pyvenv.cfg"


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
            content_type = named_kind(path.name)
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
    """Without what is hidden, and without what no person wrote."""
    name = folder.resolve().name
    for path in _walk(folder):
        yield path, f"{name}/{path.relative_to(folder).as_posix()}"


def _walk(folder: Path) -> Iterator[Path]:
    """By name, folders and files alike. Links to folders are not followed: they may lead round in circles."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            if path.name not in _IGNORED_FOLDERS and not (path / _ENVIRONMENT_MARK).exists():
                yield from _walk(path)
        elif path.is_file() and path.name not in _IGNORED_FILES and not path.name.endswith(_IGNORED_ENDINGS):
            yield path
