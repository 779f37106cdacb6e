"""A document as read to a document as stored: chunk it, and say what the model reads for each chunk. Pure."""

import hashlib
from collections.abc import Callable, Sequence

import msgspec

from retrieval.chunking import TokenCounter, chunk
from retrieval.parsing import Parsed
from retrieval.placing import columns_above, page_at
from retrieval.records import Piece, PreparedDocument
from shared.retrieval_messages import Chunking, DocumentIn

# Raise it when parsing or chunking changes what comes out, so that unchanged documents are cut again.
PIPELINE_VERSION = 2
# Titles and headings give a chunk its place, but must leave the room to its text.
_CONTEXT_TOKENS_MAX = 48
_CHUNK_TOKENS_MIN = 16

TokenStarts = Callable[[str], Sequence[int]]


def content_hash(document: DocumentIn, chunking: Chunking) -> bytes:
    """Equal hashes mean that ingesting again would store the same: only then may work be skipped."""
    parts = (document, chunking, PIPELINE_VERSION)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()


def prepare(
    document: DocumentIn, parsed: Parsed, chunking: Chunking, *, token_starts: TokenStarts, model_tokens_max: int
) -> PreparedDocument:
    """`token_starts` gives the character offset of each token of a text."""
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
        columns, page = columns_above(parsed, part.start), page_at(parsed, part.start)
        embed_text = _context(title, part.headings, columns, token_starts) + text
        pieces.append(
            Piece(
                start=part.start,
                end=part.end,
                # A page number tells a reader where to look, and a model nothing.
                headings=(*part.headings, *(name for name in (columns, page) if name)),
                text=text,
                embed_text=embed_text,
                embed_hash=hashlib.sha256(embed_text.encode()).digest(),
            )
        )
    return PreparedDocument(title=title, content_type=parsed.content_type, text=parsed.text, pieces=tuple(pieces))


def _context(title: str, headings: tuple[str, ...], columns: str | None, token_starts: TokenStarts) -> str:
    """The lines above a chunk's text, cut to their share of the model's window; the names of columns get half of it."""
    names = [name for name in (title, *headings) if name]
    share = _CONTEXT_TOKENS_MAX // 2 if columns else _CONTEXT_TOKENS_MAX
    lines = (
        _cut(" > ".join(dict.fromkeys(names)), share - 2, token_starts),
        _cut(columns or "", share - 2, token_starts),
    )
    return "".join(f"{line}\n" for line in lines if line)


def _cut(line: str, tokens_max: int, token_starts: TokenStarts) -> str:
    starts = token_starts(line)
    return line[: starts[tokens_max]].rstrip() if len(starts) > tokens_max else line
