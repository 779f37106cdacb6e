"""A document as sent to a document as stored: parse, chunk, and say what the model reads for each chunk. Pure."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from retrieval.chunking import TokenCounter, chunk
from retrieval.parsing import parse
from retrieval.records import Piece, PreparedDocument
from shared.retrieval_messages import Chunking, DocumentIn

# Raise it when parsing or chunking changes what comes out, so that unchanged documents are cut again.
PIPELINE_VERSION = 1
# Titles and headings give a chunk its place, but must leave the room to its text.
_CONTEXT_TOKENS_MAX = 48
_CHUNK_TOKENS_MIN = 16

TokenStarts = Callable[[str], Sequence[int]]


def content_hash(document: DocumentIn, chunking: Chunking) -> bytes:
    """Equal hashes mean that ingesting again would store the same: only then may work be skipped."""
    parts = (document, chunking, PIPELINE_VERSION)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


def prepare(
    document: DocumentIn, chunking: Chunking, *, token_starts: TokenStarts, model_tokens_max: int
) -> PreparedDocument:
    """`token_starts` gives the character offset of each token of a text. Raises InvalidFields as `parse` does."""
    parsed = parse(document.text, document.content, document.content_type, path="$")
    title = document.title if document.title is not None else parsed.title or ""
    counter = TokenCounter(token_starts(parsed.text))
    room = min(chunking.max_tokens, model_tokens_max) - _CONTEXT_TOKENS_MAX
    ranges = chunk(
        parsed.text,
        parsed.blocks,
        counter,
        tokens_max=max(_CHUNK_TOKENS_MIN, room),
        overlap_tokens=min(chunking.overlap_tokens, max(0, room // 2)),
    )
    pieces = []
    for part in ranges:
        text = parsed.text[part.start : part.end]
        embed_text = _context(title, part.headings, token_starts) + text
        pieces.append(
            Piece(
                start=part.start,
                end=part.end,
                headings=part.headings,
                text=text,
                embed_text=embed_text,
                embed_hash=hashlib.sha256(embed_text.encode()).digest(),
            )
        )
    return PreparedDocument(title=title, content_type=parsed.content_type, text=parsed.text, pieces=tuple(pieces))


def _context(title: str, headings: tuple[str, ...], token_starts: TokenStarts) -> str:
    """The line above a chunk's text, cut to its share of the model's window."""
    names = [name for name in (title, *headings) if name]
    line = " > ".join(dict.fromkeys(names))
    starts = token_starts(line)
    if len(starts) > _CONTEXT_TOKENS_MAX - 2:
        line = line[: starts[_CONTEXT_TOKENS_MAX - 2]].rstrip()
    return f"{line}\n" if line else ""
