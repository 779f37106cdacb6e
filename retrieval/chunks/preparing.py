"""A document as sent to a document as stored: parse, chunk, and say what the model reads for each chunk. Pure."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final

import msgspec

from retrieval.chunks.chunking import Limits, Range, TokenCounter, chunk
from retrieval.chunks.parsing import Parsed
from retrieval.truth.records import Piece, PreparedDocument
from shared.retrieval_messages import Chunking, DocumentIn

# Raise it when parsing or chunking changes what comes out, so that unchanged documents are cut again.
PIPELINE_VERSION: Final = 2
# Title and headings give a chunk its place, and a table's header its meaning, but most of the room is for its text.
_HEADINGS_TOKENS_MAX: Final = 48
_CONTEXT_TOKENS_MAX: Final = 64
_CONTEXT_SHARE_MAX: Final = 4

TokenStarts = Callable[[str], Sequence[int]]


def content_hash(document: DocumentIn, chunking: Chunking) -> bytes:
    """Equal hashes mean that ingesting again would store the same: only then may work be skipped."""
    parts = (msgspec.structs.replace(document, only_if_new=False), chunking, PIPELINE_VERSION)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


def prepare(
    document: DocumentIn, parsed: Parsed, chunking: Chunking, *, token_starts: TokenStarts, model_tokens_max: int
) -> PreparedDocument:
    """`token_starts` gives the character offset of each token of a text."""
    title = document.title if document.title is not None else parsed.title or ""
    tokens_max = min(chunking.max_tokens, model_tokens_max)
    counter = TokenCounter.of(parsed.text, token_starts(parsed.text))
    room = tokens_max
    while True:
        pieces = tuple(_pieces(parsed, title, counter, chunking.overlap_tokens, room, tokens_max, token_starts))
        excess = max((len(token_starts(piece.embed_text)) for piece in pieces), default=0) - tokens_max
        if excess <= 0 or room == 1:
            return PreparedDocument(title=title, content_type=parsed.content_type, text=parsed.text, pieces=pieces)
        # Words that were cut, and parts that were joined, can be more tokens than they were in the whole text.
        room = max(1, room - excess)


def embed_text(
    title: str, headings: Sequence[str], context: str, text: str, *, tokens_max: int, starts: TokenStarts
) -> str:
    """What the model reads for a chunk: a line of title and headings, what its text continues, and the text."""
    parts = (headings_line(title, headings, tokens_max=tokens_max, starts=starts), context, text)
    return "\n".join(part for part in parts if part)


def headings_line(title: str, headings: Sequence[str], *, tokens_max: int, starts: TokenStarts) -> str:
    """Cut to its share of `tokens_max`, the limit of a chunk."""
    line = " > ".join(dict.fromkeys(name for name in (title, *headings) if name))
    share, found = min(_HEADINGS_TOKENS_MAX, tokens_max // _CONTEXT_SHARE_MAX), starts(line)
    return line if len(found) <= share else line[: found[share]].rstrip()


def _pieces(
    parsed: Parsed,
    title: str,
    counter: TokenCounter,
    overlap_tokens: int,
    room: int,
    tokens_max: int,
    token_starts: TokenStarts,
) -> Iterator[Piece]:
    @cache
    def headings_tokens(headings: tuple[str, ...]) -> int:
        return len(token_starts(headings_line(title, headings, tokens_max=tokens_max, starts=token_starts)))

    limits = Limits(
        tokens_max=room,
        overlap_tokens=min(overlap_tokens, room // 2),
        context_tokens_max=min(_CONTEXT_TOKENS_MAX, tokens_max // _CONTEXT_SHARE_MAX),
        headings_tokens=headings_tokens,
    )
    for part in chunk(parsed.text, parsed.blocks, counter, limits):
        yield _piece(parsed, title, part, tokens_max, token_starts)


def _piece(parsed: Parsed, title: str, part: Range, tokens_max: int, token_starts: TokenStarts) -> Piece:
    text = parsed.text[part.start : part.end]
    context = parsed.text[slice(*part.context)] if part.context else ""
    read = embed_text(title, part.headings, context, text, tokens_max=tokens_max, starts=token_starts)
    return Piece(
        start=part.start,
        end=part.end,
        headings=part.headings,
        # Counting from 1, as readers of the file do.
        page=bisect_right(parsed.pages, part.start) or None,
        context=context,
        text=text,
        embed_text=read,
        embed_hash=hashlib.sha256(read.encode()).digest(),
    )
