"""Text to terms: lower-cased words, stemmed. Pure.

Identifiers count whole and in parts, so that `retry_limit` is found by "retry". Nothing is dropped as a stop word: BM25's
own weights make frequent words count for little, and in a small memory "not" or "the who" may be what was meant.
"""

import re
import unicodedata

import Stemmer

_WORD = re.compile(r"\w+")
_PART = re.compile(r"[^\W_]+")
_TERM_LENGTH_MAX = 80


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
