"""What the lexical index makes of text before it is cut into words: pure, and the same for chunks and for queries.

tantivy cuts at everything that is neither letter nor digit, lowercases, stems and folds accents. That alone loses three things,
which are added here as further words behind the text (the index keeps no positions, so their place does not matter):

- **Identifiers, whole and in parts.** `parse_http_header`, `parseHTTPHeader` and `parse.http/header` all give `parse`, `http`,
  `header` and the whole without its separators, `parsehttpheader`; so each of them finds the others, and the exact name most.
- **Letters beside digits.** `p53` gives `p` and `53` as well, so that it meets `p-53` and `P 53`.
- **Chinese, Japanese and Korean**, which have no spaces a tokenizer could rely on: each run of their characters becomes its
  characters and its pairs of neighbours. A query of two characters or more asks for the pairs only, so that it finds substrings
  without every text that has one of the characters. The script of each run decides, so mixed text works in every language.

Nothing is left out of the index: words such as "to be or not to be" or Python's `in` and `not` may be all that a query has.
A query leaves out its function words where any other word remains (see `lexical.py`).
"""

import re
import unicodedata
from functools import lru_cache
from itertools import chain
from typing import Final, Literal

from shared.retrieval_messages import Language

# Languages that tantivy stems, by the names that it knows them by.
STEMMERS: Final[dict[Language, str]] = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
# Those of them that it has no list of function words for.
WITHOUT_STOP_WORDS: Final = frozenset[Language]({"ar", "el", "ro", "ta", "tr"})
# How people ask, not what they ask about. Prepositions and articles stay: leaving out tantivy's list of 33 English words as well
# gains the lexical leg .04 on one set of code and costs it up to .011 on three others; fused it costs .014 on questions to code.
# fmt: off
ENGLISH_QUESTION_WORDS: Final = (
    "about", "am", "been", "being", "can", "could", "did", "do", "does", "doing", "from", "had", "has", "have", "he",
    "her", "his", "how", "i", "its", "me", "my", "our", "she", "should", "so", "than", "them", "us", "we", "were",
    "what", "when", "where", "which", "who", "whom", "whose", "why", "would", "you", "your",
)
# fmt: on

_RUN_LENGTH_CACHED_MAX: Final = 64
_ALPHANUMERIC: Final = re.compile(r"[A-Za-z0-9]+")
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Names with underscores, and what they are part of: dotted names and paths.
_SNAKE: Final = re.compile(r"[^\W_]+(?:_+[^\W_]+)+")
_PATH: Final = re.compile(r"\w+(?:(?:\.|::|[/\\#])\w+)+")
_SEPARATORS: Final = re.compile(r"[\W_]+")
# Kana, ideographs and Hangul; NFKC has already made half-width forms whole.
_NO_SPACES: Final = re.compile(
    "[\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f"
    "\uac00-\ud7ff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003fffd]+"
)


def searchable(text: str, *, role: Literal["chunk", "query"]) -> str:
    """The text with the words that a tokenizer alone would not find in it. Linear in its length."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        text = _NO_SPACES.sub(_bigrams_of_query if role == "query" else _grams_of_chunk, text)
    return " ".join([text, *chain.from_iterable(map(_further_words, text.split()))])


def _further_words(written: str) -> tuple[str, ...]:
    """What is added for one run of characters without white space."""
    # Long runs are data, not words, and would fill the cache.
    return _words_of_run(written) if len(written) <= _RUN_LENGTH_CACHED_MAX else _words_of_run.__wrapped__(written)


# Running text repeats its words: with the cache this module costs a fifth of indexing, without it half.
@lru_cache(maxsize=65_536)
def _words_of_run(written: str) -> tuple[str, ...]:
    """Parts of camelCase words and of words with digits; whole names without their separators."""
    if written.isalpha() and (written.islower() or written.istitle()):
        return ()
    found: list[str] = []
    for word in _ALPHANUMERIC.findall(written):
        parts = _PARTS.findall(word)
        if len(parts) > 1:
            found += parts
    found += [name.replace("_", "") for name in _SNAKE.findall(written)]
    found += [_SEPARATORS.sub("", path) for path in _PATH.findall(written)]
    return tuple(found)


def _grams_of_chunk(match: re.Match[str]) -> str:
    run = match.group()
    return f" {' '.join(run)} {' '.join(_pairs(run))} "


def _bigrams_of_query(match: re.Match[str]) -> str:
    run = match.group()
    return f" {' '.join(_pairs(run)) if len(run) > 1 else run} "


def _pairs(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(len(run) - 1)]
