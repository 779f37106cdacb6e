"""Text and its blocks, written piece by piece, so that offsets are exact by construction. Pure."""

import re
from collections.abc import Sequence

from retrieval.chunks.parsing import Block, Parsed
from retrieval.conversion.limits import Limits, too_long

_HEADING_LEVEL_MAX = 6
# NUL, and halves of characters, which escapes in JSON can make and no database takes.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


class Composer:
    """Raises Unreadable as soon as the text is longer than a document may be."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._path: list[tuple[int, str]] = []
        self._pages: list[int] = []

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._path)

    def heading(self, name: str, level: int) -> None:
        name = _NO_TEXT.sub("\ufffd", " ".join(name.split()))
        self._path = [(depth, above) for depth, above in self._path if depth < level]
        self._path.append((level, name))
        self._block(f"{'#' * min(level, _HEADING_LEVEL_MAX)} {name}", is_heading=True)

    def paragraph(self, text: str) -> None:
        if text.strip():
            self._block(text.strip("\n"))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """The first row names the columns. Rows may be of different lengths."""
        if not rows:
            return
        width = max(len(row) for row in rows)
        header = _row(rows[0], width)
        self._open()
        start = self._length
        self._write(header + "\n" + "|" + " --- |" * width)
        header_end = self._length
        for row in rows[1:]:
            self._write("\n" + _row(row, width))
        self._blocks.append(
            Block(start, self._length, self.headings, kind="table", context=(start, start + len(header) + 1))
            if header_end < self._length
            else Block(start, self._length, self.headings, kind="table")
        )

    def page(self) -> None:
        """A page starts with what is written next."""
        self._pages.append(self._length + 2 if self._parts else 0)

    def finish(self, content_type: str, title: str | None = None) -> Parsed:
        first = next((block.headings[-1] for block in self._blocks if block.is_heading), None)
        return Parsed(title or first, content_type, "".join(self._parts), tuple(self._blocks), tuple(self._pages))

    def _block(self, text: str, *, is_heading: bool = False) -> None:
        self._open()
        start = self._length
        self._write(text)
        self._blocks.append(Block(start, self._length, self.headings, is_heading))

    def _open(self) -> None:
        if self._parts:
            self._write("\n\n")

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limits.characters_max:
            raise too_long(self._limits)
        self._parts.append(_NO_TEXT.sub("\ufffd", text))


def _row(cells: Sequence[str], width: int) -> str:
    padded = [*cells, *[""] * (width - len(cells))]
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in padded) + " |"
