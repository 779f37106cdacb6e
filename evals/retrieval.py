"""How good searches are: nDCG@10 and recall@100 of every mode and fusion, through the client, against a running service.

    python -m evals.retrieval                          starts a service of its own with the real model
    python -m evals.retrieval --url http://host:7801   asks one that runs; its collections eval-SET are used

Documents go in whole and are cut as the service cuts them; a document stands where its best chunk stands. Differences are
paired over queries, with 95 % of a bootstrap. One set and one way of asking, with every query's scores: `diptych eval`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import data_option
from diptych import Fusion, RetrievalClient
from diptych.evaluation.datasets import RetrievalDataset
from diptych.evaluation.machine import this_machine
from diptych.evaluation.progress import progress_bar
from diptych.evaluation.results import Result
from diptych.evaluation.retrieval_runs import SearchSettings, evaluate_retrieval, fill_collection
from diptych.evaluation.services import started_services
from diptych.evaluation.statistics import paired
from evals.data import SOURCES, read_set

RESULTS: Final = Path(__file__).parent / "results"
# A way to search. The first is what users get.
WAYS: Final[dict[str, SearchSettings]] = {
    "adaptive": SearchSettings(fusion=Fusion()),
    "relative": SearchSettings(fusion=Fusion(method="relative")),
    "dbsf": SearchSettings(fusion=Fusion(method="dbsf")),
    "rrf": SearchSettings(fusion=Fusion(method="rrf")),
    "dense": SearchSettings(mode="dense"),
    "lexical": SearchSettings(mode="lexical"),
}
_BASELINES: Final = ("rrf", "relative", "dense", "lexical")
_TIMEOUT_S: Final = 600.0


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
    async with started_services(keep=None, timeout_s=_TIMEOUT_S) as services:
        yield services.retrieval


async def evaluate(client: RetrievalClient, golden: RetrievalDataset, bar: Progress) -> SetResult:
    """Ingests the set into `eval-NAME`, unchanged documents costing nothing, and asks every query in every way."""
    collection = f"eval-{golden.name}"
    ingest_s = await fill_collection(client, collection, golden, bar)
    results = {
        way: await evaluate_retrieval(
            client, golden, collection=collection, label=way, settings=settings, is_timed=False, bar=bar
        )
        for way, settings in WAYS.items()
    }
    described = await client.collection(collection)
    return SetResult(
        name=golden.name,
        documents=described.documents,
        chunks=described.chunks,
        queries=len(golden.queries),
        ingest_s=round(ingest_s, 1),
        ways={
            way: WayScores(
                ndcg_10=round(result.overall["nDCG@10"].mean, 4),
                recall_100=round(result.overall["recall@100"].mean, 4),
                against={
                    baseline: _difference(result, results[baseline]) for baseline in _BASELINES if baseline != way
                },
            )
            for way, result in results.items()
        },
    )


def _difference(ours: Result, theirs: Result) -> tuple[float, float, float]:
    found = paired(*(list(result.scores("nDCG@10").values()) for result in (ours, theirs))).difference
    return round(found.mean, 4), round(found.low, 4), round(found.high, 4)


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
    with progress_bar() as bar:
        async with _service(url, api_key) as client:
            for source in SOURCES:
                if source.name in names:
                    results.append(await evaluate(client, await asyncio.to_thread(read_set, data_dir, source), bar))
                    _show(console, results[-1])
            model = (await client.collection(f"eval-{results[0].name}")).model
    found, made_at = this_machine(), datetime.now(UTC).replace(microsecond=0)
    machine = f"{found.cpu}, {found.system}, {found.cores} cores, Python {found.python}"
    return Report(made_at=made_at, machine=machine, model=model, sets=results)


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
