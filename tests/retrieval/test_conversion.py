"""Files keep their headings, tables, lists and code, and blocks are ranges of the text."""

import json
from bisect import bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.chunks.parsing import Parsed
from retrieval.conversion.converting import convert_content, convert_text
from tests.retrieval import files
from tests.retrieval.files import LIMITS

CODE = '''"""Keys."""

import os


class Ring:
    """Holds keys."""

    @property
    def newest(self) -> str:
        return self.keys[-1]

    async def rotate(self, every: int = 90) -> None:
        if every:
            self.keys.append(os.urandom(8).hex())


def main() -> None:
    Ring()
'''


def read(content: bytes, declared: str | None = None, name: str = "") -> Parsed:
    parsed = convert_content(content, declared, name, LIMITS)
    assert_blocks(parsed)
    return parsed


def assert_blocks(parsed: Parsed) -> None:
    """In order, and nothing but white space between them."""
    position = 0
    for block in parsed.blocks:
        assert position <= block.start < block.end <= len(parsed.text)
        assert parsed.text[position : block.start].strip() == ""
        position = block.end
        if block.context is not None:
            assert block.start <= block.context[0] < block.context[1] <= block.end
    assert parsed.text[position:].strip() == ""


def under(parsed: Parsed, text: str) -> tuple[str, ...]:
    """The headings above the block that holds `text`."""
    return next(each.headings for each in parsed.blocks if text in parsed.text[each.start : each.end])


def test_a_pdf_keeps_headings_tables_code_and_pages_and_drops_running_footers() -> None:
    parsed = read(files.pdf())

    assert (parsed.title, parsed.content_type) == ("Handbook", "application/pdf")
    assert under(parsed, "never sent by mail") == ("Handbook", "Rotating keys")
    assert "| Region | Limit | Owner |\n| --- | --- | --- |\n| Europe | 500 | Ada Lovelace |" in parsed.text
    assert under(parsed, "Alan Turing") == ("Handbook", "Rotating keys")
    assert "```\nrotate --all\nrotate --key alpha\n```" in parsed.text
    assert "Acme handbook" not in parsed.text
    assert bisect_right(parsed.pages, parsed.text.index("ninety")) == 1
    assert bisect_right(parsed.pages, parsed.text.index("rotate --all")) == 2
    assert bisect_right(parsed.pages, parsed.text.index("August")) == 3


def test_columns_of_a_pdf_are_read_one_after_the_other() -> None:
    text = read(files.two_columns()).text

    assert text.index("left 29") < text.index("right 0")


def test_a_word_document_keeps_headings_lists_and_tables() -> None:
    parsed = read(files.word())

    assert parsed.title == "Handbook"
    assert under(parsed, "Keys rotate") == ("Rotating keys",)
    assert "* ask the owner\n* run the command" in parsed.text
    assert under(parsed, "Alan Turing") == ("Rotating keys", "Limits")
    assert "| Europe | 500 | Ada \\| Countess Lovelace |" in parsed.text


def test_a_presentation_has_a_section_for_each_slide_with_its_notes() -> None:
    parsed = read(files.slides())

    assert under(parsed, "never by mail") == ("Slide 1: Rotating keys",)
    assert under(parsed, "Mention the auditors") == ("Slide 1: Rotating keys",)
    assert under(parsed, "| Asia | 750 | Alan Turing |") == ("Slide 2: Limits",)


def test_a_workbook_has_a_table_for_each_visible_sheet() -> None:
    parsed = read(files.workbook())

    assert under(parsed, "| Region 1 | 501 | 2026-01-02 03:04:00 |") == ("Limits",)
    assert under(parsed, "| Ada \\| Countess | true |") == ("Owners",)
    assert "password" not in parsed.text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a,b\n1,2\n", "text/csv"),
        ("a;b\n1;2\n", "text/csv"),
        ("a\tb\n1\t2\n", "text/csv"),
        ("a\tb\n1\t2\n", "text/tab-separated-values"),
        ('"a",b\n\n"1","2"\n', "text/csv; charset=utf-8"),
    ],
)
def test_csv_becomes_a_table_whatever_separates_its_cells(text: str, kind: str) -> None:
    parsed = read(text.encode(), kind)

    assert parsed.text == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert parsed.blocks[0].context == (0, 10)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/csv", "a,b\n1,2\n3,4"),
        ("text/markdown", "Before.\n\n| a | b |\n| - | - |\n| 1 | 2 |\n| 3 | 4 |\n"),
        ("text/html", "<p>x</p><table><tr><td>a</td><td>b</td></tr><tr><td>1</td><td>2</td></tr></table>"),
    ],
)
def test_a_table_says_which_line_names_its_columns(kind: str, text: str) -> None:
    parsed = read(text.encode(), kind)

    (context,) = [block.context for block in parsed.blocks if block.kind == "table"]
    assert context is not None
    assert parsed.text[slice(*context)] == "| a | b |\n"


