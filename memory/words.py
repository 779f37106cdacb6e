"""Text to terms: lower-cased words, stemmed. Pure.

Identifiers count whole and in parts, so that `retry_limit` is found by "retry". Nothing is dropped as a stop word: BM25's
own weights make frequent words count for little, and in a small memory "not" or "the who" may be what was meant.
"""

import re
import unicodedata
from datetime import datetime
from typing import Final

import Stemmer

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


class Words:
    """Not thread-safe, because the stemmer is not: one for each index."""

    def __init__(self, language: str = "english") -> None:
        self._stemmer = Stemmer.Stemmer(language)

    def terms(self, text: str) -> list[str]:
        plain = unicodedata.normalize("NFKC", text).lower()
        found: list[str] = []
        for match in _WORD.finditer(plain):
            word = match.group()[:_TERM_LENGTH_MAX]
            parts = _PART.findall(word)
            found += parts
            if len(parts) > 1:
                found.append(word)
        terms: list[str] = self._stemmer.stemWords(found)
        return terms


def written_date(moment: datetime) -> str:
    """A day in the words that people use for it, in the zone that `moment` is in: "Tuesday 9 May 2023"."""
    return f"{WEEKDAYS[moment.weekday()]} {moment.day} {MONTHS[moment.month - 1]} {moment.year}"
