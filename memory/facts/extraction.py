"""What a model says that a conversation says, held against the conversation. Pure.

A model can be fluent and wrong, so a statement is kept only where it names turns of the user that were shown to it, where
all its numbers, dates, ids and addresses stand in them, and where half of its words do. What the assistant said is shown so
that the user can be understood, and is no source: it may be recalled memory in other words. Instructions are never taken
from a conversation, because then anybody who is quoted in it could give them.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from memory.models.pieces import split
from memory.models.summary_checks import unwrapped
from memory.own_words import own_words
from memory.text.mentions import find_mentions, unsupported
from memory.text.words import Words
from shared.memory_messages import FactKind, Turn
from shared.tokens import estimate_tokens

Refusal = Literal["malformed", "kind", "key", "too_long", "no_source", "unsupported", "rejected"]

# A sentence or two; what is longer was copied, not noted.
_TEXT_LENGTH_MAX: Final = 500
_KINDS: Final[frozenset[str]] = frozenset({"fact", "preference", "event"})
_KEY: Final = re.compile(r"[^\W_]+(?:[ ._-][^\W_]+){0,7}")
# "I moved to Porto" as "The user moved to Porto": the words of who speaks are the model's own, the rest is the user's.
_WORDS_SHARE_MIN: Final = 0.5
# Statements are flat, so one that was cut off, or that is no JSON, leaves the others readable.
_OBJECT: Final = re.compile(r"\{[^{}]*\}")
_SHOWN_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """Turns as the model reads them, and the user's own words in them by number."""

    text: str
    said: Mapping[int, str]


class Statement(msgspec.Struct, frozen=True):
    text: str
    turns: list[int]
    kind: FactKind = "fact"
    key: str | None = None

    def id_in(self, session_id: str) -> str:
        """The same for the same statement, so that looking at turns again writes nothing twice."""
        named = (session_id, self.text, self.kind, self.key, self.turns)
        return hashlib.sha256(msgspec.json.encode(named)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Refused:
    text: str
    reason: Refusal


class _Raw(msgspec.Struct, frozen=True):
    text: str
    turns: list[int] = []
    kind: str = "fact"
    key: str | None = None


def pieces_of(turns: Iterable[Turn], tokens_max: int) -> list[Piece]:
    """The words of user and assistant without what was recalled, in pieces of at most `tokens_max` (256 or more). Nothing is
    cut off; pieces in which the user says nothing are left out."""
    pieces: list[Piece] = []
    lines: list[str] = []
    said: dict[int, str] = {}
    tokens = 0
    for turn, line in _lines(turns, tokens_max):
        cost = estimate_tokens(line + "\n")
        if lines and tokens + cost > tokens_max:
            pieces.append(Piece("\n".join(lines), said))
            lines, said, tokens = [], {}, 0
        lines.append(line)
        tokens += cost
        if turn.role == "user":
            said[turn.seq] = f"{said.get(turn.seq, '')}\n{line}"
    pieces.append(Piece("\n".join(lines), said))
    return [piece for piece in pieces if piece.said]


def read_answer(answer: str, piece: Piece) -> tuple[list[Statement], list[Refused]]:
    """What may be stored, in order and each once, and what may not."""
    text = unwrapped(answer)
    found = _OBJECT.findall(text)
    if not found and "[]" not in text.replace(" ", ""):
        return [], [Refused(text[:_SHOWN_LENGTH_MAX], "malformed")]
    kept: dict[str, Statement] = {}
    refused: list[Refused] = []
    words = Words()
    for raw in found:
        match _checked(raw, piece, words):
            case Statement() as statement:
                kept.setdefault(statement.text, statement)
            case Refused() as refusal:
                refused.append(refusal)
    return list(kept.values()), refused


def _lines(turns: Iterable[Turn], tokens_max: int) -> Iterable[tuple[Turn, str]]:
    for turn in turns:
        words = own_words(turn.content) if turn.role in {"user", "assistant"} else ""
        name = f"{turn.name} ({turn.role})" if turn.name else turn.role
        head = f"[{turn.seq}] {turn.created_at:%Y-%m-%d %H:%M} {name}: "
        for part in split(words, tokens_max - estimate_tokens(head + "\n")):
            yield turn, head + part


def _checked(raw: str, piece: Piece, words: Words) -> Statement | Refused:
    try:
        said = msgspec.json.decode(raw, type=_Raw)
    except msgspec.MsgspecError:
        return Refused(raw[:_SHOWN_LENGTH_MAX], "malformed")
    text = " ".join(said.text.replace("\x00", " ").split())
    shown = text[:_SHOWN_LENGTH_MAX]
    turns = sorted(set(said.turns) & piece.said.keys())
    reason: Refusal | None = None
    if not text:
        reason = "malformed"
    elif said.kind not in _KINDS:
        reason = "kind"
    elif said.key and not _KEY.fullmatch(said.key):
        reason = "key"
    elif len(text) > _TEXT_LENGTH_MAX:
        reason = "too_long"
    elif not turns:
        reason = "no_source"
    elif not _is_supported(text, [piece.said[seq] for seq in turns], words):
        reason = "unsupported"
    if reason:
        return Refused(shown, reason)
    return Statement(text=text, turns=turns, kind=said.kind, key=(said.key or "").casefold() or None)  # type: ignore[arg-type]


def _is_supported(text: str, sources: Sequence[str], words: Words) -> bool:
    source = "\n".join(sources)
    own = words.terms(text)
    known = set(words.terms(source))
    return sum(term in known for term in own) >= _WORDS_SHARE_MIN * len(own) and not unsupported(
        text, source, find_mentions
    )
