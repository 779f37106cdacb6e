"""The dense index under everything that happens to it at once, beside a plain scan of a dictionary."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.dense_files import FORMAT, BadSnapshot, load, problems, save
from retrieval.indexes.dense_plan import choose_plan, choose_upkeep
from retrieval.indexes.kernels import Int64Array
from retrieval.truth.records import VectorChanges, VectorStorage
from shared.vectors import Float32Array

pytestmark = pytest.mark.blocking
DIMENSIONS = 8
EXACT_MAX = 50
MODEL = "hash"


def unit_vectors(count: int, seed: int, dimensions: int = DIMENSIONS) -> Float32Array:
    vectors = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / norms


def filled(count: int, *, seed: int = 1, storage: VectorStorage = "float32") -> tuple[DenseIndex, Float32Array]:
    index, vectors = DenseIndex(DIMENSIONS, storage=storage, exact_chunks_max=EXACT_MAX), unit_vectors(count, seed)
    index.apply(VectorChanges(1, list(range(count)), vectors, []))
    return index, vectors


def keep_up(index: DenseIndex) -> None:
    for _ in range(10):
        if index.upkeep() is None:
            return
    raise AssertionError("upkeep does not end")


def nearest(vectors: Float32Array, ids: Int64Array, query: Float32Array, limit: int) -> list[int]:
    found: list[int] = ids[np.argsort(-(vectors[ids] @ query))[:limit]].tolist()
    return found


class DenseMachine(RuleBasedStateMachine):
    """Changes, upkeep, snapshots and restarts in any order. An oracle is a dictionary, and what a snapshot holds a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.oracle: dict[int, Float32Array] = {}
        self.history: list[VectorChanges] = []
        self.steps = 0

    @initialize(storage=st.sampled_from(["float32", "float16"]))
    def start(self, storage: VectorStorage) -> None:
        self.storage = storage
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name) / "1"
        self.index = self.empty()

    def empty(self) -> DenseIndex:
        return DenseIndex(DIMENSIONS, storage=self.storage, exact_chunks_max=EXACT_MAX)

    @rule(start=st.integers(0, 150), count=st.integers(0, 80), removed=st.sets(st.integers(0, 200), max_size=40))
    def change(self, start: int, count: int, removed: set[int]) -> None:
        self.steps += 1
        added = list(range(start, start + count))
        vectors = unit_vectors(count, self.steps) if count else np.empty((0, 0), dtype=np.float32)
        changes = VectorChanges(self.steps, added, vectors, sorted(removed - set(added)))
        self.index.apply(changes)
        self.history.append(changes)
        for chunk_id in changes.removed_ids:
            self.oracle.pop(chunk_id, None)
        self.oracle.update(zip(added, vectors, strict=True))

    @precondition(lambda self: self.history)
    @rule()
    def apply_again(self) -> None:
        self.index.apply(self.history[-1])

    @rule()
    def upkeep(self) -> None:
        self.index.upkeep()

    @rule()
    def keep_up(self) -> None:
        keep_up(self.index)

    @rule()
    def snapshot(self) -> None:
        save(self.directory, self.index, MODEL)
        assert problems(self.directory) == []

    @rule()
    def restart(self) -> None:
        self.index = self.empty()
        load(self.directory, self.index, MODEL)
        for changes in self.history:
            if changes.sequence > self.index.sequence:
                self.index.apply(changes)

    @rule(seed=st.integers(0, 99), limit=st.integers(1, 30), share=st.sampled_from([1.0, 0.5, 0.1]))
    def search(self, seed: int, limit: int, share: float) -> None:
        query = unit_vectors(1, seed)[0]
        wanted = np.flatnonzero(np.random.default_rng(seed).random(300) < share).astype(np.int64)
        allowed = [chunk_id for chunk_id in wanted.tolist() if chunk_id in self.oracle]
        found = self.index.search(query, limit, wanted)
        assert len(found) == min(limit, len(allowed))
        assert found.keys() <= set(allowed)
        self.agree(query, found)
        unfiltered = self.index.search(query, limit)
        assert len(unfiltered) == min(limit, len(self.oracle))
        self.agree(query, unfiltered)
        # What is scanned whole is exact; small subsets always are.
        expected = sorted(allowed, key=lambda chunk_id: -float(self.oracle[chunk_id] @ query))[:limit]
        assert sorted(self.rounded(query, found)) == sorted(self.rounded(query, expected))

    def rounded(self, query: Float32Array, ids: list[int] | dict[int, float]) -> list[float]:
        return [round(float(self.oracle[chunk_id] @ query), 1) for chunk_id in ids]

    def agree(self, query: Float32Array, found: dict[int, float]) -> None:
        error = 1e-5 if self.storage == "float32" else 2e-3
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert list(found.values()) == pytest.approx([float(self.oracle[key] @ query) for key in found], abs=error)
        scored = self.index.score(query, np.asarray([*found, 9999], dtype=np.int64))
        assert scored == pytest.approx(found, abs=1e-6)

    @invariant()
    def holds_what_the_oracle_holds(self) -> None:
        if not hasattr(self, "index"):
            return
        assert self.index.ids() == self.oracle.keys()
        assert (len(self.index), self.index.sequence) == (len(self.oracle), self.steps)
        if self.oracle:
            stored = self.index.vectors(list(self.oracle))
            dtype = np.dtype(self.storage)
            assert (stored == np.stack(list(self.oracle.values())).astype(dtype).astype(np.float32)).all()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestDenseMachine = DenseMachine.TestCase
