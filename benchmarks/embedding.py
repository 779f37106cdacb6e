"""What computes the model, and what it costs: `python -m benchmarks.embedding`. `--quality` takes many times as long.

Measured: every backend in the process of the benchmark, on the same texts, in turns, so that whatever else the machine does
meets all of them. torch is sentence-transformers as it comes, given all texts at once; the others get batches like the
service makes, as many side by side as it gives them. With `--quality`, nDCG@10 of the dense leg alone, exact search, on the
judged sets, and of mixed pairs: fp32's documents with this backend's queries, and the other way round.

Not measured: HTTP, chunking, indexing and storing (benchmarks.latency), other models, GPUs.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import click
import msgspec
import numpy as np
from rich.table import Table

from benchmarks.bare_model import embed_all
from benchmarks.data import JudgedSet, data_option, read_documents, read_judged, unseen_queries
from benchmarks.judged_corpus import gain
from benchmarks.output import Output, output_options
from benchmarks.report import (
    Machine,
    OtherWork,
    progress_bar,
    table_of,
    this_machine,
)
from diptych.console import command
from retrieval.models.backends import Backend, ModelChoice, Precision, load_embedder
from retrieval.models.embedder import Embedder
from shared.vectors import Float32Array

_MODEL: Final = "all-MiniLM-L6-v2"
_REFERENCE: Final = "torch fp32"
_CHOICES: Final[tuple[tuple[Backend, Precision], ...]] = (
    ("torch", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)
_SETS: Final = {"scifact": "qrels.tsv", "cranfield": "qrels.tsv", "cosqa": "qrels.dev.tsv"}
_QUERIES_PER_ROUND: Final = 20
_TOP: Final = 10

ResultT = TypeVar("ResultT")


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of the rounds. `times_reference` is of the documents' rate. `first_load_s` includes the conversion."""

    backend: str
    first_load_s: float
    load_s: float
    documents_per_s: float
    times_reference: float
    query_ms: float
    cosine_mean: float
    cosine_min: float


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    backend: str
    collection: str
    ndcg: float
    ndcg_reference_documents: float
    ndcg_reference_queries: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    threads: int
    documents: int
    speed: list[Speed]
    quality: list[Quality]


def embed_documents(embedder: Embedder, texts: Sequence[str]) -> Float32Array:
    return embedder.embed(texts, "document") if embedder.backend == "torch" else embed_all(embedder, texts)


def embed_queries(embedder: Embedder, texts: Sequence[str]) -> Float32Array:
    return np.concatenate([embedder.embed([text], "query") for text in texts])


def measure_speed(
    load: dict[str, Callable[[], Embedder]], documents: Sequence[str], queries: Sequence[str], rounds: int
) -> list[Speed]:
    first = {name: _timed(start)[0] for name, start in load.items()}
    again = {name: _timed(start) for name, start in load.items()}
    embedders = {name: embedder for name, (_, embedder) in again.items()}
    loads = {name: (first[name], again[name][0]) for name in load}
    vectors = {name: embed_documents(each, documents) for name, each in embedders.items()}
    rates: dict[str, list[float]] = {name: [] for name in embedders}
    latencies: dict[str, list[float]] = {name: [] for name in embedders}
    with progress_bar() as progress:
        for _ in progress.track(range(rounds), description="speed"):
            for name, embedder in embedders.items():
                taken, _ = _timed(partial(embed_documents, embedder, documents))
                rates[name].append(len(documents) / taken)
                latencies[name] += [1000 * _timed(partial(embedder.embed, [query], "query"))[0] for query in queries]
    return [
        _speed(name, loads[name], rates[name], rates[_REFERENCE], latencies[name], _cosines(vectors, name))
        for name in embedders
    ]


def _speed(
    name: str,
    loads: tuple[float, float],
    rates: Sequence[float],
    reference: Sequence[float],
    latencies: Sequence[float],
    cosines: Float32Array,
) -> Speed:
    return Speed(
        backend=name,
        first_load_s=round(loads[0], 2),
        load_s=round(loads[1], 2),
        documents_per_s=round(median(rates), 1),
        # Of each round by itself: what else ran then slowed both.
        times_reference=round(median(ours / theirs for ours, theirs in zip(rates, reference, strict=True)), 2),
        query_ms=round(median(latencies), 2),
        cosine_mean=round(float(cosines.mean()), 5),
        cosine_min=round(float(cosines.min()), 5),
    )


