"""Spans, put together from what they stand for and what a summarizer said of it. Pure."""

import hashlib
from collections.abc import Sequence
from typing import Final

from memory.compaction.span_text import Composed
from memory.compaction.spans import NewSpan, Source, StoredSpan

# Less says nothing.
_SPAN_TOKENS_MIN: Final = 64
# What rolls up shrinks by this: spans of all levels together then grow with the square root of the session.
_ROLLED_SHARE: Final = 2


def tokens_of_turns(source_tokens: int, share: float) -> int:
    """The budget of a span of level 0."""
    return max(int(source_tokens * share), _SPAN_TOKENS_MIN)


def tokens_of_spans(children: Sequence[StoredSpan]) -> int:
    """The budget of a span that stands for these."""
    return max(sum(child.span.tokens for child in children) // _ROLLED_SHARE, _SPAN_TOKENS_MIN)


def span_of_turns(source: Source, composed: Composed, summarizer: str) -> NewSpan:
    times = [line.created_at for line in source.lines]
    return NewSpan(
        level=0,
        first_seq=source.lines[0].seq,
        last_seq=source.lines[-1].seq,
        turns=len(source.lines),
        since=min(times),
        until=max(times),
        composed=composed,
        source_tokens=source.tokens,
        summarizer=summarizer,
        source_hash=source.hash,
    )


def span_of_spans(children: Sequence[StoredSpan], composed: Composed, summarizer: str) -> NewSpan:
    spans = [child.span for child in children]
    return NewSpan(
        level=spans[0].level + 1,
        first_seq=spans[0].first_seq,
        last_seq=spans[-1].last_seq,
        turns=sum(child.turns for child in children),
        since=min(span.since for span in spans),
        until=max(span.until for span in spans),
        composed=composed,
        source_tokens=sum(span.source_tokens for span in spans),
        summarizer=summarizer,
        source_hash=hashlib.sha256(b"".join(child.source_hash for child in children)).digest(),
        children=[child.id for child in children],
    )
