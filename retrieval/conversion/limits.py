"""What a conversion may cost, and how it says that it will not be done. Pure."""

from dataclasses import dataclass

from shared.errors import DiptychError


class Unreadable(DiptychError):
    """A file that cannot be converted. The message is the reason, for who sent the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """retrieval/settings.py says why these numbers."""

    characters_max: int
    pages_max: int
    unzipped_bytes_max: int
    unzipped_ratio_max: int


def too_long(limits: Limits) -> Unreadable:
    return Unreadable(
        f"too long: more than {limits.characters_max} characters of text (document_characters_max); split it"
    )
