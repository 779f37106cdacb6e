"""The file that a run is kept in."""

from pathlib import Path

import pytest

from diptych.evaluation.results import DatasetInfo, QueryResult, make_result, read_result, write_result
from shared.errors import SettingsError

QUERIES = [
    QueryResult(id="a", category="one", scores={"m": 0.25, "n": 1 / 3}, tokens=10, latency_ms=1.23456),
    QueryResult(id="b", category="two", scores={"m": 0.75}, tokens=20),
    QueryResult(id="c", category="one", scores={"m": 0.5}, latency_ms=3.0),
]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = make_result(
        kind="memory",
        label="l",
        dataset=DatasetInfo(name="d", sha256="s", counts={"questions": 3}),
        settings={"kinds": ("turn",)},
        services=[],
        queries=QUERIES,
    )
    path = tmp_path / "new" / "result.json"
    write_result(path, made)

    assert read_result(path) == made
    assert {metric: found.mean for metric, found in made.overall.items()} == {
        "m": 0.5,
        "n": pytest.approx(1 / 3, abs=1e-6),
    }
    assert {name: found["m"].mean for name, found in made.categories.items()} == {"one": 0.375, "two": 0.75}
    assert made.scores("n") == {"a": pytest.approx(1 / 3, abs=1e-6)}
    assert made.latency is not None
    assert made.latency.count == 2
    assert made.latency.p50 == pytest.approx(2.115, abs=0.01)
    assert made.tokens is not None
    assert made.tokens.mean == 15
    # A line for each query.
    assert sum('"id"' in line for line in path.read_text().splitlines()) == 3


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(SettingsError, match="is missing"):
        read_result(path)
    path.write_text('{"kind": "retrieval"}')
    with pytest.raises(SettingsError, match="is not a result of `diptych eval`"):
        read_result(path)


def test_nothing_to_ask_is_no_result() -> None:
    with pytest.raises(SettingsError, match="the dataset d has nothing to ask"):
        make_result(
            kind="memory",
            label="l",
            dataset=DatasetInfo(name="d", sha256="s", counts={}),
            settings={},
            services=[],
            queries=[],
        )
