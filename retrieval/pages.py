"""From a fused list to a page of hits: repetition, variety and grouping as asked, then the page's texts. One snapshot."""

import sqlite3
from collections.abc import Sequence

import msgspec
import numpy as np

from retrieval.hits import read_documents, read_hits, read_texts, read_vectors
from retrieval.legs import Fused
from retrieval.ranking import Scored, best_of_each, diversified, without_duplicates
from retrieval.reading import packed_hits
from retrieval.search_cursor import cursor_after, offset_of
from shared.fusion import Leg, ranked, ranks
from shared.retrieval_messages import Hit, LegScores, SearchRequest


def results_wanted(request: SearchRequest) -> int | None:
    """How many of the best results decide the page and whether there is another; None where all of them do. Raises
    InvalidFields."""
    rearranges = request.rerank or request.suppress_duplicates or request.mmr or request.group_by_document
    return None if rearranges else offset_of(request) + request.limit + 1


def read_page(
    connection: sqlite3.Connection, request: SearchRequest, fused: Fused, reranked: Leg | None
) -> tuple[list[Hit], str | None]:
    """The page that the request's cursor asks for, and the cursor of the next one. Raises InvalidFields.

    `reranked` has the scores of all chunks that are to be returned, where the search was reranked.
    """
    offset = offset_of(request)
    order, duplicates = _arranged(connection, request, fused.order if reranked is None else ranked(reranked))
    page = order[offset : offset + request.limit]
    scores = _scores(fused, reranked or {}, [chunk_id for chunk_id, _ in page])
    if request.max_tokens is None:
        hits = read_hits(connection, page, scores)
    else:
        hits = packed_hits(connection, page, scores, request.max_tokens)
    if duplicates:
        hits = [msgspec.structs.replace(hit, duplicates=duplicates.get(hit.chunk_id)) for hit in hits]
    end = offset + request.limit
    has_more = len(order) > end and request.max_tokens is None
    return hits, cursor_after(request, end) if has_more else None


def _arranged(
    connection: sqlite3.Connection, request: SearchRequest, order: list[Scored]
) -> tuple[list[Scored], dict[int, list[int]]]:
    """The list that pages are cut from, and which chunks say the same as one that is in it."""
    duplicates: dict[int, list[int]] = {}
    if request.suppress_duplicates:
        texts = read_texts(connection, [chunk_id for chunk_id, _ in order])
        kept = list(without_duplicates([each for each in order if each[0] in texts], texts))
        order = [scored for scored, _ in kept]
        duplicates = {scored[0]: same for scored, same in kept if same}
    if request.mmr is not None and order:
        vectors = read_vectors(connection, [chunk_id for chunk_id, _ in order])
        order = [each for each in order if each[0] in vectors]
        if order:
            stacked = np.stack([vectors[chunk_id] for chunk_id, _ in order])
            order = list(diversified(order, stacked, diversity=request.mmr.diversity))
    if request.group_by_document:
        order = list(best_of_each(order, read_documents(connection, [chunk_id for chunk_id, _ in order])))
    return order, duplicates


def _scores(fused: Fused, reranked: Leg, chunk_ids: Sequence[int]) -> dict[int, LegScores]:
    dense_ranks, lexical_ranks = ranks(fused.dense), ranks(fused.lexical)
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
