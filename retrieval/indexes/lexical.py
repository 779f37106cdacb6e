"""The lexical leg: BM25 over a collection's chunks. The only importer of tantivy.

A projection on disk, one tantivy index a collection. The sequence number it has reached is a document of the index itself,
committed together with the changes, so the two can never disagree, whatever moment a crash picks. A directory that cannot
be opened, or that knows of changes which the truth does not (a restored backup), is made anew and replayed from the start.

Queries are built from analysed terms, never parsed: any text is a valid query. A chunk's title counts twice, which is what a
weight of two on a field of its own would do (BM25F), at no cost to a query; twice gained .003 to .006 nDCG@10 on sets with titles.
"""

import contextlib
import math
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import structlog
import tantivy
from numpy.typing import NDArray
from tantivy import Document, FieldType, Filter, Index, Occur, Query, TextAnalyzer, TextAnalyzerBuilder, Tokenizer

from retrieval.indexes.analysis import ENGLISH_QUESTION_WORDS, STEMMERS, WITHOUT_STOP_WORDS, searchable
from retrieval.indexes.narrowing import TERMS_MAX, fetch_depth, is_member
from retrieval.truth.records import ChunkTexts, TextChanges
from shared.errors import DiptychError
from shared.retrieval_messages import Language, LexicalNarrowing

log = structlog.get_logger()

# Raise it when the schema or the analysis changes, so that existing indexes are rebuilt.
FORMAT: Final = 2
# The least that tantivy accepts for one thread; a commit of one batch needs less.
_WRITER_HEAP_BYTES: Final = 15_000_000
# A whole collection is written at once. The fewer segments, the less a search costs: 100,000 chunks in nine took .76 ms of
# processor time, in one .51.
_LIST_HEAP_BYTES: Final = 64_000_000
# BM25 weighs a long query's rare words anyway; a thousand are more than any question has.
_QUERY_TERMS_MAX: Final = 1024
_TERM_LENGTH_MAX: Final = 80
_ANALYZER: Final = "diptych"
# tantivy's k1. A word's weight in a chunk tends to (k1 + 1) times its rarity as it is said more and more often.
_K1: Final = 1.2


# A word of the query that more than half of the chunks have tells them apart no more than a coin does: the classical weight
# of such words is negative (Robertson and Sparck Jones 1976). Left out, a search of 100,000 chunks takes half the time, and
# the fused nDCG@10 of the sets here moves by .003 at most, up as often as down. Small collections have no speed to gain.
_COMMON_FROM_CHUNKS: Final = 10_000
# A query that is asked again need not be analysed again, as it is not embedded again; each takes some kilobytes.
_QUESTIONS_KEPT: Final = 1024


class DamagedIndex(DiptychError):
    """Files of the index cannot be read; `clear` and a replay of the history make it whole."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A query as the index has it at one sequence number."""

    clauses: list[tuple[Occur, Query]]
    ceiling: float


