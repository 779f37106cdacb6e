"""Documents, queries and judgements of three sets in one collection, with the vectors that the packaged model gives them.

About 12,850 real documents; their vectors are computed once and kept in benchmarks/.cache, by model and texts.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Final, Literal

import numpy as np
from rich.progress import Progress

from benchmarks.bare import load_model
from benchmarks.bare_model import embed_all
from benchmarks.data import JudgedSet, read_judged
from shared.vectors import Float32Array

LIMIT: Final = 10
_SETS: Final = (("scifact", "qrels.tsv"), ("cranfield", "qrels.tsv"), ("cosqa", "qrels.dev.tsv"))
CACHE: Final = Path(__file__).parent / ".cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Row i of `vectors` is that of `texts[i]`; likewise queries. `relevant` has the grades of rows, for each query."""

    model: str
    texts: list[str]
    vectors: Float32Array
    asked: list[str]
    queries: Float32Array
    relevant: list[dict[int, int]]

    def nearest(self) -> list[list[int]]:
        """Rows of the ten nearest of each query, by a plain scan."""
        best: list[list[int]] = np.argsort(-(self.queries @ self.vectors.T), axis=1, kind="stable")[:, :LIMIT].tolist()
        return best


def read_corpus(data_dir: Path, documents_max: int, queries_per_set: int, progress: Progress) -> Corpus:
    """The first queries of each set, what is relevant to them, and other documents up to `documents_max`. Blocking."""
    texts: dict[str, int] = {}
    asked: list[str] = []
    graded: list[dict[str, int]] = []
    rest: list[list[str]] = []
    for name, judgements in _SETS:
        judged = read_judged(data_dir, name, judgements)
        by_id = dict(zip(judged.document_ids, judged.documents, strict=True))
        for query, relevant in _answerable(judged, by_id, queries_per_set):
            asked.append(query)
            graded.append({by_id[document]: grade for document, grade in relevant.items()})
            for document in relevant:
                texts.setdefault(by_id[document], len(texts))
        rest.append([text for text in judged.documents if text.strip()])
    for some in zip_longest(*rest):
        for text in some:
            if text is not None and len(texts) < documents_max:
                texts.setdefault(text, len(texts))
    return Corpus(
        model=load_model(CACHE).name,
        texts=list(texts),
        vectors=embedded(list(texts), "document", progress),
        asked=asked,
        queries=embedded(asked, "query", progress),
        relevant=[{texts[text]: grade for text, grade in each.items()} for each in graded],
    )


def _answerable(judged: JudgedSet, by_id: dict[str, str], count: int) -> list[tuple[str, dict[str, int]]]:
    """Queries with a relevant document that has any text."""
    pairs = zip(judged.queries, judged.relevant, strict=True)
    kept = (
        (query, {each: grade for each, grade in relevant.items() if by_id.get(each, "").strip()})
        for query, relevant in pairs
    )
    return list(islice(((query, relevant) for query, relevant in kept if relevant), count))


def embedded(texts: Sequence[str], kind: Literal["document", "query"], progress: Progress) -> Float32Array:
    """Shape (texts, d), from the cache where they were embedded before. Blocking."""
    embedder = load_model(CACHE)
    digest = hashlib.sha256("\0".join((embedder.name, kind, *texts)).encode()).hexdigest()[:16]
    path = CACHE / f"{kind}-{digest}.npy"
    if not path.is_file():
        task = progress.add_task(f"embedding, {kind}", total=len(texts))
        np.save(path, embed_all(embedder, texts, kind, on_done=partial(progress.advance, task)))
    vectors: Float32Array = np.load(path)
    return vectors


def recall(found: Sequence[Sequence[int]], nearest: Sequence[Sequence[int]]) -> float:
    """Mean share of the ten nearest that were found."""
    shares = [len(set(each) & set(best)) / len(best) for each, best in zip(found, nearest, strict=True)]
    return round(sum(shares) / len(shares), 4)


def mean_ndcg(found: Sequence[Sequence[int]], relevant: Sequence[dict[int, int]]) -> float:
    """nDCG@10 with linear gains, as BEIR has it."""
    total = 0.0
    for rows, grades in zip(found, relevant, strict=True):
        best = sorted(grades.values(), reverse=True)[:LIMIT]
        total += gain([grades.get(row, 0) for row in rows[:LIMIT]]) / gain(best)
    return round(total / len(found), 4)


def gain(grades: Sequence[int]) -> float:
    """Discounted by rank."""
    return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades))
