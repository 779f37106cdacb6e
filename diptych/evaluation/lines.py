"""Files of one JSON object a line, each checked where it stands."""

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shared.errors import SettingsError

LineT = TypeVar("LineT")


def read_lines(path: Path, kind: type[LineT]) -> list[LineT]:
    """Empty lines are passed over. Raises SettingsError that names the file, and the line that is wrong."""
    decoder = msgspec.json.Decoder(kind)
    found = []
    for number, line in enumerate(_bytes(path).splitlines(), start=1):
        if line.strip():
            try:
                found.append(decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise SettingsError(f"{path} line {number}: {error}") from error
    return found


def read_text(path: Path) -> str:
    """Raises SettingsError where it is missing, or not UTF-8."""
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8: {error}") from error


def fingerprint(*parts: Any) -> str:
    """SHA-256 of what can be written as JSON, the same for the same content in the same order of lists."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="deterministic")
    for part in parts:
        digest.update(encoder.encode(part))
        digest.update(b"\n")
    return digest.hexdigest()


def sample(names: Iterable[str], count: int | None, seed: int) -> set[str]:
    """So many of them, the same ones for the same seed; all of them without a count."""
    ordered = sorted(names)
    if count is None or count >= len(ordered):
        return set(ordered)
    return set(random.Random(seed).sample(ordered, count))  # noqa: S311 - a repeatable choice, no secret


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise SettingsError(f"{path} is missing") from error