class LexicalIndex:
    """One thread applies changes; any number search meanwhile, each on the last commit."""

    def __init__(self, directory: Path, language: Language) -> None:
        """Opens the index, or makes it. An index of another language is another one. Blocking."""
        self._directory = directory / f"v{FORMAT}-{language}"
        self._analyzer = _analyzer(language, _no_filter())
        self._query_analyzer = _analyzer(language, _stop_words(language))
        self._schema = _schema()
        self._use(self._open())
        # Of a list that has begun and not ended.
        self._writer: tantivy.IndexWriter | None = None
        self.sequence = self._read_sequence()
        # Another number, other files: what was found damaged may have been made anew meanwhile.
        self.version = time.monotonic_ns()

    def __len__(self) -> int:
        return len(self.ids())

    def _use(self, index: Index) -> None:
        self._index = index
        reading = _Reading(index, self._schema, self._analyzer, self._query_analyzer)
        # Not of a method of this object: in a cycle with its cache, a closed index would hold memory and tantivy's thread until
        # the garbage collector looks through everything.
        self._questions = lru_cache(_QUESTIONS_KEPT)(reading.understood)

    def apply(self, changes: TextChanges) -> None:
        """Takes in the next changes and commits. Adding again what is there replaces it. Sequence 0 says that these are a part of
        a list: they can be found with its last part, which has another. Raises DamagedIndex."""
        with _damage_noticed():
            if changes.sequence == 0:
                self._writer = self._writer or self._index.writer(heap_size=_LIST_HEAP_BYTES, num_threads=1)
                self._write(self._writer, changes)
                return
            writer = self._writer or self._index.writer(heap_size=_WRITER_HEAP_BYTES, num_threads=1)
            self._writer = None
            self._write(writer, changes)
            writer.commit()
            writer.wait_merging_threads()
            self._index.reload()
        self.sequence = changes.sequence

    def _write(self, writer: tantivy.IndexWriter, changes: TextChanges) -> None:
        gone = [*changes.removed_ids, *(chunk.chunk_id for chunk in changes.added)]
        # By query: delete_documents_by_term takes every int for a signed one and finds none in an unsigned field.
        writer.delete_documents_by_query(Query.term_set_query(self._schema, "chunk_id", gone))
        for chunk in changes.added:
            document = Document()
            document.add_unsigned("chunk_id", chunk.chunk_id)
            document.add_text("body", _body(chunk))
            writer.add_document(document)
        writer.delete_documents_by_query(_any_sequence(self._schema))
        marker = Document()
        marker.add_unsigned("sequence", changes.sequence)
        writer.add_document(marker)

    def search(self, query: str, limit: int) -> dict[int, float]:
        """The `limit` best chunks with their BM25 scores (k1 1.2, b .75); none where no word of the query is known.

        Raises DamagedIndex.
        """
        with _damage_noticed():
            return _best(*_hits(self._index.searcher(), self._understood(query).clauses, limit), limit)

    def search_within(
        self, query: str, limit: int, allowed: NDArray[np.int64]
    ) -> tuple[dict[int, float], LexicalNarrowing]:
        """The `limit` best of the allowed chunks (sorted ids), with the same scores, and how they were found.

        Raises DamagedIndex.
        """
        with _damage_noticed():
            clauses = self._understood(query).clauses
            if not clauses or not len(allowed):
                return {}, "none"
            searcher = self._index.searcher()
            depth = fetch_depth(limit, len(allowed), searcher.num_docs)
            if depth is not None:
                ids, scores = _hits(searcher, clauses, depth)
                kept = is_member(ids, allowed)
                if np.count_nonzero(kept) >= limit or len(ids) < depth:
                    return _best(ids[kept], scores[kept], limit), "post"
            narrowed = [(Occur.Must, Query.boolean_query(clauses)), (Occur.Must, self._one_of(allowed.tolist()))]
            return _best(*_hits(searcher, narrowed, limit), limit), "clause" if depth is None else "post+clause"

    def score(self, query: str, ids: Collection[int]) -> dict[int, float]:
        """The BM25 scores that `search` would give these chunks, 0 for those without a word of the query. Raises DamagedIndex."""
        scores = dict.fromkeys(ids, 0.0)
        with _damage_noticed():
            clauses = self._understood(query).clauses
            if clauses and scores:
                wanted = (Occur.Must, self._one_of(list(scores)))
                scores.update(_best(*_hits(self._index.searcher(), [wanted, *clauses], len(scores)), len(scores)))
        return scores

    def ceiling(self, query: str) -> float:
        """What no chunk's score can exceed: each word said without end. Words that no chunk has count as the rarest of all.

        The limit of BM25 as term frequency grows ("theoretical maximum": Bruch, Gai and Ingber 2022, where it is left open for
        the lexical leg). Raises DamagedIndex.
        """
        with _damage_noticed():
            return self._understood(query).ceiling

    def _understood(self, query: str) -> "_Question":
        """One search asks for it three times."""
        return self._questions(query, self.sequence)

    def _one_of(self, chunk_ids: Sequence[int]) -> Query:
        """Chosen chunks, without any weight in the score."""
        if len(chunk_ids) <= TERMS_MAX:
            terms = [(Occur.Should, Query.term_query(self._schema, "chunk_id", chunk_id)) for chunk_id in chunk_ids]
            chosen = Query.boolean_query(terms)
        else:
            chosen = Query.term_set_query(self._schema, "chunk_id", list(chunk_ids))
        return Query.const_score_query(chosen, 0.0)

    def ids(self) -> set[int]:
        searcher = self._index.searcher()
        if searcher.num_docs == 0:
            return set()
        hits = searcher.search(Query.all_query(), searcher.num_docs, count=False).hits
        values = searcher.fast_field_values("chunk_id", [address for _, address in hits])
        return {int(value) for value in values if value is not None}

    def clear(self) -> None:
        """Forgets everything, so that the history is replayed from the start."""
        self._writer = None
        self._use(self._make())
        self.sequence = 0
        self.version = time.monotonic_ns()

    def _open(self) -> Index:
        if not (self._directory / "meta.json").exists():
            return self._make()
        try:
            with _damage_noticed():
                index = Index.open(str(self._directory))
                index.register_tokenizer(_ANALYZER, self._analyzer)
                index.searcher()
        except DamagedIndex as error:
            log.warning("lexical_index_damaged", error=str(error))
            return self._make()
        return index

    def _make(self) -> Index:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._directory)
        self._directory.mkdir(parents=True)
        index = Index(self._schema, path=str(self._directory))
        index.register_tokenizer(_ANALYZER, self._analyzer)
        return index

    def _read_sequence(self) -> int:
        searcher = self._index.searcher()
        hits = searcher.search(_any_sequence(self._schema), 1, count=False).hits
        return int(searcher.doc(hits[0][1]).get_first("sequence") or 0) if hits else 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """How an index understands queries."""

    index: Index
    schema: tantivy.Schema
    analyzer: TextAnalyzer
    query_analyzer: TextAnalyzer

    def understood(self, query: str, _sequence: int) -> _Question:
        searcher = self.index.searcher()
        chunks = searcher.num_docs
        known = {term: searcher.doc_freq("body", term) for term in self._terms(query)}
        if chunks >= _COMMON_FROM_CHUNKS:
            known = {term: count for term, count in known.items() if 2 * count <= chunks} or known
        clauses = [(Occur.Should, Query.term_query(self.schema, "body", term, "freq")) for term in known]
        rarity = sum(math.log1p((max(chunks - count, 0) + 0.5) / (count + 0.5)) for count in known.values())
        return _Question(clauses, (_K1 + 1.0) * rarity)

    def _terms(self, query: str) -> list[str]:
        """The query's words without function words, unless it has no other."""
        text = searchable(query, role="query")
        terms = self.query_analyzer.analyze(text) or self.analyzer.analyze(text)
        return list(dict.fromkeys(terms))[:_QUERY_TERMS_MAX]


