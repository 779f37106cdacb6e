"""The ledger of a span: what summaries lose, word for word. Pure, deterministic, and without a model.

Every entry is a piece of its turn, character by character. Order is by importance: what a kind of entry is worth to somebody
who comes back later, who said it, how often and how recently, by the root of what it costs. The root, because a command is
worth more than a number but not as many times more as it is longer; by the full cost, short things would push out every
command and error, and by none a few long lines would push out everything.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from memory.text.identifiers import Found, find
from memory.text.phrases import find_phrases
from memory.truth.records import Line
from shared.memory_messages import LedgerItem, LedgerKind, Role
from shared.tokens import TWELFTHS, estimate_tokens, token_twelfths

# Without it a command cannot be repeated nor a file found; a number without its sentence says least.
_WEIGHTS: Final[dict[LedgerKind, float]] = {
    "command": 11.0,
    "path": 9.0,
    "url": 10.0,
    "email": 9.0,
    "id": 8.0,
    "money": 8.0,
    "error": 7.0,
    "version": 6.0,
    "number": 4.2,
    "date": 5.0,
    "quote": 4.0,
    "name": 3.0,
}
# What a person typed was meant; what a tool printed is mostly there by the way.
_SPEAKERS: Final[dict[Role, float]] = {"user": 1.5, "assistant": 1.25, "system": 1.25, "tool": 1.0}
# Stamps of log lines are the most frequent thing that tools print, and the least asked for.
_TOOL_DATE: Final = 0.15
_TOOL_ERROR_AGAIN: Final = 0.2
_COST_EXPONENT: Final = 0.5
_RECENCY: Final = 0.15
_FREQUENCY: Final = 0.25
# Labels and separators are what they cost least with: one character between entries, a break where entries have blanks.
_LAYOUT: Final[dict[LedgerKind, tuple[str, str]]] = {
    "path": ("paths: ", " "),
    "url": ("urls: ", " "),
    "email": ("emails: ", " "),
    "id": ("ids: ", " "),
    "version": ("versions: ", " "),
    "name": ("names: ", ";"),
    "date": ("dates: ", ";"),
    "money": ("money: ", ";"),
    "number": ("numbers: ", ";"),
    "quote": ("quotes:\n", "\n"),
    "command": ("commands:\n", "\n"),
    "error": ("errors:\n", "\n"),
}
_PASSES_MAX: Final = 4
_LOGGED: Final = re.compile(r"(?:ERROR|FATAL|CRITICAL)[\s:\]]")
_TOOL_LOGGED: Final = 0.3
_SINGLE_DIGIT: Final = re.compile(r"#?\d")
_RUN: Final = re.compile(r"\w+")
_VARYING: Final = re.compile(r"\w*\d\w*")


def extract(lines: Sequence[Line]) -> list[LedgerItem]:
    """Each text once, the most important first; of equals the earlier."""
    seen: dict[str, _Seen] = {}
    for place, line in enumerate(lines):
        recency = 1.0 - _RECENCY * (1.0 - (place + 1) / len(lines))
        for found in _found(line):
            worth = _worth(found, line.role) * recency
            known = seen.get(found.text)
            if known is None:
                seen[found.text] = _Seen(found.kind, line.seq, worth, 1)
            else:
                known.count += 1
                known.worth = max(known.worth, worth)
                if _WEIGHTS[found.kind] > _WEIGHTS[known.kind]:
                    known.kind = found.kind
    _lower_repeated_errors(seen)
    ranked = sorted(seen.items(), key=lambda item: -_importance(*item))
    return [LedgerItem(kind=each.kind, text=text, seq=each.seq) for text, each in ranked]


def fitted(entries: Sequence[LedgerItem], tokens_max: int, *, shown: str = "") -> list[LedgerItem]:
    """The most important that fit, as `render_ledger` writes them, into so many tokens; in the order given.

    What stands in `shown`, or within another entry that is kept, is not repeated and costs nothing.
    """
    containers = _containers(entries)
    candidates = [index for index, entry in enumerate(entries) if not stands_in(entry.text, shown)]
    kept: set[int] = set()
    labelled: dict[LedgerKind, int] = {}
    left = tokens_max * TWELFTHS
    for _ in range(_PASSES_MAX):
        for index in candidates:
            entry = entries[index]
            cost = _cost(entry) + (0 if labelled.get(entry.kind) else _label_cost(entry.kind))
            if index in kept or cost > left or not kept.isdisjoint(containers.get(entry.text, ())):
                continue
            kept.add(index)
            labelled[entry.kind] = labelled.get(entry.kind, 0) + 1
            left -= cost
        repeated = [index for index in kept if not kept.isdisjoint(containers.get(entries[index].text, ()))]
        if not repeated:
            break
        for index in repeated:
            entry = entries[index]
            kept.remove(index)
            labelled[entry.kind] -= 1
            left += _cost(entry) + (0 if labelled[entry.kind] else _label_cost(entry.kind))
    return [entries[index] for index in sorted(kept)]


def render_ledger(entries: Iterable[LedgerItem]) -> str:
    """One block a kind, entries by their turns."""
    by_kind: dict[LedgerKind, list[LedgerItem]] = {}
    for entry in entries:
        by_kind.setdefault(entry.kind, []).append(entry)
    return "\n".join(
        label + separator.join(entry.text for entry in sorted(by_kind[kind], key=lambda entry: entry.seq))
        for kind, (label, separator) in _LAYOUT.items()
        if kind in by_kind
    )


def unrepeated(entries: Sequence[LedgerItem], shown: str) -> list[LedgerItem]:
    """Without those that stand in `shown` or within another one."""
    everything = "\n".join(entry.text for entry in entries)
    return [entry for entry in entries if not stands_in(entry.text, shown) and not stands_in(entry.text, everything, 2)]


def stands_in(text: str, within: str, times: int = 1) -> bool:
    """Word for word, and not as a part of a longer word or number, in so many places."""
    at = within.find(text)
    while at >= 0:
        before, after = within[at - 1 : at] if at else "", within[at + len(text) : at + len(text) + 1]
        if not (_joins(before) and _joins(text[:1])) and not (_joins(after) and _joins(text[-1:])):
            times -= 1
            if not times:
                return True
        at = within.find(text, at + 1)
    return False


@dataclass(slots=True)
class _Seen:
    kind: LedgerKind
    seq: int
    worth: float
    count: int


def _found(line: Line) -> Iterator[Found]:
    for found in find(line.text):
        # A tool's single digits are everywhere, and mean nothing away from their place.
        if line.role != "tool" or not _SINGLE_DIGIT.fullmatch(found.text):
            yield found
    yield from (found for found in find_phrases(line.text, line.role) if found.text)


def _worth(found: Found, role: Role) -> float:
    worth = _WEIGHTS[found.kind] * _SPEAKERS[role]
    if role == "tool" and found.kind == "date":
        worth *= _TOOL_DATE
    if role == "tool" and found.kind == "error" and _LOGGED.match(found.text):
        worth *= _TOOL_LOGGED
    return worth


def _importance(text: str, seen: _Seen) -> float:
    return (
        seen.worth * (1.0 + _FREQUENCY * math.log2(seen.count)) / math.pow(1.0 + estimate_tokens(text), _COST_EXPONENT)
    )


def _lower_repeated_errors(seen: dict[str, _Seen]) -> None:
    """Log lines that say the same of another request: the first one tells it."""
    shapes: set[str] = set()
    for text, each in seen.items():
        if each.kind == "error":
            shape = _VARYING.sub("#", text)
            if shape in shapes:
                each.worth *= _TOOL_ERROR_AGAIN
            shapes.add(shape)


def _containers(entries: Sequence[LedgerItem]) -> dict[str, set[int]]:
    """For a text, which entries have it within."""
    texts = {entry.text for entry in entries}
    found: dict[str, set[int]] = {}
    for index, entry in enumerate(entries):
        if len(entry.text) > 3:  # noqa: PLR2004 - nothing shorter has another entry within that would be worth a place
            for part in _parts(entry):
                if part in texts and part != entry.text:
                    found.setdefault(part, set()).add(index)
    return found


def _parts(entry: LedgerItem) -> set[str]:
    """What stands within an entry as a whole: identifiers, words with numbers, beginnings and ends of paths."""
    parts = set(_RUN.findall(entry.text))
    if entry.kind in {"command", "error", "quote", "name"}:
        inner = find(entry.text)
        parts.update(found.text for found in inner)
        paths = [found.text for found in inner if found.kind == "path"]
    else:
        paths = [entry.text] if entry.kind in {"path", "url"} else []
    for path in paths:
        cuts = [match.start() for match in _CUT.finditer(path)]
        parts.update(path[:cut] for cut in cuts)
        parts.update(path[cut:].lstrip("/:") for cut in cuts)
    return parts


_CUT: Final = re.compile(r"/|::?")


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"


def _cost(entry: LedgerItem) -> int:
    """In twelfths of a token, with the separator."""
    return token_twelfths(entry.text) + 3


def _label_cost(kind: LedgerKind) -> int:
    return token_twelfths(_LAYOUT[kind][0])
