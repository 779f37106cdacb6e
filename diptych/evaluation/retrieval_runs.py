"""A dataset's documents go into a collection, its queries are asked, and what is found is scored.

Documents go in whole and are cut as the service cuts them; a document stands where its best chunk stands.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.progress import Progress, TaskID

from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.metrics import metric_names, score_rankings
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from shared.errors import SettingsError, Unavailable
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import (
    CANDIDATES_MAX,
    TERMINAL,
    CollectionSpec,
    Fusion,
    Hit,
    Job,
    Mmr,
    Rerank,
    SearchMode,
)
from shared.tokens import estimate_tokens

DEPTHS: Final = (10, 100)
# A body of a few hundred kilobytes, and a bar that moves.
_BATCH_DOCUMENTS: Final = 200
# Two cores answer no faster with more, and other users of the service are still served.
_SEARCHES_AT_ONCE: Final = 4
# Enough for a 95th percentile; with a reranker all of them would take twice the time.
_TIMED_MAX: Final = 200
_TIMED_SEED: Final = 20_240
_POLL_S: Final = 0.2


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How each query is asked; what is left out is as the service has it by default."""

    mode: SearchMode = "hybrid"
    fusion: Fusion | None = None
    candidates: int = 100
    rerank: Rerank | None = None
    suppress_duplicates: bool = False
    mmr: Mmr | None = None
    filter: dict[str, Any] | None = None


async def fill_collection(
    client: RetrievalClient,
    collection: str,
    dataset: RetrievalDataset,
    bar: Progress,
    *,
    spec: CollectionSpec | None = None,
) -> float:
    """Seconds until all is searchable. What is there already, unchanged, costs nothing. Raises Unavailable where documents
    failed: a set that is not wholly there would be scored all the same, and wrongly."""
    await client.put_collection(collection, spec)
    task = bar.add_task(f"Ingesting {dataset.name}", total=len(dataset.documents))
    started = time.perf_counter()
    for first in range(0, len(dataset.documents), _BATCH_DOCUMENTS):
        answer = await client.ingest(collection, dataset.documents[first : first + _BATCH_DOCUMENTS])
        await until_searchable(client, answer.job, bar, task, ended=first)
    return time.perf_counter() - started


async def check_collection(client: RetrievalClient, collection: str, dataset: RetrievalDataset) -> None:
    """For a collection that was filled before. Raises SettingsError where it holds less than the dataset."""
    found = await client.collection(collection)
    if found.documents < len(dataset.documents):
        raise SettingsError(
            f"the collection {collection} holds {found.documents} documents, and the dataset {len(dataset.documents)}: "
            "leave out --reuse to ingest them"
        )


async def evaluate_retrieval(
    client: RetrievalClient,
    dataset: RetrievalDataset,
    *,
    collection: str,
    label: str = "",
    settings: SearchSettings | None = None,
    depths: Sequence[int] = DEPTHS,
    is_timed: bool = True,
    bar: Progress,
) -> Result:
    """Of a collection that is filled. Tokens are those of the first `depths[0]` chunks."""
    settings = settings or SearchSettings()
    label = label or settings.mode
    latencies = await _time(client, dataset, collection, settings, depths[0], label, bar) if is_timed else {}
    answers = await _ask_all(client, dataset, collection, settings, max(depths), label, bar)
    # In the order of the answer, which is not that of the scores where `mmr` has a say.
    rankings = {query: [hit.document_id for hit in hits] for query, hits in answers.items()}
    scores = score_rankings(rankings, dataset.judgements, depths)
    described = await client.collection(collection)
    return make_result(
        kind="retrieval",
        label=label,
        dataset=DatasetInfo(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts),
        settings={
            "search": msgspec.to_builtins(settings),
            "depths": list(depths),
            "collection": {
                "model": described.model,
                "chunks": described.chunks,
                "chunking": msgspec.to_builtins(described.chunking),
                "fusion": msgspec.to_builtins(described.fusion),
                "language": described.language,
            },
        },
        services=[await client.info()],
        queries=[
            QueryResult(
                id=query,
                scores={name: scores[query][name] for name in metric_names(depths)},
                tokens=sum(estimate_tokens(hit.text) for hit in answers[query][: depths[0]]),
                latency_ms=latencies.get(query),
            )
            for query in dataset.queries
        ],
    )