def _hits(
    searcher: tantivy.Searcher, clauses: Sequence[tuple[Occur, Query]], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids and scores of the best."""
    hits = searcher.search(Query.boolean_query(clauses), limit, count=False).hits if clauses else []
    ids = searcher.fast_field_values("chunk_id", [address for _, address in hits])
    return np.array(ids, dtype=np.int64), np.array([score for score, _ in hits], dtype=np.float64)


def _best(ids: NDArray[np.int64], scores: NDArray[np.float64], limit: int) -> dict[int, float]:
    """Best first, ties by id."""
    order = np.lexsort((ids, -scores))[:limit]
    return dict(zip(ids[order].tolist(), scores[order].tolist(), strict=True))


@contextmanager
def _damage_noticed() -> Iterator[None]:
    """Files that tantivy cannot read make it raise ValueError, or panic: a BaseException that cannot be imported."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise DamagedIndex(str(error)) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise DamagedIndex("tantivy panicked on a damaged file") from error


def _analyzer(language: Language, words: Filter) -> TextAnalyzer:
    builder = (
        TextAnalyzerBuilder(Tokenizer.simple()).filter(Filter.remove_long(_TERM_LENGTH_MAX)).filter(Filter.lowercase())
    )
    builder = builder.filter(words)
    if language in STEMMERS:
        builder = builder.filter(Filter.stemmer(STEMMERS[language]))
    # Last: lists of words and stemmers know their language's accents.
    return builder.filter(Filter.ascii_fold()).build()


def _stop_words(language: Language) -> Filter:
    if language == "en":
        return Filter.custom_stopword(list(ENGLISH_QUESTION_WORDS))
    if language in STEMMERS and language not in WITHOUT_STOP_WORDS:
        return Filter.stopword(STEMMERS[language])
    return _no_filter()


def _no_filter() -> Filter:
    return Filter.custom_stopword([])


def _body(chunk: ChunkTexts) -> str:
    return searchable(f"{chunk.title}\n{chunk.title}\n{chunk.headings}\n{chunk.text}", role="chunk")


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk_id", indexed=True, fast=True)
    builder.add_unsigned_field("sequence", stored=True, indexed=True)
    # No positions: phrases are not searched for, and positions are half of an index.
    builder.add_text_field("body", tokenizer_name=_ANALYZER, index_option="freq")
    return builder.build()


def _any_sequence(schema: tantivy.Schema) -> Query:
    return Query.range_query(schema, "sequence", FieldType.Unsigned, 0, 2**63, use_inverted_index=True)
