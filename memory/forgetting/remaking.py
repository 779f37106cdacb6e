"""Which spans are made anew when turns are erased, and which go. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memory.compaction.coverage import Covered


@dataclass(frozen=True, slots=True)
class Remakes:
    """Ids of spans. Those in `remade` come after the ones that they stand for, so that they can be made in this order."""

    remade: list[int]
    gone: list[int]


def plan_remakes(spans: Iterable[tuple[Covered, int]], erased: Sequence[int]) -> Remakes:
    """`spans` of one session with how many turns each stands for, and the numbers of the turns that go, in order.

    A span of level 0 is made anew when some of its turns go, a higher one when some of the spans that it stands for change; it
    goes itself when all of them do.
    """
    remade: list[int] = []
    gone: list[int] = []
    children: dict[int | None, list[int]] = {}
    touched: set[int] = set()
    ordered = sorted(spans, key=lambda each: (each[0].level, each[0].first_seq))
    for span, turns in ordered:
        children.setdefault(span.parent, []).append(span.id)
        if span.level == 0:
            hit = bisect_right(erased, span.last_seq) - bisect_left(erased, span.first_seq)
            is_touched, is_empty = hit > 0, hit == turns
        else:
            below = children.get(span.id, [])
            is_touched, is_empty = not touched.isdisjoint(below), set(gone).issuperset(below)
        if is_touched:
            touched.add(span.id)
            (gone if is_empty else remade).append(span.id)
    return Remakes(remade, gone)
