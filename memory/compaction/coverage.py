"""The invariant of compaction, checked: nothing is lost, nothing stands twice. Pure.

Every turn is in the tail or in exactly one span of level 0, and the spans of a level tile a beginning of the level below.
Numbers of turns that were erased are the only ones that may be missing: a span whose turns are all gone is gone with them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from memory.truth.ranges import NONE, Ranges


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A span's place among the others. `parent` is the id of the span above it, None for one that stands in none."""

    id: int
    level: int
    first_seq: int
    last_seq: int
    parent: int | None


def coverage_problems(spans: Iterable[Covered], tail_from: int, erased: Ranges = NONE) -> list[str]:
    """What is wrong with the spans of one session whose tail begins at `tail_from`; empty when sound."""
    ordered = sorted(spans, key=lambda span: (span.level, span.first_seq, span.last_seq))
    levels = {level: list(group) for level, group in groupby(ordered, key=lambda span: span.level)}
    problems: list[str] = []
    covered = tail_from - 1
    for level in range(max(levels, default=0) + 1):
        here = levels.get(level, [])
        reached = here[-1].last_seq if here else 0
        if level == 0 and not (reached <= covered and erased.holds(reached + 1, covered)):
            problems.append(f"level 0 reaches turn {reached}, and the tail begins at {tail_from}")
        problems += _tiling_problems(here, level, erased)
        problems += _parent_problems(here, levels.get(level + 1, []))
    return problems


def _tiling_problems(spans: Sequence[Covered], level: int, erased: Ranges) -> list[str]:
    found = [
        f"level {level} begins at turn {span.first_seq}"
        for span in spans[:1]
        if span.first_seq < 1 or not erased.holds(1, span.first_seq - 1)
    ]
    found += [f"span {span.id} ends before it begins" for span in spans if span.last_seq < span.first_seq]
    return found + [
        f"level {level}: after turn {before.last_seq} comes turn {after.first_seq}"
        for before, after in pairwise(spans)
        if after.first_seq <= before.last_seq or not erased.holds(before.last_seq + 1, after.first_seq - 1)
    ]


def _parent_problems(children: Sequence[Covered], parents: Sequence[Covered]) -> list[str]:
    below: dict[int | None, list[Covered]] = {}
    for child in children:
        below.setdefault(child.parent, []).append(child)
    known = {parent.id for parent in parents}
    problems = [
        f"span {each[0].id} stands in a span that is not there"
        for key, each in below.items()
        if key and key not in known
    ]
    for parent in parents:
        inside = [child for child in children if parent.first_seq <= child.first_seq <= parent.last_seq]
        stood = below.get(parent.id, [])
        if (
            not stood
            or stood != inside
            or (stood[0].first_seq, stood[-1].last_seq) != (parent.first_seq, parent.last_seq)
        ):
            problems.append(f"span {parent.id} does not stand for the spans below it")
    return problems
