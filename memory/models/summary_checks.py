"""Whether a model's answer may stand in for the turns that it was made of. Pure.

A model can be fluent and wrong, so nothing is taken on trust: an answer is cleaned of its wrapping, cut to its budget at
the end of a sentence, and refused where it is far too long, no summary at all, in another language, or where it mentions a
number, date, id, path or address that its source does not have. A refusal costs little, since the extractive summary of
the same turns is always there; an invented order number that is remembered for good costs much.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from memory.models.pieces import whole_sentences
from memory.text.languages import language_of
from memory.text.mentions import Mentions, unsupported
from shared.errors import DiptychError
from shared.tokens import estimate_tokens

Reason = Literal["model", "empty", "too_long", "declined", "echo", "repetitive", "language", "unsupported"]

# Models count tokens badly. Up to so much over the budget an answer is cut; beyond it, it did not follow its orders.
_OVER_MAX: Final = 2.0
# Prose of any language packs to between a half and a third. Ten times the same sentence packs to a tenth.
_REPETITIVE_RATIO: Final = 5.0
_REPETITIVE_BYTES_MIN: Final = 200
# So many words in the order of the prompt are no coincidence.
_ECHO_WORDS: Final = 8

_THINKING: Final = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_WRAPPING: Final = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
# A line of its own, so that a first sentence that speaks of a summary stays.
_INTRODUCTION: Final = re.compile(
    r"^(?:\*\*|#+ )?(?:[^\n:]{0,40}\bhere(?:'s| is)\b[^\n:]{0,60}\b(?:summary|notes?|memory)\b[^\n:]{0,40}|summary)"
    r"(?:\*\*)?:?(?:\*\*)?\s*(?:\n+|$)",
    re.IGNORECASE,
)
_DECLINED: Final = re.compile(
    r"^\W*(?:i(?:'m| am) (?:sorry|unable|not able)|i (?:can(?:no|')t|cannot|won't|will not|do not|don't) "
    r"|sorry,|as an ai\b|as a language model|unfortunately, i )",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")


class SummaryRefused(DiptychError):
    """No summary that may be kept. `reason` is `model` where there was no answer, else the check that it failed."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What an answer is held against, the same for all pieces of one summary. `language` is that of the conversation, or
    None where it is not sure; a code of ISO 639."""

    instructions: str
    language: str | None
    mentions: Mentions

    def accept(self, answer: str, source: str, *, tokens_max: int, is_whole: bool) -> str:
        """The answer as it may be kept: at most `tokens_max`, ending with a sentence if it had to be cut.

        `is_whole` is False where the model was cut off. Raises SummaryRefused.
        """
        text = unwrapped(answer)
        if not _WORD.search(text):
            raise SummaryRefused("empty", "the answer has no words")
        if _DECLINED.search(text):
            raise SummaryRefused("declined", "the model declined")
        if is_echo(text, self.instructions, source):
            raise SummaryRefused("echo", "the answer repeats the prompt")
        text = shortened(text, tokens_max, is_whole=is_whole)
        if is_repetitive(text):
            raise SummaryRefused("repetitive", "the answer goes round in circles")
        self._check_language(text)
        wrong = unsupported(text, source, self.mentions)
        if wrong:
            # How many, not which: they may be personal, and logs are read by more people than memories.
            raise SummaryRefused("unsupported", f"{len(wrong)} numbers, ids or addresses are not in the source")
        return text

    def _check_language(self, text: str) -> None:
        found = language_of(text) if self.language else None
        if found and found != self.language:
            raise SummaryRefused("language", f"the answer is in {found}, the conversation in {self.language}")


def unwrapped(answer: str) -> str:
    """Without a model's visible thinking, a code block around the whole, and "Here is the summary:"."""
    text = _THINKING.sub("", answer).strip()
    if match := _WRAPPING.match(text):
        text = match[1].strip()
    return _INTRODUCTION.sub("", text, count=1).strip()


def shortened(text: str, tokens_max: int, *, is_whole: bool) -> str:
    """Raises SummaryRefused where cutting would lose half of it, or not leave a sentence."""
    tokens = estimate_tokens(text)
    if is_whole and tokens <= tokens_max:
        return text
    if tokens > _OVER_MAX * tokens_max:
        raise SummaryRefused("too_long", f"the answer has {tokens} tokens, {tokens_max} were asked for")
    kept = whole_sentences(text, tokens_max).strip()
    if not kept:
        raise SummaryRefused("too_long", f"no sentence of the answer ends within {tokens_max} tokens")
    return kept


def is_echo(text: str, instructions: str, source: str) -> bool:
    """Whether it repeats the prompt, and not merely a conversation that has the prompt's words."""
    repeated = _runs(text) & _runs(instructions)
    return bool(repeated) and bool(repeated - _runs(source))


def is_repetitive(text: str) -> bool:
    data = text.encode()
    return len(data) >= _REPETITIVE_BYTES_MIN and len(data) > _REPETITIVE_RATIO * len(zlib.compress(data))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return {tuple(words[start : start + _ECHO_WORDS]) for start in range(len(words) - _ECHO_WORDS + 1)}