TestDenseMachine.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_lists_find_what_a_scan_finds(storage: VectorStorage) -> None:
    index, vectors = filled(3000, storage=storage)
    keep_up(index)
    assert index.plan() == "approximate"

    queries, everything = unit_vectors(50, 2), np.arange(3000)
    hits = sum(len(index.search(query, 10).keys() & set(nearest(vectors, everything, query, 10))) for query in queries)

    assert hits >= 0.95 * 500


def rows_side_by_side(index: DenseIndex) -> int:
    """How many rows, from the first on, stand in the order of the lists."""
    lists = index.state.lists
    assert lists is not None
    return int(np.cumprod(lists.members == np.arange(len(lists.members))).sum())


def test_rows_of_a_list_stand_side_by_side_when_it_is_made_and_after_a_restart(tmp_path: Path) -> None:
    index, vectors = filled(3000)
    keep_up(index)
    assert rows_side_by_side(index) == 3000

    index.apply(VectorChanges(2, list(range(3000, 4200)), vectors[:1200], list(range(1500))))
    keep_up(index)
    assert rows_side_by_side(index) == 2700

    save(tmp_path, index, MODEL)
    again = DenseIndex(DIMENSIONS, exact_chunks_max=EXACT_MAX)
    load(tmp_path, again, MODEL)
    assert rows_side_by_side(again) == 2700
    assert (again.vectors([2999, 4199]) == vectors[[2999, 1199]]).all()


def test_a_large_filter_goes_through_the_lists_and_still_finds_the_nearest() -> None:
    count = 60_000
    index, vectors = filled(count)
    keep_up(index)
    allowed = np.arange(0, count, 2)
    assert index.plan(len(allowed)) == "approximate_filtered"

    hits = 0
    for query in unit_vectors(20, 2):
        found = index.search(query, 10, allowed)
        assert all(chunk_id % 2 == 0 for chunk_id in found)
        hits += len(found.keys() & set(nearest(vectors, allowed, query, 10)))

    assert hits >= 0.95 * 200


def test_a_new_write_is_found_at_once_beside_lists_and_a_removed_one_never() -> None:
    index, vectors = filled(200)
    keep_up(index)

    index.apply(VectorChanges(2, [900], vectors[:1], [0]))

    assert next(iter(index.search(vectors[0], 1))) == 900
    assert 0 not in index.search(vectors[0], 200)


def test_searches_and_writes_go_on_while_lists_are_built() -> None:
    index, vectors = filled(400)
    stop, wrong = threading.Event(), list[object]()

    def search() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            found = index.search(vectors[number % 400], 1)
            if next(iter(found)) % 400 != number % 400:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    # Each round gives every vector a new id and takes the old one away, so each step of upkeep falls between changes.
    writer = threading.Thread(target=_renumber, args=(index, vectors, 30))
    writer.start()
    while writer.is_alive():
        index.upkeep()
    keep_up(index)
    stop.set()
    for thread in (writer, *threads):
        thread.join()

    assert wrong == []
    assert index.ids() == set(range(400 * 30, 400 * 31))
    assert (index.vectors(list(range(400 * 30, 400 * 31))) == vectors).all()


def _renumber(index: DenseIndex, vectors: Float32Array, rounds: int) -> None:
    sequence = 1
    for step in range(rounds):
        for start in range(0, 400, 50):
            sequence += 1
            old = range(400 * step + start, 400 * step + start + 50)
            index.apply(
                VectorChanges(sequence, [number + 400 for number in old], vectors[start : start + 50], list(old))
            )


