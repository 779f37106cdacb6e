"""Models that were converted, kept under the data folder so that a start need not convert again.

A file counts only with its own digest beside it, both are written aside and renamed, and one process writes at a time:
a file that was cut short, damaged or half replaced is made anew. Old ones are left; their folders may be deleted.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from filelock import FileLock, Timeout

from shared.errors import SettingsError

log = structlog.get_logger()

# Converting takes seconds; who waits longer waits for a process that hangs.
_LOCK_TIMEOUT_S: Final = 120.0


def cached_file(directory: Path, name: str, make: Callable[[], bytes]) -> Path:
    """The file `name` in `directory`, made by `make` if it is missing or damaged. Blocks. Raises SettingsError where
    another process keeps it locked, and OSError where it cannot be written.
    """
    path = directory / name
    if _is_whole(path):
        return path
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / ".lock", timeout=_LOCK_TIMEOUT_S):
            if _is_whole(path):
                return path
            if path.exists():
                log.warning("converted_model_damaged", path=str(path))
            content = make()
            _replace(_digest_path(path), hashlib.sha256(content).hexdigest().encode())
            _replace(path, content)
    except Timeout as error:
        raise SettingsError(f"another process is converting the model in {directory}, and does not end") from error
    return path


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _digest_path(path).read_bytes() == digest.encode()
    except FileNotFoundError:
        return False


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
