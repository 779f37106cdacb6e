"""How the dense leg holds up with many vectors: `python -m benchmarks.million --vectors 1000000`.

The index is the service's own `DenseIndex` with its snapshots, called directly: embedding and storing a million texts would
take hours and measure other things. Vectors are made: a mixture of 3,000 centres of unequal weight, with a falling spectrum
and a spread that give the neighbours the similarities that all-MiniLM-L6-v2 gives those of real texts (the nearest about .75,
the tenth .65). Uniform noise would have no neighbours to find. Queries are drawn like the vectors, and are not among them.

Printed: time to take the vectors in, to build the lists, searches meanwhile, recall of the ten nearest against a plain scan,
percentiles of one search with 100 candidates, filters, resident memory, the snapshot, and a restart from it.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.output import Output, output_options
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    table_of,
    this_machine,
)
from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.dense_files import load, save
from retrieval.indexes.tending import lower_priority
from retrieval.truth.records import VectorChanges, VectorStorage
from shared.vectors import Float32Array

DIMENSIONS = 384
CENTRES = 3000
SPREAD = 0.9
SPECTRUM_FALL = 0.5
QUERIES = 200
NEAREST = 10
CANDIDATES = 100
STEP = 2000
SHARES = (0.5, 0.1, 0.01, 0.001)


class Searches(msgspec.Struct, frozen=True, kw_only=True):
    """`keeps` is the share of the vectors that a filter keeps; `recall_at_10` is against a plain scan of these."""

    keeps: float
    plan: str
    recall_at_10: float
    ms: Percentiles


class Million(msgspec.Struct, frozen=True, kw_only=True):
    """`resident_mib` is what the index added to the process; `probes` lists of all `lists` are looked at in a search."""

    machine: Machine
    vectors: int
    storage: str
    take_in_s: float
    build_s: float
    lists: int
    probes: int
    resident_mib: int
    snapshot_s: float
    snapshot_mib: int
    restart_to_first_answer_s: float
    beside_build_ms: Percentiles
    searches: list[Searches]


def make_vectors(count: int, seed: int) -> Float32Array:
    dice = np.random.default_rng(seed)
    shape = np.random.default_rng(0)
    scale = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -SPECTRUM_FALL
    scale /= np.linalg.norm(scale)
    centres = shape.normal(size=(CENTRES, DIMENSIONS)).astype(np.float32) * scale
    weights = shape.zipf(1.5, size=CENTRES).clip(max=50).astype(np.float64)
    vectors = np.empty((count, DIMENSIONS), dtype=np.float32)
    for start in range(0, count, 50_000):
        some = vectors[start : start + 50_000]
        dice.standard_normal(out=some, dtype=np.float32)
        some *= SPREAD * scale
        some += centres[dice.choice(CENTRES, len(some), p=weights / weights.sum())]
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return vectors


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fill(index: DenseIndex, count: int) -> None:
    """In steps, as the service does it, so that no second copy of everything is ever held."""
    for step, start in enumerate(range(0, count, 50_000)):
        vectors = make_vectors(min(50_000, count - start), seed=step + 1)
        for begin in range(0, len(vectors), STEP):
            some = vectors[begin : begin + STEP]
            first = start + begin + 1
            index.apply(VectorChanges(first, list(range(first, first + len(some))), some, []))


def build(index: DenseIndex, queries: Float32Array) -> tuple[float, Percentiles]:
    """As the service builds: in a thread of low priority, while searches go on. Seconds, and what these searches took."""

    def work() -> None:
        lower_priority()
        while index.upkeep():
            pass

    builder = threading.Thread(target=work)
    started, times_s = time.perf_counter(), list[float]()
    builder.start()
    while builder.is_alive():
        query = queries[len(times_s) % len(queries)]
        times_s.append(timed(lambda query=query: index.search(query, CANDIDATES)))  # type: ignore[misc]
        time.sleep(0.05)
    return round(time.perf_counter() - started, 1), percentiles([1000.0 * each for each in times_s])


def exact(index: DenseIndex, query: Float32Array, ids: NDArray[np.int64]) -> set[int]:
    scores = index.score(query, ids)
    return set(sorted(scores, key=lambda chunk_id: -scores[chunk_id])[:NEAREST])


def measure(index: DenseIndex, queries: Float32Array, allowed: NDArray[np.int64] | None) -> Searches:
    ids = np.arange(1, len(index) + 1, dtype=np.int64) if allowed is None else allowed
    found, times_ms = 0, list[float]()
    for query in queries:
        started = time.perf_counter()
        hits = index.search(query, CANDIDATES, allowed)
        times_ms.append((time.perf_counter() - started) * 1000.0)
        found += len(set(list(hits)[:NEAREST]) & exact(index, query, ids))
    return Searches(
        keeps=len(ids) / len(index),
        plan=index.plan(None if allowed is None else len(allowed)),
        recall_at_10=round(found / (len(queries) * min(NEAREST, len(ids))), 4),
        ms=percentiles(times_ms),
    )


def restart(directory: Path, storage: VectorStorage, query: Float32Array) -> float:
    started = time.perf_counter()
    index = DenseIndex(DIMENSIONS, storage=storage)
    load(directory, index, "made")
    index.search(query, CANDIDATES)
    return time.perf_counter() - started


def run(count: int, storage: VectorStorage) -> Million:
    watch, queries = OtherWork(), make_vectors(QUERIES, seed=0)
    before_mib = resident_mib()
    index = DenseIndex(DIMENSIONS, storage=storage)
    take_in_s = timed(lambda: fill(index, count))
    build_s, beside_build = build(index, queries)
    resident = round(resident_mib() - before_mib)
    searches = [measure(index, queries, None)]
    dice = np.random.default_rng(5)
    for share in SHARES:
        allowed = np.sort(dice.choice(count, round(share * count), replace=False)).astype(np.int64) + 1
        searches.append(measure(index, queries, allowed))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        snapshot_s = timed(lambda: save(directory, index, "made"))
        snapshot_mib = round(sum(file.stat().st_size for file in directory.iterdir()) / 2**20)
        restart_s = restart(directory, storage, queries[0])
    lists = index.state.lists
    return Million(
        machine=this_machine(watch),
        vectors=count,
        storage=storage,
        take_in_s=round(take_in_s, 1),
        build_s=build_s,
        lists=len(lists.centroids) if lists else 0,
        probes=lists.probes if lists else 0,
        resident_mib=resident,
        snapshot_s=round(snapshot_s, 2),
        snapshot_mib=snapshot_mib,
        restart_to_first_answer_s=round(restart_s, 2),
        beside_build_ms=beside_build,
        searches=searches,
    )


def tables_of(found: Million) -> dict[str, Table]:
    beside = found.beside_build_ms
    once = table_of(
        ("storage", "take in s", "build s", "lists", "probes", "resident MiB", "snapshot MiB", "write s", "restart s"),
        [
            (
                found.storage,
                *(str(each) for each in (found.take_in_s, found.build_s, found.lists, found.probes)),
                *(str(each) for each in (found.resident_mib, found.snapshot_mib, found.snapshot_s)),
                str(found.restart_to_first_answer_s),
            )
        ],
    )
    rows = [(f"{each.keeps:.2%}", each.plan, f"{each.recall_at_10:.4f}", *_columns(each.ms)) for each in found.searches]
    searches = table_of(
        ("kept", "plan", "recall@10", "p50 ms", "p95 ms", "p99 ms"),
        [*rows, ("all, beside the build", "", "", *_columns(beside))],
        texts=2,
    )
    return {f"{found.vectors:,} vectors": once, f"{CANDIDATES} candidates": searches}


def _columns(ms: Percentiles) -> tuple[str, str, str]:
    return f"{ms.p50:.2f}", f"{ms.p95:.2f}", f"{ms.p99:.2f}"


@click.command()
@click.option("--vectors", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--storage", default="float32", show_default=True, type=click.Choice(["float32", "float16"]))
@output_options
def main(vectors: int, storage: VectorStorage, output: Output) -> None:
    """Measure the dense index and its snapshots. The results are also written to benchmarks/results."""
    found = run(vectors, storage)
    output.publish(f"million-{storage}", found, tables_of(found))


if __name__ == "__main__":
    main()