@pytest.mark.parametrize("damage", ["shorter", "longer", "flipped", "no vectors", "manifest", "foreign", "version"])
def test_a_snapshot_that_does_not_fit_its_manifest_is_refused(tmp_path: Path, damage: str) -> None:
    index, _ = filled(200)
    keep_up(index)
    save(tmp_path, index, MODEL)
    data = next(tmp_path.glob("*.vectors"))
    content = bytearray(data.read_bytes())
    manifest = tmp_path / "manifest.json"
    match damage:
        case "shorter":
            data.write_bytes(content[:-1])
        case "longer":
            data.write_bytes(content + b"x")
        case "flipped":
            content[len(content) // 2] ^= 1
            data.write_bytes(content)
        case "no vectors":
            data.unlink()
        case "manifest":
            manifest.write_bytes(manifest.read_bytes()[:-5])
        case "version":
            manifest.write_bytes(manifest.read_bytes().replace(b'"format":%d' % FORMAT, b'"format":0'))

    fresh = DenseIndex(DIMENSIONS)
    with pytest.raises(BadSnapshot):
        load(tmp_path, fresh, "other" if damage == "foreign" else MODEL)
    assert (len(fresh), fresh.sequence) == (0, 0)


def test_without_a_manifest_there_is_no_snapshot(tmp_path: Path) -> None:
    index, _ = filled(10)
    save(tmp_path, index, MODEL)
    (tmp_path / "manifest.json").unlink()

    assert load(tmp_path, DenseIndex(DIMENSIONS), MODEL) is None


def test_a_snapshot_brings_back_the_lists_and_takes_changes(tmp_path: Path) -> None:
    index, vectors = filled(300)
    keep_up(index)
    index.apply(VectorChanges(2, [300], vectors[:1], [1, 2]))
    save(tmp_path, index, MODEL)

    again = DenseIndex(DIMENSIONS, exact_chunks_max=EXACT_MAX)
    load(tmp_path, again, MODEL)
    assert (again.plan(), again.sequence, again.ids()) == ("approximate", 2, index.ids())
    again.apply(VectorChanges(3, [301], vectors[1:2], [0]))
    assert next(iter(again.search(vectors[1], 1))) == 301
    assert again.next_upkeep() is None


_WRITER = """
import sys
from pathlib import Path
from tests.retrieval.test_dense import MODEL, filled
from retrieval.indexes.dense_files import save
index, _ = filled(20_000)
save(Path(sys.argv[1]), index, MODEL)
print("ready", flush=True)
while True:
    save(Path(sys.argv[1]), index, MODEL)
"""


def test_a_kill_in_the_middle_of_writing_leaves_a_whole_snapshot(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ}
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(float(chance.uniform(0.0, 0.1)))
            process.send_signal(signal.SIGKILL)

        again = DenseIndex(DIMENSIONS)
        load(tmp_path, again, MODEL)
        assert len(again) == 20_000
        save(tmp_path, again, MODEL)
        assert len(list(tmp_path.iterdir())) == 2


def test_small_subsets_are_scanned_and_large_ones_are_not() -> None:
    def plan(chunks: int, allowed: int | None) -> str:
        return choose_plan(chunks=chunks, allowed=allowed, has_lists=chunks > 50_000)

    assert [plan(50_000, None), plan(50_000, 40_000), plan(1_000_000, None)] == ["exact", "exact_subset", "approximate"]
    assert [plan(60_000, 20_000), plan(60_000, 20_001)] == ["exact_subset", "approximate_filtered"]
    assert [plan(1_000_000, 100_000), plan(1_000_000, 100_001)] == ["exact_subset", "approximate_filtered"]


def test_upkeep_is_due_when_its_bounds_are_passed_and_then_done() -> None:
    def due(living: int, *, dead: int = 0, tail: int = 0, trained: int | None = 100_000) -> str | None:
        return choose_upkeep(living=living, dead=dead, tail=tail, trained=trained, exact_chunks_max=50_000)

    assert [due(50_000, trained=None), due(50_001, trained=None)] == [None, "train"]
    assert [due(100_000, tail=5_000), due(100_000, tail=5_001)] == [None, "fold"]
    assert [due(1_000_000, tail=20_000, trained=600_000), due(1_000_000, tail=20_001, trained=600_000)] == [
        None,
        "fold",
    ]
    assert [due(80_000, dead=20_000), due(80_000, dead=20_001)] == [None, "compact"]
    assert [due(200_000), due(200_001)] == [None, "train"]
    assert [due(25_001), due(25_000)] == [None, "flatten"]
