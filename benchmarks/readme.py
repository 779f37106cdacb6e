"""Pages whose numbers are made from the committed results: `python -m benchmarks.readme --write`.

A page says where: between `<!-- numbers: NAME -->` and `<!-- end -->` stands what benchmarks/numbers.py makes of the results for
NAME, in a line or as a block. Without `--write` pages that differ are named, and the exit code is 1. `tests/test_numbers.py` asks the
same, so a number in a page is one that was measured.
"""

import re
import sys
from pathlib import Path
from typing import Final

import click

from benchmarks.measured import Measured
from benchmarks.numbers import NUMBERS
from benchmarks.plots import PLOTS, PLOTS_DIR, draw
from benchmarks.report import err
from diptych.console import command
from shared.errors import SettingsError

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = ("README.md", "docs/EVALUATION.md", "docs/ABLATIONS.md")
_MARKED: Final = re.compile(r"<!-- numbers: ([\w-]+) -->(.*?)<!-- end -->", re.DOTALL)


def rewritten(page: str, measured: Measured) -> str:
    """The page with its numbers as they were measured. Raises SettingsError for a name that nothing is known of."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name not in NUMBERS:
            raise SettingsError(f"a page asks for the numbers {name!r}; there are: {', '.join(sorted(NUMBERS))}")
        text = NUMBERS[name](measured)
        # A table needs empty lines around it to be one.
        return f"<!-- numbers: {name} -->" + (f"\n\n{text}\n\n" if text.startswith("|") else text) + "<!-- end -->"

    return _MARKED.sub(replaced, page)


def named(page: str) -> list[str]:
    """The numbers that a page asks for."""
    return [match[1] for match in _MARKED.finditer(page)]


def differing(measured: Measured) -> dict[Path, str]:
    """Pages that do not say what was measured, as they should be."""
    pages = {ROOT / name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
    return {path: new for path, old in pages.items() if (new := rewritten(old, measured)) != old}


def write_pages() -> list[Path]:
    """Every page and plot that has to change, made anew."""
    measured = Measured()
    changed = differing(measured)
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")
    return [*changed, *(draw(name, measured) for name in PLOTS)]


@click.command()
@click.option("--write", "is_writing", is_flag=True, help="Change the pages and draw the plots.")
@command
async def main(*, is_writing: bool) -> None:
    """Compare the pages with the results, or make them from the results."""
    if is_writing:
        for path in write_pages():
            err.print(f"written: {path.relative_to(ROOT)}")
        return
    wrong = [path.name for path in differing(Measured())]
    wrong += [f"{name}.svg" for name in PLOTS if not (PLOTS_DIR / f"{name}.svg").is_file()]
    if wrong:
        err.print(f"not as measured: {', '.join(wrong)}; `python -m benchmarks.readme --write` mends that")
        sys.exit(1)


if __name__ == "__main__":
    main()
