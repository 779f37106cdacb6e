"""What a span says: the beginnings of its turns, within its budget of tokens. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from memory.records import Line
from shared.memory_messages import LedgerItem
from shared.tokens import estimate_tokens

NAME = "lead.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    text: str
    ledger: Sequence[LedgerItem] = field(default_factory=tuple)


def compose(lines: Sequence[Line], tokens_max: int) -> Composed:
    texts = [f"{line.speaker}: {' '.join(line.text.split())}" for line in lines if line.text.strip()]
    width = max((len(text) for text in texts), default=0)
    while estimate_tokens("\n".join(text[:width] for text in texts)) > tokens_max and width > 1:
        width = int(width * 0.8)
    text = "\n".join(text[:width] for text in texts)
    while estimate_tokens(text) > tokens_max:
        text = text[: int(len(text) * 0.9)]
    return Composed(text=text)


def merge(children: Sequence[Composed], tokens_max: int) -> Composed:
    text = "\n".join(child.text for child in children)
    while estimate_tokens(text) > tokens_max:
        text = text[: int(len(text) * 0.9)]
    return Composed(text=text)


def render(composed: Composed) -> str:
    return composed.text
