"""A page as Markdown, or as one HTML file that needs nothing beside it."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from diptych.evaluation.extras import needed
from diptych.evaluation.reports import Page, Table
from shared.errors import SettingsError

_ENDINGS: Final = (".html", ".md")


def check_ending(path: Path) -> None:
    """Raises SettingsError for a file of a kind that cannot be written; before anything is measured."""
    if path.suffix not in _ENDINGS:
        raise SettingsError(f"a report is an .html or .md file, and {path} is neither")


def has_plots(path: Path) -> bool:
    """Markdown has no plots of its own, and a page that shows it would not show ours."""
    return path.suffix == ".html"


def write_page(path: Path, page: Page) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_html(page) if has_plots(path) else as_markdown(page), encoding="utf-8")


def as_markdown(page: Page) -> str:
    lines = [f"# {_cell(page.title)}", ""]
    for section in page.sections:
        lines += [f"{'#' * section.level} {_cell(section.title)}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        for table in section.tables:
            lines += [*_rows(table), ""]
    return "\n".join(lines)


def as_html(page: Page) -> str:
    """Everything from the page is escaped, but for the plots, which are drawn here."""
    jinja = needed("jinja2")
    environment = jinja.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja.StrictUndefined
    )
    template = environment.from_string(files("diptych.evaluation").joinpath("page.html.jinja").read_text("utf-8"))
    return str(template.render(page=page))


def _rows(table: Table) -> list[str]:
    marks = ["---" if table.is_text or place == 0 else "---:" for place in range(len(table.columns))]
    rows = [
        [f"**{cell}**" if (at, place) in table.strong else _cell(cell) for place, cell in enumerate(row)]
        for at, row in enumerate(table.rows)
    ]
    return [f"| {' | '.join(cells)} |" for cells in ([_cell(column) for column in table.columns], marks, *rows)]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
