"""The check of the invariant sees every way to break it."""

import pytest

from memory.compaction.coverage import Covered, coverage_problems


def span(key: int, level: int, first_seq: int, last_seq: int, parent: int | None = None) -> Covered:
    return Covered(id=key, level=level, first_seq=first_seq, last_seq=last_seq, parent=parent)


SOUND = [span(1, 0, 1, 4, 9), span(2, 0, 5, 5, 9), span(9, 1, 1, 5), span(3, 0, 6, 8)]


def test_what_tiles_is_sound() -> None:
    assert coverage_problems(SOUND, 9) == []
    assert coverage_problems([], 1) == []


@pytest.mark.parametrize(
    ("spans", "tail_from", "problem"),
    [
        (SOUND, 10, "level 0 reaches turn 8, and the tail begins at 10"),
        (SOUND, 8, "level 0 reaches turn 8, and the tail begins at 8"),
        ([], 2, "level 0 reaches turn 0, and the tail begins at 2"),
        ([span(1, 0, 2, 4)], 5, "level 0 begins at turn 2"),
        ([span(1, 0, 1, 4), span(2, 0, 6, 8)], 9, "level 0: after turn 4 comes turn 6"),
        ([span(1, 0, 1, 4), span(2, 0, 4, 8)], 9, "level 0: after turn 4 comes turn 4"),
        (
            [span(1, 0, 1, 4, 9), span(2, 0, 5, 8, 9), span(9, 1, 1, 5)],
            9,
            "span 9 does not stand for the spans below it",
        ),
        ([span(1, 0, 1, 4), span(9, 1, 1, 4)], 5, "span 9 does not stand for the spans below it"),
        ([span(1, 0, 1, 4, 7)], 5, "span 1 stands in a span that is not there"),
        ([span(1, 0, 1, 4, 9), span(2, 0, 5, 6), span(3, 0, 7, 8, 9), span(9, 1, 1, 8)], 9, "span 9 does not stand"),
    ],
)
def test_each_fault_is_named(spans: list[Covered], tail_from: int, problem: str) -> None:
    assert any(found.startswith(problem) for found in coverage_problems(spans, tail_from))
