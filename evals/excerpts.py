"""How well retrieved ranges of a text cover the excerpts that answer a question. Pure.

The measures are those of Smith and Troynikov, "Evaluating Chunking Strategies for Retrieval" (Chroma, 2024), counted in
characters. A range that is retrieved twice counts twice in what was read, and once in what was found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` of the text called `corpus`."""

    corpus: str
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Coverage:
    """All in 0..1. Where nothing was retrieved, all are 0."""

    recall: float
    precision: float
    iou: float


def coverage(excerpts: Sequence[Span], retrieved: Sequence[Span]) -> Coverage:
    """`excerpts` must not be empty. They may overlap: an excerpt's character counts once."""
    wanted = _union(excerpts)
    found = sum(span.length for span in _union(_intersections(wanted, retrieved)))
    sought, read = sum(span.length for span in wanted), sum(span.length for span in retrieved)
    return Coverage(
        recall=found / sought,
        precision=found / read if read else 0.0,
        iou=found / (read + sought - found),
    )


def best_precision(excerpts: Sequence[Span], chunks: Iterable[Span]) -> float:
    """Precision if exactly the chunks that touch an excerpt were retrieved: what the cutting alone allows."""
    touching = [chunk for chunk in chunks if any(_overlap(chunk, excerpt) for excerpt in excerpts)]
    return coverage(excerpts, touching).precision


def within(retrieved: Sequence[Span], characters: int) -> list[Span]:
    """The first of them, as many characters as that; the last one is cut."""
    kept, left = [], characters
    for span in retrieved:
        if left <= 0:
            break
        kept.append(Span(span.corpus, span.start, min(span.end, span.start + left)))
        left -= span.length
    return kept


def _overlap(one: Span, other: Span) -> Span | None:
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Span(one.corpus, start, end) if one.corpus == other.corpus and start < end else None


def _intersections(wanted: Sequence[Span], retrieved: Sequence[Span]) -> list[Span]:
    return [common for one in wanted for other in retrieved if (common := _overlap(one, other))]


def _union(spans: Iterable[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans):
        last = joined[-1] if joined else None
        if last and last.corpus == span.corpus and span.start <= last.end:
            joined[-1] = Span(last.corpus, last.start, max(last.end, span.end))
        else:
            joined.append(span)
    return joined
