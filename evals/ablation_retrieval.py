"""What each part of a search is worth, through the client: modes, fusions, reranking, what the words and vectors are made from,
backends.

A part that can be switched off in a request is. Stemming is a setting of a collection, so there is one without it; where there is no
switch, as for titles, documents are ingested without them. Each backend of the model is a service of its own, which embeds all anew.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from rich.progress import Progress

from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.metrics import score_rankings
from diptych.evaluation.retrieval_runs import SearchSettings, evaluate_retrieval, fill_collection
from diptych.evaluation.services import started_services
from evals.ablations import DEFAULT, Measurement
from shared.errors import SettingsError
from shared.fusion import FusionMethod
from shared.messages import Info
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import CollectionSpec, Fusion, Mmr, Rerank, SearchMode

METRIC: Final = "nDCG@10"
SHOWN: Final = ("nDCG@10", "recall@10")
_DEPTHS: Final = (10,)
_TIMEOUT_S: Final = 3600.0
_DENSE: Final = "meaning alone"
_LEXICAL: Final = "words alone"
_MODES: Final[dict[SearchMode, str]] = {"hybrid": DEFAULT, "dense": _DENSE, "lexical": _LEXICAL}
# Those that the service does not take by itself; the default is one of them under another name.
BACKENDS: Final = (("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "int8"), ("torch", "fp32"))
_RERANK_DEPTHS: Final = (20, 50)


def _fused(method: FusionMethod, alpha: float = 0.5) -> SearchSettings:
    return SearchSettings(fusion=Fusion(method=method, alpha=alpha))


# By group and part; all are compared with the default.
WAYS: Final[dict[tuple[str, str], SearchSettings]] = {
    ("", DEFAULT): SearchSettings(),
    ("legs", _DENSE): SearchSettings(mode="dense"),
    ("legs", _LEXICAL): SearchSettings(mode="lexical"),
    ("fusion", "`rrf`, k 60"): _fused("rrf"),
    ("fusion", "`relative` (minimum to maximum)"): _fused("relative"),
    ("fusion", "`relative`, .8 for meaning"): _fused("relative", 0.8),
    ("fusion", "`dbsf`"): _fused("dbsf"),
    ("fusion", "20 candidates a leg, not 100"): SearchSettings(candidates=20),
    ("fusion", "`mmr`, diversity .5"): SearchSettings(mmr=Mmr()),
    ("fusion", "`suppress_duplicates`"): SearchSettings(suppress_duplicates=True),
}
RERANKED: Final[dict[tuple[str, str], SearchSettings]] = {
    ("rerank", f"a cross-encoder orders the best {depth}"): SearchSettings(rerank=Rerank(depth=depth))
    for depth in _RERANK_DEPTHS
}


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """By set. `settings` are what the services said of themselves."""

    measured: dict[str, list[Measurement]]
    settings: dict[str, str]


async def measure_retrieval(
    datasets: Sequence[RetrievalDataset],
    *,
    backends: Sequence[tuple[str, str]] = BACKENDS,
    reranker: Path | None = None,
    keep: Path | None = None,
    bar: Progress,
) -> Found:
    """Starts services for it, one pair after the other. `reranker` is a cross-encoder's folder."""
    measured: dict[str, list[Measurement]] = {dataset.name: [] for dataset in datasets}
    reranking = {} if reranker is None else {"DIPTYCH_RETRIEVAL_RERANK_MODELS": str(reranker)}
    async with started_services(keep=keep, timeout_s=_TIMEOUT_S, settings=reranking) as services:
        info = await services.retrieval.info()
        taken = _backend(info)
        for dataset in datasets:
            measured[dataset.name] += await measure_parts(
                services.retrieval, dataset, bar, is_reranked=reranker is not None
            )
    for backend, precision in backends:
        if f"{backend} {precision}" == taken:
            continue
        settings = {"DIPTYCH_EMBEDDING_BACKEND": backend, "DIPTYCH_EMBEDDING_PRECISION": precision}
        async with started_services(keep=keep, timeout_s=_TIMEOUT_S, settings=settings) as services:
            if _backend(await services.retrieval.info()) != f"{backend} {precision}":
                raise SettingsError(f"the service does not compute with {backend} {precision}, as it was told to")
            for dataset in datasets:
                measured[dataset.name] += await _measure_backend(
                    services.retrieval, dataset, f"{backend} {precision}", bar
                )
    return Found(measured, {"model": str(info.details["model"]), "backend": taken})


