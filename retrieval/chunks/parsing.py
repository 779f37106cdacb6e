"""Documents to text with structure. Pure.

Markdown is the common form: HTML is turned into it, and blocks carry the headings above them. Every block is a range of
characters of the text that is stored, so offsets are exact by construction.
"""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdownify import MarkdownConverter

from shared.content_types import PLAIN

# Nothing a reader sees on the page.
_INVISIBLE = ("script", "style", "template", "noscript", "svg", "iframe", "object", "head", "title")

_BLANK_LINES = re.compile(r"\n[ \t\r\f\v]*\n\s*")


BlockKind = Literal["text", "list", "table", "code"]
_KINDS: Final[dict[str, BlockKind]] = {
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "table_open": "table",
    "fence": "code",
    "code_block": "code",
}


@dataclass(frozen=True, slots=True)
class Block:
    """A range that reads as one: a paragraph, a list, a table, a code block. `headings` is the path above it.

    `kind` says where it is cut when it is too long. `context` is a range at its start that its later parts are not
    understood without: a table's header row, the line that opens a fence and names the language.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    is_heading: bool = False
    kind: BlockKind = "text"
    context: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Parsed:
    """`pages` are the offsets at which pages start, where there are any."""

    title: str | None
    content_type: str
    text: str
    blocks: tuple[Block, ...]
    pages: tuple[int, ...] = ()


def parse(text: str, kind: str) -> Parsed:
    """`kind` is HTML or MARKDOWN; anything else is plain text."""
    source = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    match kind:
        case "text/html":
            title, source = _html_to_markdown(source)
            blocks = tuple(_markdown_blocks(source))
            return Parsed(title or _first_heading(blocks), kind, source, blocks)
        case "text/markdown":
            blocks = tuple(_markdown_blocks(source))
            return Parsed(_first_heading(blocks), kind, source, blocks)
        case _:
            return Parsed(None, PLAIN, source, tuple(_paragraphs(source, 0, len(source), ())))


class _Converter(MarkdownConverter):
    """Headings as `#`, links as their text: an address inside a sentence only disturbs matching."""

    def convert_a(self, el: object, text: str, parent_tags: object) -> str:  # noqa: ARG002 - markdownify passes by name
        return text

    def convert_td(self, el: object, text: str, parent_tags: object) -> str:
        cell: str = super().convert_td(el, text.replace("|", "\\|"), parent_tags)  # type: ignore[misc]
        return cell

    def convert_th(self, el: object, text: str, parent_tags: object) -> str:
        cell: str = super().convert_th(el, text.replace("|", "\\|"), parent_tags)  # type: ignore[misc]
        return cell

    def convert_img(self, el: "dict[str, str]", text: str, parent_tags: object) -> str:  # noqa: ARG002
        return el.get("alt", "")


def _html_to_markdown(source: str) -> tuple[str | None, str]:
    with warnings.catch_warnings():
        # XHTML is announced as HTML here; the HTML parser is what is wanted.
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        soup = BeautifulSoup(source, "html.parser")
    title = soup.title.get_text(" ", strip=True) if soup.title else None
    for element in soup(_INVISIBLE):
        element.decompose()
    converter = _Converter(
        heading_style="ATX",
        escape_underscores=False,
        escape_asterisks=False,
        # Most tables, and all of Word's, mark no header; their first row nearly always is one.
        table_infer_header=True,
    )
    text: str = converter.convert_soup(soup)
    return title or None, re.sub(r"\n{3,}", "\n\n", text).strip()


def _markdown_blocks(text: str) -> Iterator[Block]:
    """Top-level blocks with the headings above them. Lists and tables stay whole; the chunker splits what is too long."""
    line_starts = [0, *(match.end() for match in re.finditer(r"\n", text)), len(text)]
    path: list[tuple[int, str]] = []
    position = 0
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for index, token in enumerate(tokens):
        if token.level != 0 or token.map is None:
            continue
        start = line_starts[token.map[0]]
        end = line_starts[min(token.map[1], len(line_starts) - 1)]
        # What Markdown takes for no block, such as the definition of a link, is text all the same.
        yield from _paragraphs(text, position, start, tuple(name for _, name in path))
        position = end
        if token.type == "heading_open":
            level = int(token.tag[1:])
            path = [(depth, name) for depth, name in path if depth < level]
            path.append((level, _plain(tokens[index + 1])))
        yield Block(
            start,
            end,
            tuple(name for _, name in path),
            is_heading=token.type == "heading_open",
            kind=_KINDS.get(token.type, "text"),
            context=(start, line_starts[token.map[0] + 1]) if _explains_the_rest(token) else None,
        )
    yield from _paragraphs(text, position, len(text), tuple(name for _, name in path))


def _explains_the_rest(token: Token) -> bool:
    """Whether the block's first line is needed to read the others."""
    return token.type == "table_open" or (token.type == "fence" and bool(token.info.strip()))


def _plain(inline: Token) -> str:
    parts = inline.children or []
    return "".join(part.content for part in parts if part.type in {"text", "code_inline"}).strip() or inline.content


def _first_heading(blocks: tuple[Block, ...]) -> str | None:
    return next((block.headings[-1] for block in blocks if block.is_heading), None)


def _paragraphs(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Block]:
    position = start
    for gap in _BLANK_LINES.finditer(text, start, end):
        if not text[position : gap.start()].isspace() and gap.start() > position:
            yield Block(position, gap.start(), headings)
        position = gap.end()
    if position < end and not text[position:end].isspace():
        yield Block(position, end, headings)
