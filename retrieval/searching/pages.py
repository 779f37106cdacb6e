"""From a fused list to a page of hits: repetition, variety and grouping as asked, then the page's texts. One snapshot."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import msgspec
import numpy as np

from retrieval.searching.cursor import cursor_after, offset_of
from retrieval.searching.hits import read_documents, read_hits, read_texts, read_vectors
from retrieval.searching.legs import Fused
from retrieval.searching.ranking import Scored, best_of_each, diversified, without_duplicates
from retrieval.searching.reading import packed_hits
from shared.fusion import Leg, ranked
from shared.retrieval_messages import Hit, LegScores, SearchRequest
from shared.vectors import Float32Array


def read_page(
    connection: sqlite3.Connection, request: SearchRequest, fused: Fused, reranked: Leg | None
) -> tuple[list[Hit], str | None]:
    """The page that the request's cursor asks for, and the cursor of the next one. Raises InvalidFields.

    With a budget, the next page begins with the first hit that this one has not shown.

    `reranked` has the scores of all chunks that are to be returned, where the search was reranked.
    """
    start = offset_of(request)
    end = start + request.limit
    order, duplicates = _arranged(connection, request, fused.order if reranked is None else ranked(reranked))
    upto = list(islice(order, end + 1))
    page = upto[start:end]
    scores = _scores(fused, reranked or {}, [chunk_id for chunk_id, _ in page])
    if request.max_tokens is None:
        hits, shown = read_hits(connection, page, scores), len(page)
    else:
        hits, shown = packed_hits(connection, page, scores, request.max_tokens)
    if duplicates:
        hits = [_with_duplicates(hit, duplicates) for hit in hits]
    reached = start + shown
    return hits, cursor_after(request, reached) if len(upto) > reached else None


def _arranged(
    connection: sqlite3.Connection, request: SearchRequest, order: list[Scored]
) -> tuple[Iterable[Scored], dict[int, list[int]]]:
    """The list that pages are cut from, and which chunks say the same as one that is in it."""
    duplicates: dict[int, list[int]] = {}
    if request.suppress_duplicates:
        texts = read_texts(connection, [chunk_id for chunk_id, _ in order])
        kept = without_duplicates([each for each in order if each[0] in texts], texts)
        order = [scored for scored, _ in kept]
        duplicates = {scored[0]: same for scored, same in kept if same}
    arranged: Iterable[Scored] = order
    if request.mmr is not None:
        vectors = read_vectors(connection, [chunk_id for chunk_id, _ in order])
        order = [each for each in order if each[0] in vectors]
        arranged = diversified(
            order, _stacked([vectors[chunk_id] for chunk_id, _ in order]), diversity=request.mmr.diversity
        )
    if request.group_by_document:
        arranged = best_of_each(arranged, read_documents(connection, [chunk_id for chunk_id, _ in order]))
    return arranged, duplicates


def _stacked(vectors: Sequence[tuple[str, Float32Array]]) -> Float32Array:
    """One row each. Every model has columns of its own: what two models say of two texts cannot be compared."""
    columns: dict[str, slice] = {}
    width = 0
    for model, vector in vectors:
        if model not in columns:
            columns[model] = slice(width, width + len(vector))
            width += len(vector)
    stacked = np.zeros((len(vectors), width), dtype=np.float32)
    for row, (model, vector) in zip(stacked, vectors, strict=True):
        row[columns[model]] = vector
    return stacked


def _with_duplicates(hit: Hit, duplicates: Mapping[int, list[int]]) -> Hit:
    """A passage stands for what each of its chunks stands for."""
    same = [each for chunk_id in hit.chunk_ids or [hit.chunk_id] for each in duplicates.get(chunk_id, ())]
    return msgspec.structs.replace(hit, duplicates=same or None)


def _scores(fused: Fused, reranked: Leg, chunk_ids: Sequence[int]) -> dict[int, LegScores]:
    dense_ranks, lexical_ranks = (
        {item: rank for rank, item in enumerate(leg, 1)} for leg in (fused.dense, fused.lexical)
    )
    return {
        chunk_id: LegScores(
            dense=fused.dense.get(chunk_id),
            dense_rank=dense_ranks.get(chunk_id),
            lexical=fused.lexical.get(chunk_id),
            lexical_rank=lexical_ranks.get(chunk_id),
            rerank=reranked.get(chunk_id),
        )
        for chunk_id in chunk_ids
    }