def _backend(info: Info) -> str:
    return f"{info.details['embedding_backend']} {info.details['embedding_precision']}"


async def measure_parts(
    client: RetrievalClient, dataset: RetrievalDataset, bar: Progress, *, is_reranked: bool = False
) -> list[Measurement]:
    """Of one service: everything but its backend. `is_reranked` with the first of its cross-encoders."""
    name = dataset.name
    await fill_collection(client, name, dataset, bar)
    ways = WAYS | (RERANKED if is_reranked else {})
    found = [await _ask(client, dataset, name, way, *named, bar) for named, way in ways.items()]
    found += [await _perfectly_ordered(client, dataset, depth, bar) for depth in _RERANK_DEPTHS]
    # A collection keeps the language that its documents were analysed as.
    unstemmed = f"{name}-unstemmed"
    await fill_collection(client, unstemmed, dataset, bar, spec=CollectionSpec(language="none"))
    found += await _without(
        client, dataset, unstemmed, "language", "without stemming and stop words", ("hybrid", "lexical"), bar
    )
    if any(document.title for document in dataset.documents):
        await fill_collection(client, f"{name}-untitled", untitled(dataset), bar)
        modes: tuple[SearchMode, ...] = ("hybrid", "dense", "lexical")
        found += await _without(client, dataset, f"{name}-untitled", "context of a chunk", "without titles", modes, bar)
    return found


def untitled(dataset: RetrievalDataset) -> RetrievalDataset:
    """The same documents without what each chunk is told of its document."""
    documents = [msgspec.structs.replace(document, title=None) for document in dataset.documents]
    return dataclasses.replace(dataset, documents=documents)


async def _perfectly_ordered(
    client: RetrievalClient, dataset: RetrievalDataset, depth: int, bar: Progress
) -> Measurement:
    """What no reranking of so many chunks can exceed: their documents in the order of the judgements."""
    rankings: dict[str, list[str]] = {}
    for query, text in bar.track(dataset.queries.items(), description=f"{dataset.name}: the best order of {depth}"):
        answer = await client.search(text, collection=dataset.name, limit=depth)
        grades = dataset.judgements[query]
        found = dict.fromkeys(hit.document_id for hit in answer.hits)
        rankings[query] = sorted(found, key=lambda document: -grades.get(document, 0))
    scores = score_rankings(rankings, dataset.judgements, _DEPTHS)
    return Measurement(group="rerank", part=f"the best {depth} as the judges would order them", scores=scores)


async def _measure_backend(
    client: RetrievalClient, dataset: RetrievalDataset, backend: str, bar: Progress
) -> list[Measurement]:
    collection = f"{dataset.name}-{backend.replace(' ', '-')}"
    await fill_collection(client, collection, dataset, bar)
    return await _without(client, dataset, collection, "model", f"computed by {backend}", ("hybrid", "dense"), bar)


async def _without(
    client: RetrievalClient,
    dataset: RetrievalDataset,
    collection: str,
    group: str,
    what: str,
    modes: Sequence[SearchMode],
    bar: Progress,
) -> list[Measurement]:
    """Each mode beside the same mode as it is."""
    found = []
    for mode in modes:
        base = _MODES[mode]
        part = what if mode == "hybrid" else f"{base}, {what}"
        way = SearchSettings(mode=mode)
        found.append(await _ask(client, dataset, collection, way, group, part, bar, base=base))
    return found


async def _ask(
    client: RetrievalClient,
    dataset: RetrievalDataset,
    collection: str,
    way: SearchSettings,
    group: str,
    part: str,
    bar: Progress,
    *,
    base: str = DEFAULT,
) -> Measurement:
    result = await evaluate_retrieval(
        client,
        dataset,
        collection=collection,
        label=f"{dataset.name}: {part}",
        settings=way,
        depths=_DEPTHS,
        is_timed=False,
        bar=bar,
    )
    scores: Mapping[str, dict[str, float]] = {query.id: query.scores for query in result.queries}
    return Measurement(group=group, part=part, scores=dict(scores), base=base)
