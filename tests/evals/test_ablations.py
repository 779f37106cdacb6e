"""A part is compared with what it was left out of, over the same questions."""

import pytest

from evals.ablations import DEFAULT, Measurement, rows_of


def measured(part: str, *values: float, base: str = DEFAULT, tokens: float | None = None) -> Measurement:
    scores = {str(number): {"m": value, "other": 1.0} for number, value in enumerate(values)}
    return Measurement(group="g", part=part, scores=scores, base=base, tokens=tokens)


def test_the_default_is_compared_with_nothing() -> None:
    (row,) = rows_of([measured(DEFAULT, 1.0, 0.0, tokens=12.34)], metric="m", shown=("m", "other"))

    assert (row.scores, row.base, row.change, row.tokens) == ({"m": 0.5, "other": 1.0}, None, None, 12.3)


def test_a_row_says_how_far_it_is_from_its_base_and_what_chance_gives() -> None:
    values = [0.1 * (number % 5) for number in range(40)]
    rows = rows_of(
        [
            measured(DEFAULT, *values),
            measured("without", *(value - 0.1 for value in values)),
            measured("again", *(value - 0.1 for value in values), base="without"),
        ],
        metric="m",
        shown=("m",),
    )

    without, again = rows[1].change, rows[2].change
    assert without is not None
    assert again is not None
    assert (rows[1].base, without.mean, without.low, without.high) == (DEFAULT, -0.1, -0.1, -0.1)
    assert without.p < 0.001
    assert (rows[2].base, again.mean, again.p) == ("without", 0.0, 1.0)


def test_what_was_asked_other_questions_is_not_compared() -> None:
    with pytest.raises(ValueError, match="same questions"):
        rows_of([measured(DEFAULT, 1.0, 1.0), measured("without", 1.0)], metric="m", shown=("m",))
    with pytest.raises(ValueError, match="cannot be compared with 'nothing'"):
        rows_of([measured("without", 1.0, base="nothing")], metric="m", shown=("m",))
