"""What lines of a page are: headings, paragraphs, code, tables, or what every page repeats. Pure.

A heading is in the document's outline, or set larger than most of the text, or a short bold line by itself. A table is a
grid of ruled lines; one without lines stays text, row by row. Coordinates are points, from the lower left corner.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from retrieval.conversion.composing import Composer

_HEADING_SIZE_RATIO: Final = 1.12
_HEADING_LENGTH_MAX: Final = 200
_BOLD_HEADING_LENGTH_MAX: Final = 100
_HEADING_LEVELS_MAX: Final = 5
# Lines further apart than this many sizes are two paragraphs.
_LINE_DISTANCE_MAX: Final = 1.75
_MARGIN_SHARE: Final = 0.1
_REPEATED_PAGES_MIN: Final = 3
_TOUCH: Final = 3.0
_RULE_LENGTH_MIN: Final = 6.0
# The same between the lines of one heading; what follows at a distance is another.
_HEADING_DISTANCE_MAX: Final = 1.4
_LEADERS: Final = re.compile(r"(?:\. ?){4,}")
_BULLETS: Final = re.compile(r"^(?:[\u2022\u2023\u25aa\u25cf\u25e6\u2043\uf0b7\x7f]|[-*\u2013](?=\s))\s*")
_NUMBERED: Final = re.compile(r"^(?:\d{1,3}[.)]|[a-z][.)])\s")


@dataclass(frozen=True, slots=True)
class Box:
    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True, slots=True)
class Character:
    """`box` is known of characters in tables, and of a line's first one."""

    text: str
    index: int
    box: Box | None


