"""The numbers and plots in the pages are those of the committed results."""

import re
from pathlib import Path

import pytest

from benchmarks.measured import Measured, milliseconds, share, table
from benchmarks.numbers import NUMBERS
from benchmarks.plots import PLOTS, PLOTS_DIR, stamp, stamp_in
from benchmarks.readme import PAGES, ROOT, named, rewritten
from shared.errors import SettingsError

MEASURED = Measured()
MENDED_BY = "run `python -m benchmarks.readme --write`"


class TestPages:
    @pytest.mark.parametrize("name", PAGES)
    def test_a_page_says_what_was_measured(self, name: str) -> None:
        page = (ROOT / name).read_text()
        assert rewritten(page, MEASURED) == page, f"{name} differs from benchmarks/results: {MENDED_BY}"

    @pytest.mark.parametrize("name", PAGES)
    def test_every_beginning_has_its_end(self, name: str) -> None:
        page = (ROOT / name).read_text()
        assert page.count("<!-- numbers: ") == page.count("<!-- end -->") == len(named(page))

    def test_every_number_that_is_made_stands_in_a_page(self) -> None:
        asked = {number for name in PAGES for number in named((ROOT / name).read_text())}
        assert asked == set(NUMBERS)

    @pytest.mark.parametrize("name", PLOTS)
    def test_a_plot_shows_what_was_measured_and_is_on_a_page(self, name: str) -> None:
        svg = (PLOTS_DIR / f"{name}.svg").read_text()
        assert stamp_in(svg) == stamp(PLOTS[name].numbers(MEASURED)), (
            f"{name}.svg differs from the results: {MENDED_BY}"
        )
        assert f"plots/{name}.svg" in (ROOT / "docs/EVALUATION.md").read_text()


class TestRewriting:
    def test_what_stands_between_the_marks_is_replaced_and_nothing_else(self) -> None:
        page = "Kept: <!-- numbers: kept-in-spans -->all of it<!-- end --> of each.\nAs it was."
        new = rewritten(page, MEASURED)
        assert re.fullmatch(
            r"Kept: <!-- numbers: kept-in-spans -->\d+ to \d+ %<!-- end --> of each\.\nAs it was\.", new
        )
        assert rewritten(new, MEASURED) == new

    def test_a_table_gets_empty_lines_around_it_once(self) -> None:
        page = "<!-- numbers: finding-turns --><!-- end -->"
        new = rewritten(page, MEASURED)
        assert new.startswith("<!-- numbers: finding-turns -->\n\n| | talks of")
        assert new.endswith(" |\n\n<!-- end -->")
        assert rewritten(new, MEASURED) == new

    def test_an_unknown_name_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(SettingsError, match=r"'nothing'; there are: .*speeds"):
            rewritten("<!-- numbers: nothing --><!-- end -->", MEASURED)

    def test_a_result_that_was_never_taken_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"benchmarks/results/compaction\.json is missing"):
            rewritten("<!-- numbers: kept-in-spans --><!-- end -->", Measured(tmp_path))


class TestFormats:
    def test_shares_have_three_figures_and_no_zero_before_them(self) -> None:
        assert [share(value) for value in (0.0, 0.0416, 0.5, 1.0)] == [".000", ".042", ".500", "1.000"]

    def test_milliseconds_have_as_many_figures_as_mean_something(self) -> None:
        assert [milliseconds(value) for value in (0.04, 1.55, 9.96, 150.4, 1234.0)] == [
            "0.0",
            "1.6",
            "10",
            "150",
            "1,234",
        ]

    def test_a_table_is_one_in_markdown(self) -> None:
        assert table(("", "a"), [("row", "1")]) == "| | a |\n| --- | --- |\n| row | 1 |"
