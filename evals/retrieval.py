"""How good searches are: nDCG@10 and recall@100 of every mode and fusion, through the client, against a running service.

    python -m evals.retrieval                          starts a service of its own with the real model
    python -m evals.retrieval --url http://host:7801   asks one that runs; its collections eval-SET are used

Documents go in whole and are cut as the service cuts them; a document stands where its best chunk stands. Differences are
paired over queries, with 95 % of a bootstrap.
"""

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.data import data_option
from benchmarks.pair import supervised
from diptych import Fusion, RetrievalClient
from diptych.ports import free_ports
from evals.data import SOURCES, GoldenSet, read_set
from evals.scoring import Difference, best_of_each, ndcg, paired_bootstrap, recall
from shared.errors import Unavailable
from shared.retrieval_messages import TERMINAL, Job, SearchMode

RESULTS: Final = Path(__file__).parent / "results"
# A way to search: its mode and fusion. The first is what users get.
WAYS: Final[dict[str, tuple[SearchMode, Fusion]]] = {
    "adaptive": ("hybrid", Fusion()),
    "relative": ("hybrid", Fusion(method="relative")),
    "dbsf": ("hybrid", Fusion(method="dbsf")),
    "rrf": ("hybrid", Fusion(method="rrf")),
    "dense": ("dense", Fusion()),
    "lexical": ("lexical", Fusion()),
}
_BASELINES: Final = ("rrf", "relative", "dense", "lexical")
_BATCH_DOCUMENTS: Final = 200
_SEARCHES_AT_ONCE: Final = 4
# All that both legs together can return with the candidates of a plain search.
_LIMIT: Final = 200
_TIMEOUT_S: Final = 600.0
_POLL_S: Final = 0.2


class WayScores(msgspec.Struct, frozen=True, kw_only=True):
    """`against` holds the difference in nDCG@10 to each baseline: mean, low, high."""

    ndcg_10: float
    recall_100: float
    against: dict[str, tuple[float, float, float]]


class SetResult(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    documents: int
    chunks: int
    queries: int
    ingest_s: float
    ways: dict[str, WayScores]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    made_at: datetime
    machine: str
    model: str
    sets: list[SetResult]


@asynccontextmanager
async def _service(url: str | None, api_key: str | None) -> AsyncIterator[RetrievalClient]:
    """The named service, or one of its own in a scratch folder that ends with it."""
    if url is not None:
        async with RetrievalClient(url, api_key=api_key, timeout_s=_TIMEOUT_S) as client:
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="diptych-evals-") as folder:
        async with supervised(Path(folder), free_ports(2)) as supervisor:
            await supervisor.wait_ready(_TIMEOUT_S)
            async with RetrievalClient(supervisor.retrieval_url, timeout_s=_TIMEOUT_S) as client:
                yield client


async def evaluate(client: RetrievalClient, golden: GoldenSet) -> SetResult:
    """Ingests the set into `eval-NAME`, unchanged documents costing nothing, and asks every query in every way."""
    collection = f"eval-{golden.name}"
    await client.put_collection(collection)
    started = time.perf_counter()
    for first in range(0, len(golden.documents), _BATCH_DOCUMENTS):
        answer = await client.ingest(collection, golden.documents[first : first + _BATCH_DOCUMENTS])
        await _until_searchable(client, answer.job)
    ingest_s = time.perf_counter() - started
    rankings = {way: await _rankings(client, collection, golden, *chosen) for way, chosen in WAYS.items()}
    asked = list(golden.queries)
    gains = {
        way: [ndcg(ranking[query], golden.judgements[query], depth=10) for query in asked]
        for way, ranking in rankings.items()
    }
    described = await client.collection(collection)
    return SetResult(
        name=golden.name,
        documents=described.documents,
        chunks=described.chunks,
        queries=len(asked),
        ingest_s=round(ingest_s, 1),
        ways={
            way: WayScores(
                ndcg_10=_mean(gains[way]),
                recall_100=_mean([recall(ranking[query], golden.judgements[query], depth=100) for query in asked]),
                against={
                    baseline: _rounded(paired_bootstrap(gains[way], gains[baseline]))
                    for baseline in _BASELINES
                    if baseline != way
                },
            )
            for way, ranking in rankings.items()
        },
    )


async def _until_searchable(client: RetrievalClient, job: Job) -> None:
    """A slow machine embeds for longer than the service lets a request wait. Raises Unavailable when documents failed.

    A set that is not wholly there would be scored all the same, and wrongly.
    """
    while job.status not in TERMINAL:
        await asyncio.sleep(_POLL_S)
        job = await client.job(job.id)
    if job.status != "succeeded" or job.failed:
        raise Unavailable(f"ingest job {job.id} {job.status} with {job.failed} failed documents: {job.errors[:3]}")


async def _rankings(
    client: RetrievalClient, collection: str, golden: GoldenSet, mode: SearchMode, fusion: Fusion
) -> dict[str, list[str]]:
    gate = asyncio.Semaphore(_SEARCHES_AT_ONCE)

    async def ask(query_id: str, text: str) -> tuple[str, list[str]]:
        async with gate:
            answer = await client.search(text, collection=collection, mode=mode, fusion=fusion, limit=_LIMIT)
        return query_id, best_of_each([(hit.document_id, hit.score) for hit in answer.hits])

    return dict(await asyncio.gather(*(ask(*query) for query in golden.queries.items())))


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _rounded(difference: Difference) -> tuple[float, float, float]:
    return round(difference.mean, 4), round(difference.low, 4), round(difference.high, 4)


def _show(console: Console, result: SetResult) -> None:
    table = Table(
        title=f"{result.name}: {result.queries} queries, {result.documents} documents in {result.chunks} chunks, "
        f"ingested in {result.ingest_s:g} s"
    )
    for heading in ("search", "nDCG@10", "recall@100", *(f"against {name}" for name in _BASELINES)):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for way, scores in result.ways.items():
        against = (scores.against.get(name) for name in _BASELINES)
        cells = ["" if each is None else f"{each[0]:+.3f} ({each[1]:+.3f} {each[2]:+.3f})" for each in against]
        table.add_row(way, f"{scores.ndcg_10:.3f}", f"{scores.recall_100:.3f}", *cells)
    console.print(table)


async def _run(url: str | None, api_key: str | None, names: Sequence[str], data_dir: Path) -> Report:
    console, results = Console(width=150), []
    async with _service(url, api_key) as client:
        for source in SOURCES:
            if source.name in names:
                results.append(await evaluate(client, await asyncio.to_thread(read_set, data_dir, source)))
                _show(console, results[-1])
        model = (await client.collection(f"eval-{results[0].name}")).model
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return Report(made_at=datetime.now(UTC).replace(microsecond=0), machine=machine, model=model, sets=results)


@click.command(context_settings={"show_default": True})
@click.option("--url", help="A running retrieval service; without it one is started.")
@click.option("--api-key", envvar="DIPTYCH_API_KEY", show_envvar=True, help="A key of that service.")
@click.option(
    "--set",
    "names",
    multiple=True,
    default=[source.name for source in SOURCES],
    type=click.Choice([source.name for source in SOURCES]),
    help="Which sets; may be given several times.",
)
@click.option("--save/--no-save", default=True, help="Write evals/results/retrieval.json.")
@data_option
def main(*, url: str | None, api_key: str | None, names: tuple[str, ...], save: bool, data_dir: Path) -> None:
    """Quality of searches on the golden sets."""
    report = asyncio.run(_run(url, api_key, names, data_dir))
    if save:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "retrieval.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        click.echo(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
