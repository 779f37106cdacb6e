"""How good it is on a dataset of one's own, and whether a change made it worse."""

import asyncio
from typing import Any

import click

from diptych.commands.evaluation_options import Given, evaluation_options, finish, read_baseline, services_of
from diptych.console import Options, command
from diptych.evaluation.datasets import RetrievalDataset, read_retrieval, sliced
from diptych.evaluation.metrics import metric_names
from diptych.evaluation.progress import progress_bar
from diptych.evaluation.retrieval_runs import (
    DEPTHS,
    SearchSettings,
    check_collection,
    evaluate_retrieval,
    fill_collection,
)
from shared.fusion import ALPHA_DEFAULT
from shared.retrieval_messages import CANDIDATES_MAX, Fusion, Mmr, Rerank

_DEPTH = click.IntRange(1, 1000)
_SHA_LENGTH = 8


@click.group("eval")
def evaluate() -> None:
    """Measure quality on a dataset of your own, and compare with an earlier run. Needs `pip install 'diptych[eval]'`."""


@evaluate.command("retrieval")
@evaluation_options
@click.option("--qrels", metavar="NAME", help="The file of judgements, where the folder has several.")
@click.option(
    "--documents",
    "documents_max",
    type=click.IntRange(min=1),
    help="Ingest only so many: those that the queries judge, and others by lot.",
)
@click.option("--collection", "-c", help="Where the documents go; by default a collection named after the dataset.")
@click.option("-k", "depths", type=_DEPTH, multiple=True, default=DEPTHS, show_default=True, help="Places to look at.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="By meaning (dense), by words (lexical), or both.",
)
@click.option(
    "--fusion",
    type=click.Choice(["adaptive", "relative", "dbsf", "rrf"]),
    help="How both become one list; by default as the collection says.",
)
@click.option("--alpha", type=click.FloatRange(0, 1), help="The weight of meaning in the fusion.")
@click.option(
    "--candidates",
    type=click.IntRange(1, CANDIDATES_MAX),
    default=100,
    show_default=True,
    help="How many passages each leg brings.",
)
@click.option("--rerank", is_flag=True, help="Let the server's cross-encoder decide the order.")
@click.option("--rerank-model", metavar="MODEL", help="Rerank with this one of the server's cross-encoders.")
@click.option("--no-duplicates", is_flag=True, help="Of passages that say nearly the same, count only the best.")
@click.option("--diversity", type=click.FloatRange(0, 1), help="From 0, the best first, to 1, each unlike the others.")
@click.option("--latency/--no-latency", "is_timed", default=True, help="Also time up to 200 searches, one at a time.")
@click.pass_obj
@command
async def evaluate_searches(
    options: Options,
    /,
    *,
    given: Given,
    qrels: str | None,
    documents_max: int | None,
    collection: str | None,
    depths: tuple[int, ...],
    is_timed: bool,
    **asked: Any,
) -> None:
    """How well searches find what is judged relevant: nDCG, MRR and recall.

    DIR is laid out as BEIR has it: corpus.jsonl, queries.jsonl and qrels*.tsv. The documents are ingested into a collection
    of their own, and ingesting them again costs nothing.
    """
    dataset = await asyncio.to_thread(_read_retrieval, given, qrels, documents_max)
    if not dataset.documents and collection is None:
        raise click.UsageError("without corpus.jsonl, --collection says where the documents are")
    depths = tuple(dict.fromkeys(depths))
    baseline = read_baseline(
        given, kind="retrieval", dataset=dataset.name, sha256=dataset.sha256, metrics=metric_names(depths)
    )
    name = collection or f"eval-{dataset.name}-{dataset.documents_sha256[:_SHA_LENGTH]}"
    settings = _search_settings(**asked)
    async with services_of(options, given) as services:
        with progress_bar(quiet=options.as_json) as bar:
            if given.reuse:
                await check_collection(services.retrieval, name, dataset)
            else:
                await fill_collection(services.retrieval, name, dataset, bar)
            result = await evaluate_retrieval(
                services.retrieval,
                dataset,
                collection=name,
                label=given.label,
                settings=settings,
                depths=depths,
                is_timed=is_timed,
                bar=bar,
            )
    await finish(options, given, result, baseline=baseline, texts=dataset.queries)


def _read_retrieval(given: Given, qrels: str | None, documents_max: int | None) -> RetrievalDataset:
    dataset = read_retrieval(given.dataset, judgements=qrels, has_corpus=not given.reuse)
    return sliced(dataset, queries_max=given.limit, documents_max=documents_max, seed=given.seed)


def _search_settings(
    *,
    mode: Any,
    fusion: Any,
    alpha: float | None,
    candidates: int,
    rerank: bool,
    rerank_model: str | None,
    no_duplicates: bool,
    diversity: float | None,
) -> SearchSettings:
    is_fused = fusion is not None or alpha is not None
    return SearchSettings(
        mode=mode,
        fusion=Fusion(method=fusion or "adaptive", alpha=ALPHA_DEFAULT if alpha is None else alpha)
        if is_fused
        else None,
        candidates=candidates,
        rerank=Rerank(model=rerank_model) if rerank or rerank_model else None,
        suppress_duplicates=no_duplicates,
        mmr=None if diversity is None else Mmr(diversity=diversity),
    )
