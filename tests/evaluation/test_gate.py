"""What a comparison says of two results, without a service."""

import msgspec
import pytest

from diptych.evaluation.gate import compare
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from shared.errors import SettingsError
from shared.messages import Info

DATASET = DatasetInfo(name="set", sha256="0" * 64, counts={})


def result(*scores: float, metric: str = "nDCG@10", label: str = "run", model: str = "m") -> Result:
    return make_result(
        kind="retrieval",
        label=label,
        dataset=DATASET,
        settings={"search": {"mode": label}, "depths": (10,)},
        services=[Info(service="retrieval", version="1", protocol="v1", details={"model": model})],
        queries=[
            QueryResult(id=f"q{number}", category="odd" if number % 2 else "even", scores={metric: score})
            for number, score in enumerate(scores)
        ],
    )


def test_a_fall_beyond_the_tolerance_is_worse_with_each_query_that_fell() -> None:
    comparison = compare(result(1.0, 0.8, 0.2, 0.5), result(0.1, 0.6, 0.9, 0.5), tolerance=0.05)

    (change,) = comparison.worse
    assert change.difference.difference.mean == pytest.approx(-0.1)
    assert [(each.id, each.category, each.before, each.after) for each in change.fell] == [
        ("q0", "even", 1.0, 0.1),
        ("q1", "odd", 0.8, 0.6),
    ]
    assert (change.difference.better, change.difference.worse) == (1, 2)


@pytest.mark.parametrize(("after", "is_worse"), [(0.49, False), (0.4899, True), (0.6, False)])
def test_a_fall_of_just_the_tolerance_passes(after: float, is_worse: bool) -> None:  # noqa: FBT001 - a case
    comparison = compare(result(0.5, 0.5, 0.5), result(after, after, after), tolerance=0.01)

    assert bool(comparison.worse) is is_worse


def test_settings_that_differ_are_named() -> None:
    comparison = compare(result(0.5, label="hybrid"), result(0.5, label="dense", model="n"))

    assert (comparison.before, comparison.after) == ("hybrid", "dense")
    assert comparison.settings == {"search.mode": ("hybrid", "dense"), "retrieval.model": ("m", "n")}


def test_what_does_not_compare_is_refused() -> None:
    good = result(0.5, 0.6)
    elsewhere = msgspec.structs.replace(good, dataset=msgspec.structs.replace(DATASET, sha256="1" * 64))

    with pytest.raises(SettingsError, match=r"made over set \(111111111111\), and this is set \(000000000000\)"):
        compare(elsewhere, good)
    with pytest.raises(SettingsError, match="has the metrics MRR@10, and this run nDCG@10"):
        compare(result(0.5, 0.6, metric="MRR@10"), good)
    with pytest.raises(SettingsError, match="of `diptych eval memory`, and this is retrieval"):
        compare(msgspec.structs.replace(good, kind="memory"), good)
    with pytest.raises(SettingsError, match=r"not the same queries have nDCG@10"):
        compare(result(0.5), good)
