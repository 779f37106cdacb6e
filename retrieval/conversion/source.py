"""Source code to blocks under the names of what they define. Pure.

A line that opens a definition starts a section; what it stands in is told by indentation, which formatters keep in every
language. Grammars (tree-sitter) would be exact, but their Python packages fetch each language's grammar over the network
on first use or weigh a hundred megabytes, and a heading that is missed costs little: the code is still text.
"""

import re
from collections.abc import Iterator
from typing import Final

from retrieval.chunks.parsing import Block, Parsed
from retrieval.conversion.limits import Limits
from shared.content_types import SOURCE

_MODIFIERS: Final = (
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|sealed|override|open|inline|"
    r"virtual|partial|unsafe|extern|const|data|case|pub(?:\([\w ]+\))?|declare|local)\s+)*"
)
_KEYWORD: Final = re.compile(
    rf"(?P<indent>[ \t]*){_MODIFIERS}(?:class|def|function\*?|func|fun|fn|sub|struct|enum|union|trait|interface|impl|module|"
    r"namespace|object|protocol|extension|record|macro|defmodule|defp?|message|service|package)\b"
    r"\s+(?:\([^)\n]*\)\s*)?(?:<[^>\n]*>\s*)?(?P<name>[A-Za-z_$][\w$.:]*[?!]?)",
)
_ASSIGNED: Final = re.compile(
    rf"(?P<indent>[ \t]*){_MODIFIERS}(?:let|var)?\s*(?P<name>[A-Za-z_$][\w$.]*)\s*=\s*(?:async\s*)?"
    r"(?:function\b|\([^()\n]*\)\s*=>|class\b)"
)
# `int main(void) {`, `public String name() {`: a type, a name, parameters, and a brace on this line or the next.
_TYPED: Final = re.compile(
    rf"(?P<indent>[ \t]*){_MODIFIERS}[A-Za-z_][\w:<>,*&\[\]. ]*[\s*&](?P<name>~?[A-Za-z_][\w:~]*)\s*\([^;{{}}]*\)[^;{{}}=]*\{{"
)
_SQL: Final = re.compile(
    r"(?P<indent>)create\s+(?:or\s+replace\s+)?(?:table|view|function|procedure|trigger|index|type)\s+"
    r"(?:if\s+not\s+exists\s+)?(?P<name>[\w.\"`]+)",
    re.IGNORECASE,
)
_NO_NAMES: Final = frozenset(
    {"if", "for", "while", "switch", "return", "else", "catch", "new", "throw", "match", "with"}
)
# Decorators, attributes and comments right above a definition belong to it.
_ATTACHED: Final = re.compile(r"[ \t]*(?:@|#|//|/\*|\*|--|\"\"\"|///)")
_LINE_LENGTH_MAX: Final = 400
_TAB: Final = 4


def convert_source(text: str, limits: Limits) -> Parsed:
    """The text stays exactly as it is."""
    del limits  # the text is no longer than it came
    return Parsed(None, SOURCE, text, tuple(_blocks(text)))


def _blocks(text: str) -> Iterator[Block]:
    path: list[tuple[int, str]] = []
    start = 0
    for position, line_end, indent, name in _definitions(text):
        yield from _body(text, start, position, tuple(part for _, part in path))
        path = [(depth, part) for depth, part in path if depth < indent]
        path.append((indent, name))
        headings = tuple(part for _, part in path)
        yield Block(position, line_end, headings, is_heading=True)
        start = line_end
    yield from _body(text, start, len(text), tuple(part for _, part in path))


def _definitions(text: str) -> Iterator[tuple[int, int, int, str]]:
    """(where it starts, with what is attached; where its first line ends; indentation; name)."""
    position, attached = 0, None
    for line in text.splitlines(keepends=True):
        end = position + len(line)
        found = _opened(text, position, line)
        if found is not None:
            yield (
                position if attached is None else attached,
                end,
                len(found["indent"].expandtabs(_TAB)),
                found["name"].rstrip(":."),
            )
        is_attached = found is None and _ATTACHED.match(line) is not None
        attached = (position if attached is None else attached) if is_attached else None
        position = end


def _opened(text: str, position: int, line: str) -> re.Match[str] | None:
    if not line.strip() or len(line) > _LINE_LENGTH_MAX:
        return None
    found = _KEYWORD.match(line) or _ASSIGNED.match(line) or _SQL.match(line)
    if found is None and "(" in line and not line.rstrip().endswith((";", ",")):
        following = text[position + len(line) : position + len(line) + _LINE_LENGTH_MAX].lstrip()
        found = _TYPED.match(line if "{" in line else line.rstrip() + (" {" if following.startswith("{") else ""))
    return None if found is None or found["name"] in _NO_NAMES or line.split(maxsplit=1)[0] in _NO_NAMES else found


def _body(text: str, start: int, end: int, headings: tuple[str, ...]) -> Iterator[Block]:
    """Runs between blank lines, so that code is cut there before it is cut anywhere else."""
    for part in re.finditer(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", text[start:end]):
        yield Block(start + part.start(), start + part.end(), headings)