def _cosines(vectors: dict[str, Float32Array], name: str) -> Float32Array:
    cosines: Float32Array = (vectors[name] * vectors[_REFERENCE]).sum(axis=1)
    return cosines


def measure_quality(load: dict[str, Callable[[], Embedder]], data_dir: Path, names: Sequence[str]) -> list[Quality]:
    found: list[Quality] = []
    with progress_bar() as progress:
        task = progress.add_task("quality", total=len(names) * len(load))
        for collection in names:
            judged = read_judged(data_dir, collection, _SETS[collection])
            reference: tuple[Float32Array, Float32Array] | None = None
            for name, start in load.items():
                embedder = start()
                documents, queries = (
                    embed_documents(embedder, judged.documents),
                    embed_queries(embedder, judged.queries),
                )
                reference = reference or (documents, queries)
                found.append(
                    Quality(
                        backend=name,
                        collection=collection,
                        ndcg=mean_ndcg(judged, documents, queries),
                        ndcg_reference_documents=mean_ndcg(judged, reference[0], queries),
                        ndcg_reference_queries=mean_ndcg(judged, documents, reference[1]),
                    )
                )
                progress.advance(task)
    return found


def mean_ndcg(judged: JudgedSet, documents: Float32Array, queries: Float32Array) -> float:
    """nDCG@10 with linear gains, as BEIR has it."""
    total = 0.0
    for query, relevant in zip(queries, judged.relevant, strict=True):
        top = np.argsort(-(documents @ query), kind="stable")[:_TOP]
        best = sorted(relevant.values(), reverse=True)[:_TOP]
        total += gain([relevant.get(judged.document_ids[place], 0) for place in top]) / gain(best)
    return round(total / len(queries), 4)


def _timed(call: Callable[[], ResultT]) -> tuple[float, ResultT]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _tables(results: Results) -> dict[str, Table]:
    speed = [
        (
            each.backend,
            f"{each.first_load_s:.1f}",
            f"{each.load_s:.1f}",
            f"{each.documents_per_s:.1f}",
            f"{each.times_reference:.2f}",
            f"{each.query_ms:.1f}",
            f"{each.cosine_mean:.5f}",
            f"{each.cosine_min:.5f}",
        )
        for each in results.speed
    ]
    quality = [
        (
            each.backend,
            each.collection,
            f"{each.ndcg:.4f}",
            f"{each.ndcg_reference_documents:.4f}",
            f"{each.ndcg_reference_queries:.4f}",
        )
        for each in results.quality
    ]
    of_speed = ("backend", "first load s", "load s", "documents/s", "times torch", "query ms", "cosine", "least")
    tables = {f"{results.documents} abstracts a round, {results.threads or 'all'} threads": table_of(of_speed, speed)}
    if quality:
        of_quality = ("backend", "set", "nDCG@10", "torch's documents", "torch's queries")
        tables["the dense leg alone"] = table_of(of_quality, quality, texts=2)
    return tables


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=8), default=96, help="Documents in a round.")
@click.option("--rounds", type=click.IntRange(min=1, max=1000), default=5, help="Turns of each backend.")
@click.option("--threads", type=click.IntRange(min=0, max=256), default=0, help="Of the model; 0 is all cores.")
@click.option("--quality", multiple=True, type=click.Choice(list(_SETS)), help="Judge on this set; may be repeated.")
@output_options
@data_option
@command
async def main(  # its work blocks, and nothing else waits
    documents: int,
    rounds: int,
    threads: int,
    quality: tuple[str, ...],
    output: Output,
    data_dir: Path,
) -> None:
    """Measure every backend of the embedding model. The results are also written to benchmarks/results/embedding.json."""
    texts = [f"{each.title}\n{each.text}" for each in read_documents(data_dir, documents)]
    unseen = unseen_queries(data_dir)
    work = OtherWork()
    with tempfile.TemporaryDirectory(prefix="diptych-embedding-") as scratch:
        load: dict[str, Callable[[], Embedder]] = {
            f"{backend} {precision}": partial(
                load_embedder,
                ModelChoice(
                    name=_MODEL, backend=backend, precision=precision, models_dir=Path(scratch), threads=threads
                ),
            )
            for backend, precision in _CHOICES
        }
        speed = measure_speed(load, texts, [next(unseen) for _ in range(_QUERIES_PER_ROUND)], rounds)
        judged = measure_quality(load, data_dir, quality)
    machine = this_machine(work)
    results = Results(machine=machine, threads=threads, documents=documents, speed=speed, quality=judged)
    output.publish("embedding", results, _tables(results))


if __name__ == "__main__":
    main()
