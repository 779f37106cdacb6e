"""What a span says: a summary, and below it the ledger of what the summary lost, within one budget. Pure.

The ledger is served first, because what it has cannot be guessed from anything else, but never to the last token: a list of
numbers without a word of what was done helps nobody. What neither needs goes to the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from memory.compaction.extractive import Condenser
from memory.compaction.ledger import extract, fitted, render_ledger, stands_in, unrepeated
from memory.text.sentences import Sentence, said_in, sentences
from memory.truth.records import Line
from shared.memory_messages import LedgerItem
from shared.tokens import TWELFTHS, estimate_tokens, token_twelfths

# The least part of the budget that is prose, if there is any to be had.
TEXT_SHARE_MIN: Final = 0.1
_BETWEEN: Final = "\n\n"
_SPEAKER_CHARACTERS_MAX: Final = 40
# How often an identifier's turn in its child's ledger is moved up when others have it too.
_SHARED: Final = 0.25


@dataclass(frozen=True, slots=True)
class Composed:
    """`ledger` has every identifier that stands in the rendered span, in `text` or below it; the most important first."""

    text: str
    ledger: list[LedgerItem]


class Child(Protocol):
    """What is rolled up: a span, or what was composed for one."""

    @property
    def text(self) -> str: ...

    @property
    def ledger(self) -> Sequence[LedgerItem]: ...

    @property
    def first_seq(self) -> int: ...


def render(text: str, entries: Sequence[LedgerItem]) -> str:
    """What a context shows. Entries that stand in the text, or within another one, are not told again."""
    below = render_ledger(unrepeated(entries, text))
    return text + _BETWEEN + below if text and below else text or below


def compose(lines: Sequence[Line], tokens_max: int) -> Composed:
    """The span of these turns; `render` makes at most `tokens_max` tokens of it."""
    found, entries = sentences(lines), extract(lines)
    return _shared_out(entries, Condenser(found, owed=_texts(entries)).within, tokens_max)


def compose_around(lines: Sequence[Line], text: str, tokens_max: int) -> Composed:
    """As `compose`, with a summary that was made elsewhere. Raises ValueError where that alone is over the budget."""
    if estimate_tokens(text) > tokens_max:
        raise ValueError(f"the summary has {estimate_tokens(text)} tokens, and the span may have {tokens_max}")
    return _around(extract(lines), text, tokens_max)


def text_tokens(lines: Sequence[Line], tokens_max: int) -> int:
    """How much of a span's budget a summary that is made elsewhere should take."""
    return _text_tokens(extract(lines), tokens_max)


def merge(children: Sequence[Child], tokens_max: int) -> Composed:
    """The span that stands for these spans, from what they say alone."""
    ordered = sorted(children, key=lambda child: child.first_seq)
    found = list(_sentences(ordered))
    # No child is more of an opening than another.
    entries = _united(ordered)
    return _shared_out(entries, Condenser(found, opening=0.0, owed=_texts(entries)).within, tokens_max)


def _texts(entries: Sequence[LedgerItem]) -> frozenset[str]:
    return frozenset(entry.text for entry in entries)


def _shared_out(entries: Sequence[LedgerItem], write: Callable[[int], str], tokens_max: int) -> Composed:
    text = write(_text_tokens(entries, tokens_max))
    composed = _around(entries, text, tokens_max)
    left = tokens_max - estimate_tokens(render(text, composed.ledger))
    if left <= 0 or len(composed.ledger) < len(entries):
        return composed
    # What stands in the text is not told again, so there may be room for more of it.
    longer = write(estimate_tokens(text) + left)
    if estimate_tokens(longer) > tokens_max:
        return composed
    other = _around(entries, longer, tokens_max)
    return other if len(other.ledger) == len(entries) else composed


def _text_tokens(entries: Sequence[LedgerItem], tokens_max: int) -> int:
    ledger = estimate_tokens(_BETWEEN + render_ledger(fitted(entries, tokens_max)))
    return max(int(TEXT_SHARE_MIN * tokens_max), tokens_max - ledger)


def _around(entries: Sequence[LedgerItem], text: str, tokens_max: int) -> Composed:
    left = (tokens_max * TWELFTHS - token_twelfths(text + _BETWEEN if text else "")) // TWELFTHS
    kept = fitted(entries, max(0, left), shown=text)
    told = "\n".join([text, *(entry.text for entry in kept)])
    return Composed(text, [entry for entry in entries if stands_in(entry.text, told)])


def _united(children: Sequence[Child]) -> list[LedgerItem]:
    """Each text once, from its first turn. Ledgers are ordered, and their orders are merged by place."""
    places: dict[str, list[float]] = {}
    first: dict[str, LedgerItem] = {}
    for child in children:
        for place, entry in enumerate(child.ledger):
            places.setdefault(entry.text, []).append((place + 1) / len(child.ledger))
            if entry.text not in first or entry.seq < first[entry.text].seq:
                first[entry.text] = entry
    return sorted(first.values(), key=lambda entry: (_place(places[entry.text]), entry.seq, entry.text))


def _place(places: Sequence[float]) -> float:
    return min(places) / (1.0 + _SHARED * (len(places) - 1))


def _sentences(children: Iterable[Child]) -> Iterator[Sentence]:
    """A summary's lines are turns; those of another summarizer may have no speaker."""
    line = 0
    for child in children:
        for text in child.text.splitlines():
            speaker, colon, said = text.partition(": ")
            if not colon or len(speaker) > _SPEAKER_CHARACTERS_MAX:
                speaker, said = "", text
            if said.strip():
                yield from said_in(line, speaker, said.strip())
                line += 1
