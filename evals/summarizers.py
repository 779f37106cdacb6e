"""Ways to say a span in fewer words: ours, the first sentences, and the graph methods of sumy where that is installed.

All choose among the same sentences, write them the same way and have the same budget.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

from memory.compaction.extractive import summarize, write
from memory.compaction.span_text import compose, render
from memory.text.sentences import Sentence, sentences
from memory.text.words import Words
from memory.truth.records import Line
from shared.tokens import estimate_tokens

Summarizer = Callable[[Sequence[Line], int], str]


def summarizers() -> dict[str, Summarizer]:
    """By name; the first is what spans are made with, and `span` what a context shows of one, ledger and all."""
    ways: dict[str, Summarizer] = {"extractive": summarize, "span": _span, "lead": _lead}
    if find_spec("sumy") is not None:
        ways |= {
            "LexRank": _ranked("lex_rank", "LexRankSummarizer"),
            "TextRank": _ranked("text_rank", "TextRankSummarizer"),
        }
    return ways


def _span(lines: Sequence[Line], tokens_max: int) -> str:
    composed = compose(lines, tokens_max)
    return render(composed.text, composed.ledger)


def _lead(lines: Sequence[Line], tokens_max: int) -> str:
    found = sentences(lines)
    return packed(found, range(len(found)), tokens_max)


def packed(found: Sequence[Sentence], order: Sequence[int], tokens_max: int) -> str:
    """In that order each one that still fits, written in the order they were said."""
    chosen: list[int] = []
    for index in order:
        if estimate_tokens(write([found[each] for each in sorted([*chosen, index])])) <= tokens_max:
            chosen.append(index)
    return write([found[index] for index in sorted(chosen)])


class _Tokenizer:
    """What sumy asks of one. Its own needs a model that is fetched when it is first used."""

    _words: Final = Words()

    def to_words(self, text: str) -> tuple[str, ...]:
        return tuple(self._words.terms(text))

    def to_sentences(self, text: str) -> tuple[str, ...]:
        return (text,)


def _ranked(module: str, name: str) -> Summarizer:
    def summarize(lines: Sequence[Line], tokens_max: int) -> str:
        from importlib import import_module  # noqa: PLC0415 - only there where its environment is

        dom = import_module("sumy.models.dom")
        found, tokenizer = sentences(lines), _Tokenizer()
        if not found:
            return ""
        texts = [dom.Sentence(sentence.text, tokenizer) for sentence in found]
        document = dom.ObjectDocumentModel([dom.Paragraph(texts)])
        order: list[int] = []

        def keep(ranked: Sequence[Any]) -> Sequence[Any]:
            order.extend(info.order for info in ranked)
            return ranked

        getattr(import_module(f"sumy.summarizers.{module}"), name)()(document, keep)
        return packed(found, order, tokens_max)

    return summarize
