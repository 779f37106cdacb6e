"""Changes are written with their sign, and stand out where chance hardly gives as much."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.ablation_numbers import details, probability, signed, summary
from benchmarks.measured import Measured
from shared.errors import SettingsError


def row(part: str, value: float, *, p: float | None = None, **given: Any) -> dict[str, Any]:
    found = {"group": "legs", "part": part, "scores": {"m": value}, **given}
    if p is not None:
        found |= {"base": "as it is", "change": {"mean": -0.1, "low": -0.2, "high": 0.0, "p": p}} | given
    return found


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    sets = [
        {
            "name": "one",
            "metric": "m",
            "rows": [
                row("as it is", 0.5, group="", tokens=1234.0),
                row("words", 0.4, p=0.01),
                row("x", 0.4, p=0.5, base="words"),
            ],
        },
        {"name": "two", "metric": "m", "rows": [row("as it is", 0.6, group=""), row("words", 0.5, p=0.2)]},
    ]
    folder = tmp_path / "evals" / "results"
    folder.mkdir(parents=True)
    (folder / "ablation-memory.json").write_bytes(msgspec.json.encode({"sets": sets}))
    return Measured(tmp_path)


def test_a_part_that_one_set_does_not_have_is_left_empty_there(measured: Measured) -> None:
    assert summary("memory", ("one", "two"), measured).splitlines() == [
        "| part | asked so | beside | one | two |",
        "| --- | --- | --- | --- | --- |",
        "| | as it is | | **.500** | **.600** |",
        "| legs | words | | **-.100** | -.100 |",
        "| legs | x | words | -.100 | |",
    ]


def test_a_set_has_its_intervals_and_what_is_read(measured: Measured) -> None:
    lines = [" ".join(line.split()) for line in details("memory", "one", measured).splitlines()]
    assert lines[2:] == [
        "| **as it is** | .500 | | | | 1,234 |",
        "| legs: words | .400 | -.100 | -.200 to .000 | .010 | |",
        "| legs: x | .400 | -.100 | -.200 to .000 | .500 | |",
    ]


def test_an_ablation_that_was_never_run_is_named(measured: Measured) -> None:
    with pytest.raises(SettingsError, match=r"ablation-retrieval\.json is missing"):
        summary("retrieval", ("one",), measured)


def test_signs_and_probabilities() -> None:
    assert [signed(value) for value in (0.0, -0.0004, 0.0416, -0.5, 1.0)] == [
        ".000",
        ".000",
        "+.042",
        "-.500",
        "+1.000",
    ]
    assert [probability(value) for value in (0.0002, 0.0127, 1.0)] == ["< .001", ".013", "1.000"]
