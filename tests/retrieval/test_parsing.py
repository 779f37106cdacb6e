"""Markdown, HTML and plain text become text with structure."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.chunks.parsing import parse


def test_markdown_keeps_its_text_and_knows_the_headings_above_a_block() -> None:
    parsed = parse("# Guide\r\n\r\nHello *there*.\r\n\r\n## Set `x`\r\n\r\nDo it.", "text/markdown")

    assert parsed.text == "# Guide\n\nHello *there*.\n\n## Set `x`\n\nDo it."
    assert [block.headings for block in parsed.blocks] == [
        ("Guide",),
        ("Guide",),
        ("Guide", "Set x"),
        ("Guide", "Set x"),
    ]
    assert parsed.title == "Guide"


def test_a_number_sign_in_a_code_block_is_no_heading() -> None:
    parsed = parse("# Real\n\n```sh\n# comment\n```\n\ntext", "text/markdown")

    assert [block.headings for block in parsed.blocks] == [("Real",)] * 3


def test_html_becomes_markdown_without_what_no_reader_sees() -> None:
    page = """<html><head><title>The page</title><style>p {color: red}</style></head><body>
    <script>alert(1)</script><h1>Cats &amp; dogs</h1><p>They <b>sleep</b>, see <a href="https://x.example">here</a>.</p>
    <table><tr><th>pet</th><th>hours</th></tr><tr><td>cat</td><td>16</td></tr></table></body></html>"""

    parsed = parse(page, "text/html")

    assert parsed.title == "The page"
    assert "# Cats & dogs" in parsed.text
    assert "They **sleep**, see here." in parsed.text
    assert "| cat | 16 |" in parsed.text
    assert not any(word in parsed.text for word in ("alert", "color", "example"))
    assert all(block.headings == ("Cats & dogs",) for block in parsed.blocks)


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    st.sampled_from(["text/plain", "text/markdown", "text/html"]),
)
def test_any_text_can_be_parsed_and_blocks_are_ranges_in_order(text: str, kind: str) -> None:
    parsed = parse(text, kind)

    position = 0
    for block in parsed.blocks:
        assert position <= block.start < block.end <= len(parsed.text)
        assert parsed.text[position : block.start].strip() == ""
        position = block.end
    assert parsed.text[position:].strip() == ""