async def until_searchable(client: RetrievalClient, job: Job, bar: Progress, task: TaskID, *, ended: int = 0) -> None:
    """A slow machine embeds for longer than the service lets a request wait. `ended` documents were before this job's."""
    while job.status not in TERMINAL:
        bar.update(task, completed=ended + job.done)
        await asyncio.sleep(_POLL_S)
        job = await client.job(job.id)
    if job.status != "succeeded" or job.failed:
        raise Unavailable(f"ingest job {job.id} {job.status} with {job.failed} failed documents: {job.errors[:3]}")
    bar.update(task, completed=ended + job.total)


async def _time(
    client: RetrievalClient,
    dataset: RetrievalDataset,
    collection: str,
    settings: SearchSettings,
    limit: int,
    label: str,
    bar: Progress,
) -> dict[str, float]:
    """Milliseconds by query: as users ask, one at a time, and before anything else has asked the same."""
    chosen = sorted(dataset.queries)
    if len(chosen) > _TIMED_MAX:
        chosen = random.Random(_TIMED_SEED).sample(chosen, _TIMED_MAX)  # noqa: S311 - a repeatable choice, no secret
    task = bar.add_task(f"{label}: latency", total=len(chosen))
    # The first search of all opens indexes and warms the model: that is another number.
    await client.search("hello", collection=collection, limit=1, **_given(settings))
    spent = {}
    for query in chosen:
        started = time.perf_counter()
        given = _given(settings, dataset.filters.get(query))
        await client.search(dataset.queries[query], collection=collection, limit=_shown(settings, limit), **given)
        spent[query] = 1000.0 * (time.perf_counter() - started)
        bar.advance(task)
    return spent


async def _ask_all(
    client: RetrievalClient,
    dataset: RetrievalDataset,
    collection: str,
    settings: SearchSettings,
    depth: int,
    label: str,
    bar: Progress,
) -> dict[str, list[Hit]]:
    """As many chunks as both legs can give, since several may be of one document."""
    candidates = min(CANDIDATES_MAX, max(settings.candidates, depth))
    limit = _shown(settings, min(CANDIDATES_MAX, 2 * candidates))
    gate = asyncio.Semaphore(_SEARCHES_AT_ONCE)
    task = bar.add_task(f"{label}: searches", total=len(dataset.queries))

    async def ask(query: str, text: str) -> tuple[str, list[Hit]]:
        given = {**_given(settings, dataset.filters.get(query)), "candidates": candidates}
        async with gate:
            answer = await client.search(text, collection=collection, limit=limit, **given)
        bar.advance(task)
        return query, answer.hits

    return dict(await asyncio.gather(*(ask(*query) for query in dataset.queries.items())))


def _shown(settings: SearchSettings, wanted: int) -> int:
    """Only what was reranked is returned, and asking for more is refused."""
    return wanted if settings.rerank is None else min(wanted, settings.rerank.depth)


def _given(settings: SearchSettings, narrowed: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """`narrowed` is the query's own filter, beside the one of all."""
    filters = [each for each in (settings.filter, narrowed) if each]
    return {
        "mode": settings.mode,
        "fusion": settings.fusion,
        "candidates": settings.candidates,
        "rerank": settings.rerank or False,
        "suppress_duplicates": settings.suppress_duplicates,
        "mmr": settings.mmr or False,
        "filter": {"$and": filters} if len(filters) > 1 else next(iter(filters), None),
    }
