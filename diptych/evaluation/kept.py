"""What a shorter text keeps of a longer one: its words, its identifiers, and what a person would have said. Pure.

ROUGE (Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004) is Google's rouge-score, with stems: F1 of single
words, pairs, and the longest common sequence. It compares with one person's choice of words, so that other good summaries score
low too; what survives of facts says more of a memory.
"""

import re
from functools import cache
from typing import Any, Final

from diptych.evaluation.extras import needed

_WORD: Final = re.compile(r"\w+")
_TOKEN: Final = re.compile(r"\S+")
_ENDS: Final = ".,;:!?\"'()[]{}<>*`«»“”‘’…"  # noqa: RUF001 - the marks that stand around words
# What stands within a path, an address, a name of code or a time, and not at the edge of a word.
_INNER: Final = re.compile(r"\w[/@_\\:.=-]+\w")
_SENTENCE_END: Final = re.compile(r"[.!?:]$")
_ROUGES: Final = {"ROUGE-1": "rouge1", "ROUGE-2": "rouge2", "ROUGE-L": "rougeL"}
ROUGE_METRICS: Final = (*_ROUGES, "recall-1")


def content_words(text: str) -> set[str]:
    """In lower case, without the words that every English text has."""
    stop_words = needed("sklearn.feature_extraction.text").ENGLISH_STOP_WORDS
    return {word for word in _WORD.findall(text.casefold()) if word not in stop_words}


def identifiers(text: str) -> set[str]:
    """What must be kept letter by letter: whatever has a digit or a mark within, and names, as capitals within a sentence
    show them."""
    found = set()
    is_first = True
    for token in _TOKEN.findall(text):
        word = token.strip(_ENDS)
        is_name = not is_first and len(word) > 1 and word[0].isupper()
        if word and (is_name or any(letter.isdigit() for letter in word) or _has_mark(word)):
            found.add(word)
        is_first = _SENTENCE_END.search(token.rstrip("\"')")) is not None
    return found


def kept_words(wanted: set[str], text: str) -> float | None:
    """The share of them that the text has; None where nothing was wanted."""
    return len(wanted & content_words(text)) / len(wanted) if wanted else None


def kept_identifiers(wanted: set[str], text: str) -> float | None:
    """Those that stand in the text letter by letter, and not as a part of another word."""
    if not wanted:
        return None
    return sum(re.search(rf"(?<!\w){re.escape(each)}(?!\w)", text) is not None for each in wanted) / len(wanted)


def rouge_scores(reference: str, text: str) -> dict[str, float]:
    """F1 by kind, and how many of the reference's words are there (recall of ROUGE-1)."""
    found = _scorer().score(reference, text)
    scores = {name: float(found[kind].fmeasure) for name, kind in _ROUGES.items()}
    return {**scores, "recall-1": float(found["rouge1"].recall)}


def _has_mark(word: str) -> bool:
    """A hyphen alone joins plain words."""
    return any(mark.group()[1:-1] != "-" for mark in _INNER.finditer(word))


@cache
def _scorer() -> Any:
    return needed("rouge_score.rouge_scorer").RougeScorer(list(_ROUGES.values()), use_stemmer=True)