@dataclass(frozen=True, slots=True)
class Line:
    characters: tuple[Character, ...]
    size: float
    bold: bool
    monospaced: bool
    box: Box

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.characters)


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` and `rows` are where cells meet, rows from the top."""

    columns: tuple[float, ...]
    rows: tuple[float, ...]

    def holds(self, box: Box) -> bool:
        across, along = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        return self.columns[0] < across < self.columns[-1] and self.rows[-1] < along < self.rows[0]


@dataclass(frozen=True, slots=True)
class Page:
    height: float
    lines: tuple[Line, ...]
    tables: tuple[Table, ...]


def compose(composer: Composer, pages: Sequence[Page], outline: Mapping[str, int]) -> None:
    """Writes the pages. `outline` has the levels of titles, casefolded."""
    repeated = _repeated(pages)
    body = _body_size(pages)
    levels = _levels(pages, body)
    for page in pages:
        composer.page()
        for group in _groups(page, repeated, body):
            if isinstance(group, list):
                _write(composer, group, body, levels, outline)
            else:
                composer.table(_cells(group, page.lines))


def _write(
    composer: Composer, lines: list[Line], body: float, levels: Mapping[float, int], outline: Mapping[str, int]
) -> None:
    first = lines[0]
    if first.monospaced:
        composer.paragraph("```\n" + "\n".join(line.text.rstrip() for line in lines) + "\n```")
        return
    text = " ".join(" ".join(line.text.split()) for line in lines)
    level = outline.get(text.casefold())
    if level is None and re.search(r"\w", text) and not (_BULLETS.match(text) or _LEADERS.search(text)):
        deepest = max(levels.values(), default=0)
        if first.size in levels and len(text) <= _HEADING_LENGTH_MAX:
            level = levels[first.size]
        elif (
            first.size >= body
            and all(line.bold for line in lines)
            and len(text) <= _BOLD_HEADING_LENGTH_MAX
            and not text.endswith((".", ",", ";", ":"))
        ):
            level = deepest + 1
    if level is not None:
        composer.heading(text, level)
    else:
        composer.paragraph(_BULLETS.sub("- ", text))


def _body_size(pages: Sequence[Page]) -> float:
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[line.size] += len(line.characters)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _levels(pages: Sequence[Page], body: float) -> dict[float, int]:
    """The largest sizes, the largest first."""
    larger = {line.size for page in pages for line in page.lines if line.size >= body * _HEADING_SIZE_RATIO}
    return {size: level for level, size in enumerate(sorted(larger, reverse=True)[:_HEADING_LEVELS_MAX], start=1)}


def _repeated(pages: Sequence[Page]) -> set[str]:
    """Headers and footers: what stands in the margins of most pages, whatever its numbers."""
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({_shape(line) for line in page.lines if _in_margin(line, page)})
    least = max(_REPEATED_PAGES_MIN, len(pages) // 2)
    return {shape for shape, count in seen.items() if count >= least}


def _shape(line: Line) -> str:
    return re.sub(r"\d+", "#", " ".join(line.text.split()))


def _in_margin(line: Line, page: Page) -> bool:
    margin = page.height * _MARGIN_SHARE
    return line.box.top < margin or line.box.bottom > page.height - margin


def _groups(page: Page, repeated: set[str], body: float) -> Iterator[list[Line] | Table]:
    """Paragraphs as runs of lines, and each table where its first character stands."""
    written: set[int] = set()
    run: list[Line] = []
    for line in page.lines:
        if _in_margin(line, page) and _shape(line) in repeated:
            continue
        table = next((number for number, each in enumerate(page.tables) if each.holds(line.box)), None)
        if run and (table is not None or not _continues(run, line, body)):
            yield run
            run = []
        if table is None:
            run.append(line)
        elif table not in written:
            written.add(table)
            yield page.tables[table]
    if run:
        yield run


def _continues(run: Sequence[Line], line: Line, body: float) -> bool:
    above = run[-1]
    distance = above.box.bottom - line.box.bottom
    distance_max = _HEADING_DISTANCE_MAX if line.size >= body * _HEADING_SIZE_RATIO else _LINE_DISTANCE_MAX
    return (
        above.size == line.size
        and above.monospaced == line.monospaced
        and above.bold == line.bold
        and -0.5 * line.size < distance <= distance_max * line.size
        and (
            line.monospaced or not (_is_item(line) or (_is_item(run[0]) and line.box.left <= run[0].box.left + _TOUCH))
        )
    )


def _is_item(line: Line) -> bool:
    text = line.text.strip()
    return bool(_BULLETS.match(text) or _NUMBERED.match(text))


def find_tables(rules: Sequence[Box]) -> list[Table]:
    """Grids of at least two rows and two columns among rules that touch."""
    long = [rule for rule in rules if max(rule.right - rule.left, rule.top - rule.bottom) >= _RULE_LENGTH_MIN]
    found = []
    for group in _touching(long):
        columns = _merged([(rule.left + rule.right) / 2 for rule in group if rule.right - rule.left <= _TOUCH + 1])
        rows = _merged([(rule.bottom + rule.top) / 2 for rule in group if rule.top - rule.bottom <= _TOUCH + 1])
        if len(columns) > 2 and len(rows) > 2:  # noqa: PLR2004 - three lines make two cells
            found.append(Table(tuple(columns), tuple(reversed(rows))))
    return found


def _touching(rules: Sequence[Box]) -> list[list[Box]]:
    """Groups of rules that are connected, found in order of height so that far ones are never compared."""
    groups: list[tuple[Box, list[Box]]] = []
    for rule in sorted(rules, key=lambda each: -each.top):
        joined, around = [rule], rule
        apart = []
        for bounds, members in groups:
            if _touch(bounds, around):
                joined += members
                around = Box(
                    min(bounds.left, around.left),
                    min(bounds.bottom, around.bottom),
                    max(bounds.right, around.right),
                    max(bounds.top, around.top),
                )
            else:
                apart.append((bounds, members))
        groups = [*apart, (around, joined)]
    return [members for _, members in groups]


def _touch(one: Box, other: Box) -> bool:
    return (
        one.left - _TOUCH <= other.right
        and other.left - _TOUCH <= one.right
        and one.bottom - _TOUCH <= other.top
        and other.bottom - _TOUCH <= one.top
    )


def _merged(places: Sequence[float]) -> list[float]:
    ordered = sorted(places)
    return [*ordered[:1], *(after for before, after in pairwise(ordered) if after - before > _TOUCH)]


def _cells(table: Table, lines: Sequence[Line]) -> list[list[str]]:
    """Characters by the cell that holds their middle. A row or column without any is left out."""
    cells: dict[tuple[int, int], list[str]] = {}
    upwards = [-row for row in table.rows]
    for line in lines:
        if not table.holds(line.box):
            continue
        touched = set()
        for character in line.characters:
            box = character.box
            if box is None or not table.holds(box):
                continue
            row = bisect_right(upwards, -(box.bottom + box.top) / 2) - 1
            column = bisect_right(table.columns, (box.left + box.right) / 2) - 1
            cells.setdefault((row, column), []).append(character.text)
            touched.add((row, column))
        for place in touched:
            cells[place].append(" ")
    rows = sorted({row for row, _ in cells})
    columns = sorted({column for _, column in cells})
    return [["".join(cells.get((row, column), [])) for column in columns] for row in rows]
