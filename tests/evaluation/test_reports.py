"""What a page shows, and that it needs nothing but itself."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from bs4 import BeautifulSoup

from diptych.evaluation.pages import as_html, as_markdown, check_ending, write_page
from diptych.evaluation.reports import make_page
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from shared.errors import SettingsError
from shared.messages import Info

# Drawing reads the fonts of the machine.
pytestmark = pytest.mark.blocking


def result(label: str, *scores: float, sha256: str = "a", metric: str = "share@10") -> Result:
    return make_result(
        kind="memory",
        label=label,
        dataset=DatasetInfo(name="talks <b>&</b>", sha256=sha256 * 64, counts={"turns": 1234}),
        settings={"recall": {"mode": label}, "depths": [5]},
        services=[Info(service="memory", version="1", protocol="v1", details={"model": "m"})],
        queries=[
            QueryResult(
                id=f"q{number}",
                category="odd" if number % 2 else "even",
                scores={"any@5": 1.0, metric: score},
                tokens=100 + number,
                latency_ms=1.5 * number,
            )
            for number, score in enumerate(scores)
        ],
    )


ONE = result("hybrid", 1.0, 0.5, 0.0, 1.0)
OTHER = result("lexical", 0.0, 0.5, 0.25, 0.5)
TEXTS = {"q0": "who <script>alert(1)</script> | said so?"}


def test_runs_over_the_same_data_are_compared_with_the_first() -> None:
    text = as_markdown(make_page([ONE, OTHER], texts=TEXTS, has_plots=False))

    assert "1,234 turns. SHA-256 of what was used: aaaaaaaaaaaaaaaa." in text
    assert re.search(r"\| share@10 \| \*\*0\.625 \([^)]*\)\*\* \| 0\.312 \([^)]*\) \|", text)
    assert re.search(r"\| share@10 \| -0\.312 \([^)]*\) \| [01]\.\d{4} \| 1 \| 2 \|", text)
    assert "| q0 | who &lt;script>alert(1)&lt;/script> \\| said so? | even | 1.000 | 0.000 |" in text
    assert re.search(r"\| even \| 2 \| 0\.500", text)
    assert "| recall.mode | hybrid | lexical |" in text
    assert "| memory.model | m |" in text
    assert "| hybrid | 4 |" in text


def test_a_run_by_itself_shows_what_it_found_least_of() -> None:
    text = as_markdown(make_page([ONE], texts=TEXTS, has_plots=False))

    assert "Queries with the least share@10" in text
    assert text.index("| q2 |") < text.index("| q1 |")
    assert "| q0 |" not in text
    assert "Against" not in text


def test_what_does_not_compare_stands_apart() -> None:
    text = as_markdown(make_page([ONE, result("hybrid", 1.0, sha256="b")], has_plots=False))

    assert text.count("\n## Recall of what was said") == 2
    with pytest.raises(SettingsError, match="not the same queries"):
        make_page([ONE, result("hybrid", 1.0)], has_plots=False)


def test_the_page_needs_nothing_beside_it_and_runs_nothing() -> None:
    page = make_page([ONE, OTHER, msgspec.structs.replace(OTHER)], texts=TEXTS, has_plots=True)
    html = as_html(page)
    soup = BeautifulSoup(html, "html.parser")

    assert soup.find_all(["script", "link", "img", "iframe"]) == []
    assert re.findall(r'(?:src|href)="(?!#)', html.replace("xlink:href", "href")) == []
    assert "url(http" not in html
    assert "who &lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert [heading.text for heading in soup.find_all("h3")] == [
        "Means",
        "Against hybrid",
        "share@10 by category",
        "What it costs",
        "Queries that lost most in share@10",
        "How it was made",
    ]
    # The second run of the same name is told apart.
    assert "lexical (2)" in soup.find_all("table")[0].text
    assert len(soup.find_all("svg")) == 5
    assert len(soup.find_all("strong")) >= 1


def test_a_plot_is_the_same_each_time_and_takes_the_colours_of_its_page() -> None:
    plots = [
        [figure.svg for section in make_page([ONE, OTHER], has_plots=True).sections for figure in section.figures]
        for _ in range(2)
    ]

    assert plots[0] == plots[1]
    for svg in plots[0]:
        ET.fromstring(svg)  # noqa: S314 - made here
        assert "currentColor" in svg
        assert "<text" in svg
        assert not re.match(r"<svg[^>]* (width|height)=", svg)


def test_a_report_is_a_file_of_a_kind_that_is_known(tmp_path: Path) -> None:
    for name, first in (("a.md", "# Diptych over talks"), ("new/a.html", "<!doctype html>")):
        check_ending(tmp_path / name)
        write_page(tmp_path / name, make_page([ONE], has_plots=False))
        assert (tmp_path / name).read_text().startswith(first)
    with pytest.raises(SettingsError, match=r"an \.html or \.md file"):
        check_ending(tmp_path / "a.pdf")
