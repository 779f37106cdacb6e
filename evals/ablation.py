"""What each part is worth: the same questions with it and without it, and what chance may have done to the difference.

    python -m evals.ablation retrieval     searches: legs, fusions, reranking, stemming, titles, backends of the model
    python -m evals.ablation memory        recalls: legs, fusions, what is indexed, what moves a turn, what is shown

Services are started for it. Searches are asked of slices: queries by lot (with a fixed seed), all documents that these judge and others
by lot, because each backend embeds every document anew. Numbers over a slice compare with each other only; those over the whole sets
are in evals/results/retrieval.json. `--whole` asks all of it. Recalls are asked of all that was said.

Written to evals/results/ablation-retrieval.json and ablation-memory.json; docs/ABLATIONS.md is made from them.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from benchmarks.data import data_option
from benchmarks.report import as_json, err, print_results, progress_bar, table_of, this_machine
from diptych.evaluation.conversations import sliced_memory
from diptych.evaluation.datasets import RetrievalDataset, sliced
from diptych.evaluation.memory_runs import Owner, fill_memory
from diptych.evaluation.services import started_services
from evals import ablation_memory, ablation_retrieval
from evals.ablations import Report, Row, SetRows, rows_of
from evals.data import SOURCES, read_set
from evals.memory import SETS as MEMORY_SETS
from evals.memory import read_set as read_talks
from evals.reranking import how_trained

_RESULTS: Final = Path(__file__).parent / "results"
_TIMEOUT_S: Final = 3600.0
# By set: queries and documents. So much is embedded six times in a quarter of an hour on two cores; cranfield's queries are all asked.
_SLICES: Final[dict[str, tuple[int | None, int]]] = {
    "scifact": (150, 500),
    "cranfield": (None, 700),
    "cosqa": (200, 800),
}
# Nothing else is in these services.
_OWNER: Final = Owner()

# Why there is no row for it.
_NO_RERANKER: Final = {"rerank by a cross-encoder": "no cross-encoder was named (`--reranker`)"}
_OTHERS_RERANKER: Final = {
    "rerank by a cross-encoder that others trained": "none was at hand: the model hub was out of reach, and no package that carries "
    "one was found"
}

keep_option = click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder that keeps the services' data, so that another run embeds nothing again.",
)
save_option = click.option("--save/--no-save", default=True, help="Write the results to evals/results.")


@click.group(context_settings={"show_default": True})
def main() -> None:
    """What each part is worth."""


@main.command()
@click.option(
    "--set",
    "names",
    multiple=True,
    default=list(_SLICES),
    type=click.Choice(list(_SLICES)),
    help="Which sets; may be given several times.",
)
@click.option("--whole", is_flag=True, help="Whole sets instead of slices. Takes an hour or two.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    default=[" ".join(each) for each in ablation_retrieval.BACKENDS],
    type=click.Choice([" ".join(each) for each in ablation_retrieval.BACKENDS]),
    help="Which backends of the model embed all again; may be given several times.",
)
@click.option(
    "--reranker",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="A folder of evals.reranking, whose cross-encoder is measured too.",
)
@keep_option
@save_option
@data_option
def retrieval(
    *,
    names: tuple[str, ...],
    whole: bool,
    backends: tuple[str, ...],
    reranker: Path | None,
    keep: Path | None,
    save: bool,
    data_dir: Path,
) -> None:
    """Ablate searches."""
    datasets = [_read(data_dir, name, is_whole=whole) for name in names]
    found = asyncio.run(_retrieval(datasets, backends=backends, reranker=reranker, keep=keep))
    _finish("retrieval", found, save=save)


@main.command()
@click.option(
    "--set",
    "names",
    multiple=True,
    default=MEMORY_SETS,
    type=click.Choice(MEMORY_SETS),
    help="Which sets; may be given several times.",
)
@click.option("--questions", type=click.IntRange(1), help="At most so many of each set, by lot.")
@click.option("--embedding/--no-embedding", default=True, help="Whether to embed turns again without the speaker.")
@keep_option
@save_option
@data_option
def memory(
    *, names: tuple[str, ...], questions: int | None, embedding: bool, keep: Path | None, save: bool, data_dir: Path
) -> None:
    """Ablate recalls."""
    _finish("memory", asyncio.run(_memory(names, data_dir, questions, is_embedding=embedding, keep=keep)), save=save)


def _read(data_dir: Path, name: str, *, is_whole: bool) -> RetrievalDataset:
    dataset = read_set(data_dir, next(source for source in SOURCES if source.name == name))
    if is_whole:
        return dataset
    queries, documents = _SLICES[name]
    return sliced(dataset, queries_max=queries, documents_max=documents)


async def _retrieval(
    datasets: Sequence[RetrievalDataset], *, backends: Sequence[str], reranker: Path | None, keep: Path | None
) -> Report:
    metric, shown = ablation_retrieval.METRIC, ablation_retrieval.SHOWN
    chosen = [each for each in ablation_retrieval.BACKENDS if " ".join(each) in backends]
    with progress_bar() as bar:
        found = await ablation_retrieval.measure_retrieval(
            datasets, backends=chosen, reranker=reranker, keep=keep, bar=bar
        )
    left_out = {
        f"computed by {backend} {precision}": "not embedded in this run (`--backend`)"
        for backend, precision in ablation_retrieval.BACKENDS
        if (backend, precision) not in chosen and f"{backend} {precision}" != found.settings["backend"]
    }
    learned = {} if reranker is None else {"reranker": how_trained(reranker)}
    return Report(
        machine=this_machine(),
        settings=found.settings | learned,
        sets=[
            SetRows(
                name=dataset.name,
                sha256=dataset.sha256,
                counts=dataset.counts,
                metric=metric,
                rows=rows_of(found.measured[dataset.name], metric=metric, shown=shown),
            )
            for dataset in datasets
        ],
        absent=(_NO_RERANKER if reranker is None else _OTHERS_RERANKER) | left_out,
    )


async def _memory(
    names: Sequence[str], data_dir: Path, questions: int | None, *, is_embedding: bool, keep: Path | None
) -> Report:
    metric, shown = ablation_memory.METRIC, ablation_memory.SHOWN
    sets, settings = [], dict[str, str]()
    with progress_bar() as bar, tempfile.TemporaryDirectory(prefix="diptych-ablation-") as scratch:
        async with started_services(keep=keep or Path(scratch), timeout_s=_TIMEOUT_S) as services:
            for name in names:
                dataset = sliced_memory(await asyncio.to_thread(read_talks, data_dir, name), questions_max=questions)
                await fill_memory(services.memory, dataset, _OWNER, bar)
                found = await ablation_memory.measure_memory(
                    services, dataset, _OWNER, is_embedding=is_embedding, bar=bar
                )
                rows = rows_of(found.measured, metric=metric, shown=shown)
                sets.append(SetRows(name=name, sha256=dataset.sha256, counts=dataset.counts, metric=metric, rows=rows))
                settings[f"agreement on {name}"] = f"{found.agreement:.4f}"
            settings["model"] = str((await services.memory.info()).details["model"])
    return Report(machine=this_machine(), settings=settings, sets=sets, absent={})


def _finish(service: str, report: Report, *, save: bool) -> None:
    print_results(
        report.machine,
        {
            f"{each.name}: {', '.join(f'{count} {what}' for what, count in each.counts.items())}": table_of(
                ("", *each.rows[0].scores, "change", "low", "high", "p", "tokens"), map(_cells, each.rows), wraps=0
            )
            for each in report.sets
        },
    )
    for what, value in report.settings.items():
        err.print(f"{what}: {value}")
    if save:
        path = _RESULTS / f"ablation-{service}.json"
        path.write_bytes(as_json(report) + b"\n")
        err.print(f"written to evals/results/{path.name}")


def _cells(row: Row) -> list[str]:
    change = row.change
    changes = ["", "", "", ""]
    if change is not None:
        changes = [*(f"{value:+.3f}" for value in (change.mean, change.low, change.high)), f"{change.p:.4f}"]
    tokens = "" if row.tokens is None else f"{row.tokens:.0f}"
    return [row.part, *(f"{value:.3f}" for value in row.scores.values()), *changes, tokens]


if __name__ == "__main__":
    main()
