"""CSV and TSV to one table. Pure."""

import csv
from typing import Final

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.composing import Composer
from retrieval.conversion.limits import Limits, Unreadable
from shared.content_types import TSV

# Enough rows to tell what separates them.
_SAMPLE_CHARACTERS: Final = 64 * 1024


def convert_csv(text: str, limits: Limits, *, kind: str) -> Parsed:
    """The first row names the columns. Raises Unreadable."""
    composer = Composer(limits)
    lines = text.splitlines(keepends=True)
    try:
        reader = csv.reader(lines, delimiter="\t" if kind == TSV else _separator(text[:_SAMPLE_CHARACTERS]))
        composer.table([row for row in reader if any(cell.strip() for cell in row)])
    except csv.Error as error:
        raise Unreadable(f"broken: {error}") from error
    return composer.finish(kind)


def _separator(sample: str) -> str:
    """What stands most evenly in the first rows: a comma unless another separator does better."""
    best, best_columns = ",", 1
    for candidate in (",", ";", "\t", "|"):
        widths = [len(row) for row in csv.reader(sample.splitlines(keepends=True)[:20], delimiter=candidate) if row]
        columns = min(widths, default=1)
        if columns > best_columns:
            best, best_columns = candidate, columns
    return best
