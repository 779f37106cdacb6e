"""Text to terms: lower-cased words, stemmed. Pure.

Identifiers count whole and in parts, so that `retry_limit` is found by "retry". Nothing is dropped as a stop word, because
"not" or "the who" may be what was meant. But the words that make a question one are worth less when asked for (`weights`): people
who talk ask few questions, so BM25's own weights take "what did you" for rare words, and find other questions.
"""

import re
import unicodedata
from datetime import datetime
from typing import Final

import Stemmer

from memory.text.common_words import FUNCTION_WORDS

_WORD = re.compile(r"\w+")
_PART = re.compile(r"[^\W_]+")
_TERM_LENGTH_MAX = 80

# Not from the locale, which would make an index depend on the machine.
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


# Between .05 and .3 all is about the same; 0 would find nothing for a query that has only them.
_FUNCTION_WORD: Final = 0.2


class Words:
    """Not thread-safe, because the stemmer is not: one for each index."""

    def __init__(self, language: str = "english") -> None:
        # Without its cache, which saves no time and keeps a list for every word.
        self._stemmer = Stemmer.Stemmer(language, 0)
        self._function_terms = frozenset(self._stemmer.stemWords(sorted(FUNCTION_WORDS)))

    def terms(self, text: str) -> list[str]:
        plain = unicodedata.normalize("NFKC", text).lower()
        words = [word[:_TERM_LENGTH_MAX] for word in _WORD.findall(plain)]
        if "_" in plain:  # few texts have one, and all are read
            words = [each for word in words for each in _whole_and_parts(word)]
        terms: list[str] = self._stemmer.stemWords(words)
        return terms

    def weights(self, query: str) -> dict[str, float]:
        """The terms of a query, and what each is worth beside what BM25 makes of it."""
        return {term: _FUNCTION_WORD if term in self._function_terms else 1.0 for term in self.terms(query)}


def _whole_and_parts(word: str) -> list[str]:
    parts: list[str] = _PART.findall(word)
    return [*parts, word] if len(parts) > 1 else parts


def written_date(moment: datetime) -> str:
    """A day in the words that people use for it, in the zone that `moment` is in: "Tuesday 9 May 2023"."""
    return f"{WEEKDAYS[moment.weekday()]} {moment.day} {MONTHS[moment.month - 1]} {moment.year}"
