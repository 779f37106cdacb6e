"""How the dense leg holds up with many vectors: `python -m benchmarks.million --vectors 1000000`.

The index is the service's own `DenseIndex` with its snapshots, called directly: embedding and storing a million texts would
take hours and measure other things. Vectors are made: a mixture of 3,000 centres of unequal weight, with a falling spectrum
and a spread that give the neighbours the similarities that all-MiniLM-L6-v2 gives those of real texts (the nearest about .75,
the tenth .65). Uniform noise would have no neighbours to find. Queries are drawn like the vectors, and are not among them.

Printed: time to take the vectors in, to build the lists, searches meanwhile, recall of the ten nearest against a plain scan,
percentiles of one search with 100 candidates, filters, resident memory, the snapshot, and a restart from it.
"""

import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from retrieval.dense import DenseIndex
from retrieval.dense_files import load, save
from retrieval.dense_plan import VectorStorage
from retrieval.records import VectorChanges
from retrieval.tending import lower_priority
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


def percentiles(times_s: list[float]) -> dict[str, float]:
    return {
        name: round(float(np.percentile(times_s, share)) * 1000, 3)
        for name, share in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99))
    }


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


def build(index: DenseIndex, queries: Float32Array) -> dict[str, Any]:
    """As the service builds: in a thread of low priority, while searches go on."""

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
    return {"build_s": round(time.perf_counter() - started, 1), "searches_meanwhile": percentiles(times_s)}


def exact(index: DenseIndex, query: Float32Array, ids: NDArray[np.int64]) -> set[int]:
    scores = index.score(query, ids)
    return set(sorted(scores, key=lambda chunk_id: -scores[chunk_id])[:NEAREST])


def measure(index: DenseIndex, queries: Float32Array, allowed: NDArray[np.int64] | None) -> dict[str, Any]:
    ids = np.arange(1, len(index) + 1, dtype=np.int64) if allowed is None else allowed
    found, times_s = 0, list[float]()
    for query in queries:
        started = time.perf_counter()
        hits = index.search(query, CANDIDATES, allowed)
        times_s.append(time.perf_counter() - started)
        found += len(set(list(hits)[:NEAREST]) & exact(index, query, ids))
    return {
        "plan": index.plan(None if allowed is None else len(allowed)),
        "recall_at_10": round(found / (len(queries) * min(NEAREST, len(ids))), 4),
        **percentiles(times_s),
    }


def restart(directory: Path, storage: VectorStorage, query: Float32Array) -> float:
    started = time.perf_counter()
    index = DenseIndex(DIMENSIONS, storage=storage)
    load(directory, index, "made")
    index.search(query, CANDIDATES)
    return time.perf_counter() - started


def run(count: int, storage: VectorStorage) -> dict[str, Any]:
    queries = make_vectors(QUERIES, seed=0)
    before_mib = resident_mib()
    index = DenseIndex(DIMENSIONS, storage=storage)
    result: dict[str, Any] = {
        "vectors": count,
        "storage": storage,
        "take_in_s": round(timed(lambda: fill(index, count)), 1),
    }
    result |= build(index, queries)
    lists = index.state.lists
    result |= {"lists": lists and len(lists.centroids), "probes": lists and lists.probes}
    result["resident_mib"] = round(resident_mib() - before_mib)
    dice = np.random.default_rng(5)
    result["unfiltered"] = measure(index, queries, None)
    for share in SHARES:
        allowed = np.sort(dice.choice(count, round(share * count), replace=False)).astype(np.int64) + 1
        result[f"filter_keeps_{share:g}"] = measure(index, queries, allowed)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        result["snapshot_s"] = round(timed(lambda: save(directory, index, "made")), 2)
        result["snapshot_mib"] = round(sum(file.stat().st_size for file in directory.iterdir()) / 2**20)
        result["restart_to_first_answer_s"] = round(restart(directory, storage, queries[0]), 2)
    return result


@click.command()
@click.option("--vectors", default=1_000_000, show_default=True, type=click.IntRange(1000))
@click.option("--storage", default="float32", show_default=True, type=click.Choice(["float32", "float16"]))
def main(vectors: int, storage: VectorStorage) -> None:
    """Measure the dense index and its snapshots, and print one JSON document."""
    click.echo(json.dumps(run(vectors, storage), indent=2))


if __name__ == "__main__":
    main()
