"""The texts of an answer that is packed to a budget of tokens (retrieval/searching/packing.py). One unit of work, one snapshot."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from retrieval.searching.hits import hit_of, hit_rows
from retrieval.searching.packing import CUT_TOKENS_MIN, Part, Passage, beginning_within, pack
from shared.retrieval_messages import Hit, LegScores
from shared.sql_values import listed
from shared.tokens import estimate_tokens

# Chunks looked at on each side of a hit. Eight of 200 tokens are two pages, more than one place deserves of an answer.
_REACH: Final = 8

_PART = "c.id, c.document, c.ordinal, c.start, c.stop, c.headings, c.context, c.text"


@dataclass(frozen=True, slots=True)
class _Chunk:
    part: Part
    context: str
    text: str


def packed_hits(
    connection: sqlite3.Connection, scored: Sequence[tuple[int, float]], scores: dict[int, LegScores], max_tokens: int
) -> tuple[list[Hit], int]:
    """Passages that together cost no more than `max_tokens`, text and context, and how many of the chunks, from the first,
    are in them; a chunk that is gone is left out."""
    rows = connection.execute(
        f"SELECT {_PART} FROM json_each(?) wanted JOIN chunks c ON c.id = wanted.value",
        (listed([chunk_id for chunk_id, _ in scored]),),
    )
    chunks = {row[0]: _chunk(row) for row in rows}

    def neighbours(parts: Sequence[Part]) -> list[Part]:
        for chunk in _around(connection, parts):
            chunks.setdefault(chunk.part.chunk_id, chunk)
        return [chunk.part for chunk in chunks.values()]

    found = [chunks[chunk_id].part for chunk_id, _ in scored if chunk_id in chunks]
    passages = pack(found, max_tokens, neighbours)
    documents = hit_rows(connection, [passage.hits[0].chunk_id for passage in passages])
    score_of, hits = dict(scored), []
    for passage in passages:
        best, first = passage.hits[0].chunk_id, chunks[passage.first.chunk_id]
        context, text = _fitted(first, _text(connection, passage, first), passage.tokens_max)
        if text:
            hit = hit_of(best, score_of[best], scores[best], documents[best])
            hits.append(_widened(hit, passage, context, text))
    return hits, _shown([chunks.get(chunk_id) for chunk_id, _ in scored], passages)


def _shown(found: Sequence[_Chunk | None], passages: Sequence[Passage]) -> int:
    """How many of the chunks, from the first, are in a passage, because they were found or because it was widened to them,
    or are gone."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for passage in passages:
        ranges.setdefault(passage.document, []).append((passage.start, passage.end))
    for count, chunk in enumerate(found):
        if chunk is None:
            continue
        part = chunk.part
        if not any(start <= part.start and part.end <= end for start, end in ranges.get(part.document, ())):
            return count
    return len(found)


def _widened(hit: Hit, passage: Passage, context: str, text: str) -> Hit:
    return msgspec.structs.replace(
        hit,
        text=text,
        start=passage.start,
        end=passage.start + len(text),
        context=context or None,
        chunk_ids=[part.chunk_id for part in passage.hits],
        is_cut=passage.start + len(text) < passage.end,
    )


def _fitted(first: _Chunk, text: str, tokens_max: int | None) -> tuple[str, str]:
    """Context and text. Where little room is left, the context goes first."""
    if tokens_max is None:
        return first.context, text
    context_tokens = estimate_tokens(first.context)
    if tokens_max - context_tokens >= CUT_TOKENS_MIN:
        return first.context, beginning_within(text, tokens_max - context_tokens)
    return "", beginning_within(text, tokens_max)


def _text(connection: sqlite3.Connection, passage: Passage, first: _Chunk) -> str:
    if passage.end == first.part.end:
        return first.text
    text: str = connection.execute(
        "SELECT substr(text, ?, ?) FROM documents WHERE id = ?",
        (passage.start + 1, passage.end - passage.start, passage.document),
    ).fetchone()[0]
    return text


def _around(connection: sqlite3.Connection, parts: Sequence[Part]) -> Iterator[_Chunk]:
    wanted = listed([part.chunk_id for part in parts])
    rows = connection.execute(
        f"SELECT DISTINCT {_PART} FROM json_each(?) wanted JOIN chunks h ON h.id = wanted.value "
        "JOIN chunks c ON c.document = h.document AND c.ordinal BETWEEN h.ordinal - ? AND h.ordinal + ?",
        (wanted, _REACH, _REACH),
    )
    yield from map(_chunk, rows)


def _chunk(row: tuple[int, int, int, int, int, str, str, str]) -> _Chunk:
    chunk_id, document, ordinal, start, stop, headings, context, text = row
    part = Part(
        chunk_id=chunk_id,
        document=document,
        ordinal=ordinal,
        start=start,
        end=stop,
        section=headings,
        cost=estimate_tokens(context) + estimate_tokens(text),
    )
    return _Chunk(part, context, text)
