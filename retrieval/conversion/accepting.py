"""What is refused at the door, without looking at the content. Pure."""

import codecs

from shared import content_types as kinds
from shared.errors import invalid


def check_content_type(declared: str | None, *, has_text: bool, path: str) -> None:
    """Raises InvalidFields, naming a field under `path`."""
    if declared is None:
        return
    kind = kinds.canonical(declared)
    readable = kinds.TEXTUAL if has_text else kinds.TEXTUAL | kinds.BINARY
    if kind is None or kind not in readable | {kinds.UNKNOWN}:
        what = "of bytes, not of text: send it as content" if kind in kinds.BINARY else "not supported"
        names = ", ".join(sorted(readable))
        raise invalid(f"{path}.content_type", f"{declared!r} is {what}; send one of {names}")
    charset = kinds.charset_of(declared)
    if charset is not None:
        try:
            codecs.lookup(charset)
        except LookupError as error:
            raise invalid(f"{path}.content_type", f"unknown charset {charset!r}") from error
