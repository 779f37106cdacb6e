"""What of a turn was not said by memory itself. Pure.

An agent puts a context into its prompt, and what it puts there may be appended as a turn. Noted as new facts, what was once
recalled would confirm itself for ever, and outlive its own correction. So all that a context is written in is taken out:
whatever follows one of its headings, quoted lines, fenced documents, and lines of a conversation with their times.

It takes out too much rather than too little: a question below a pasted context is not read, nor is any other quote.
"""

import re
from typing import Final

from memory.context import HEADINGS

_FROM_A_HEADING: Final = re.compile(
    rf"^[ \t]*(?:{'|'.join(re.escape(heading.strip()) for heading in HEADINGS.values())})[ \t]*$.*",
    re.MULTILINE | re.DOTALL,
)
_DOCUMENT: Final = re.compile(r"<document\b.*?(?:</document>|\Z)", re.DOTALL)
_QUOTED: Final = re.compile(r"^[ \t]*>.*\n?", re.MULTILINE)
# A turn of the tail, up to the next empty line, or the line that names a span.
_TURN: Final = re.compile(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d\] .*?(?:\n[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"^\[turns \d+ to \d+, .*\]$\n?", re.MULTILINE)


def own_words(text: str) -> str:
    for pattern in (_FROM_A_HEADING, _DOCUMENT, _TURN, _SPAN, _QUOTED):
        text = pattern.sub("", text)
    return text.strip()