def test_json_becomes_lines_of_keys_and_values_under_its_large_keys() -> None:
    value = {
        "name": "gateway",
        "limits": {"eu": 500, "asia": None},
        "incidents": [
            {"id": number, "cause": "a cable was cut by a digger", "tags": ["a", "b"]} for number in range(9)
        ],
    }

    parsed = read(json.dumps(value).encode(), "application/json")

    assert "name: gateway\nlimits.eu: 500\nlimits.asia: null" in parsed.text
    assert under(parsed, "id: 7\ncause: a cable was cut by a digger\ntags: a, b") == ("incidents",)


def test_each_line_of_json_lines_is_a_block() -> None:
    parsed = read(b'{"a": {"b": 1}}\n\n{"a": [{"b": 2}, {"b": 3}]}\n', "application/x-ndjson")

    assert [parsed.text[block.start : block.end] for block in parsed.blocks] == ["a.b: 1", "a.b: 2\na.b: 3"]


def test_source_code_stays_as_it_is_under_the_names_of_its_definitions() -> None:
    parsed = read(CODE.encode(), name="ring.py")

    assert parsed.text == CODE
    assert under(parsed, "os.urandom") == ("Ring", "rotate")
    assert under(parsed, "self.keys[-1]") == ("Ring", "newest")
    assert under(parsed, "@property") == ("Ring", "newest")
    assert under(parsed, "    Ring()") == ("main",)
    assert under(parsed, "import os") == ()


@pytest.mark.parametrize(
    ("code", "needle", "headings"),
    [
        ("int main(int argc) {\n  return run();\n}\n", "return run", ("main",)),
        ("class A\n{\n    public string Name(int x)\n    {\n        go();\n    }\n}\n", "go()", ("A", "Name")),
        ("func (s *Server) Stop() error {\n\treturn nil\n}\n", "return nil", ("Stop",)),
        ("impl Ring {\n    pub fn rotate(&self) {\n        x();\n    }\n}\n", "x()", ("Ring", "rotate")),
        ("export const go = async (a) => {\n  await b();\n};\n", "await b", ("go",)),
        ("create table if not exists keys (\n  id int\n);\n", "id int", ("keys",)),
        ("if (x) {\n  y();\n}\n", "y()", ()),
    ],
)
def test_definitions_are_found_in_other_languages(code: str, needle: str, headings: tuple[str, ...]) -> None:
    assert under(convert_text(code, "text/x-source", LIMITS), needle) == headings


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
)


@settings(deadline=None)
@given(texts, st.sampled_from(["text/csv", "text/tab-separated-values", "text/x-source", "text/plain", "text/html"]))
def test_blocks_of_any_text_are_ranges_in_order(text: str, kind: str) -> None:
    assert_blocks(convert_text(text, kind, LIMITS))


@given(values)
def test_blocks_of_any_json_are_ranges_in_order(value: object) -> None:
    assert_blocks(convert_text(json.dumps(value), "application/json", LIMITS))


@pytest.mark.parametrize(
    ("make", "declared", "name", "found"),
    [
        (files.pdf, "text/plain", "x.txt", "application/pdf"),
        (files.word, "application/zip", "x.zip", "wordprocessingml"),
        (files.word, None, "", "wordprocessingml"),
        (files.workbook, "application/octet-stream", "", "spreadsheetml"),
        (files.slides, "application/pdf", "", "presentationml"),
        (lambda: b"<!DOCTYPE html><h1>Hi</h1>", "application/msword", "x.doc", "text/html"),
        (
            lambda: b"<html><h1>Hi</h1>",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "x.docx",
            "text/html",
        ),
        (lambda: b"a,b\n1,2", None, "x.csv", "text/csv"),
        (lambda: b"# Hi", None, "notes/README.md", "text/markdown"),
        (lambda: b"def x(): pass", None, "x.py", "text/x-source"),
        (lambda: "\ufeffa;b".encode("utf-16"), None, "x.txt", "text/plain"),
        (lambda: b"junk before\x00\xff" + files.pdf(), None, "", "application/pdf"),
    ],
)
def test_content_that_is_unmistakable_wins_over_what_was_said(
    make: Callable[[], bytes], declared: str | None, name: str, found: str
) -> None:
    assert found in read(make(), declared, name).content_type


def test_a_text_about_pdf_is_no_pdf() -> None:
    assert read(b"The mark is %PDF-1.4, as in\n%PDF-1.4\n", "text/markdown").content_type == "text/markdown"


def test_a_charset_may_be_named_or_marked() -> None:
    assert read(b"\xe9", "text/plain; charset=latin-1").text == "\u00e9"
    assert read(b"\xef\xbb\xbf\xc3\xa9").text == "\u00e9"
    assert read("\u00e9".encode("utf-16")).text == "\u00e9"
