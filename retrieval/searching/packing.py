"""Small chunks for matching, their surroundings for reading: an answer packed to a budget of tokens. Pure.

First the hits are taken in order, as far as they fit. The first that does not is cut to what is left, if that is a sentence
or more: measured, the beginning of the next hit is worth more than the surroundings of the ones before it. Otherwise hits
that do not fit are passed over, and what is left of the budget widens those that were taken: in order, again and again,
each by the chunk next to it in its section, after it and before it by turns. Hits and neighbours that touch become one
passage, so that no text is given twice; a cut hit stands alone. A passage is a contiguous range of one section, and stands
where its best hit stood.

The best hit is always in the answer: if it alone is above the budget, its beginning is, however short. Costs are
`shared.tokens` estimates, as everywhere a budget is spent. A merged passage never costs more than its parts and the white
space between them, so the budget that was kept part by part is kept by the whole.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from shared.tokens import estimate_tokens

# A sentence or two: less of a hit tells nothing.
CUT_TOKENS_MIN: Final = 32

# (document, ordinal): the n-th chunk of a document.
Place = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A chunk as packing sees it. `cost` is in tokens, with what it is read with."""

    chunk_id: int
    document: int
    ordinal: int
    start: int
    end: int
    section: str
    cost: int

    @property
    def place(self) -> Place:
        return self.document, self.ordinal


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """`hits` are the chunks that were found, best first, and `first` is the chunk that it begins with. With `tokens_max` the
    caller cuts it to so many (`beginning_within`): its text is not known here."""

    document: int
    start: int
    end: int
    first: Part
    hits: tuple[Part, ...]
    tokens_max: int | None = None


# Asked once, for the hits that were taken: parts of their documents around them.
Neighbours = Callable[[Sequence[Part]], Iterable[Part]]


def pack(found: Sequence[Part], budget: int, neighbours: Neighbours) -> list[Passage]:
    """Passages in the order of their best hits, within the budget together. At most the last one is to be cut."""
    hits, left, cut = _taken(found, budget)
    if cut is not None:
        alone = replace(_passage([cut], {cut.place: cut}), tokens_max=left)
        return [*_merged(hits, {hit.place: hit for hit in hits}), alone]
    around = {part.place: part for part in neighbours(hits)} if hits and left > 0 else {}
    return _merged(hits, _widened(hits, around, left))


def beginning_within(text: str, budget: int) -> str:
    """As much of the beginning as the budget allows, to the last white space where there is one."""
    if estimate_tokens(text) <= budget:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if estimate_tokens(text[:middle]) <= budget else (low, middle - 1)
    space = next((at for at in range(low, 0, -1) if text[at].isspace()), low)
    return text[:space].rstrip() or text[:low]


def _taken(found: Sequence[Part], budget: int) -> tuple[list[Part], int, Part | None]:
    """The hits that fit, what they leave of the budget, and the hit to be cut to it."""
    chosen: dict[Place, Part] = {}
    for part in found:
        cost = _cost(part, chosen)
        if cost <= budget:
            chosen[part.place] = part
            budget -= cost
        elif not chosen or (budget >= CUT_TOKENS_MIN and not _overlaps(part, chosen)):
            return list(chosen.values()), budget, part
    return list(chosen.values()), budget, None


def _overlaps(part: Part, chosen: dict[Place, Part]) -> bool:
    """Only whole chunks are merged, so one that repeats text of its neighbour must not stand cut beside it."""
    beside = (chosen.get((part.document, part.ordinal + step)) for step in (-1, 1))
    return any(other is not None and other.start < part.end and part.start < other.end for other in beside)


def _widened(hits: Sequence[Part], around: dict[Place, Part], budget: int) -> dict[Place, Part]:
    """The hits and what the budget adds to them."""
    chosen = {hit.place: hit for hit in hits}
    # A side is given up where the section ends or what comes next does not fit.
    sides = deque((hit, step) for step in (1, -1) for hit in hits)
    while sides:
        hit, step = sides.popleft()
        part = _next(hit, step, chosen, around)
        if part is not None and (cost := _cost(part, chosen)) <= budget:
            chosen[part.place] = part
            budget -= cost
            sides.append((hit, step))
    return chosen


def _cost(part: Part, chosen: dict[Place, Part]) -> int:
    """With the white space to chosen parts that it touches: a token for each character is more than any costs."""
    before, after = (chosen.get((part.document, part.ordinal + step)) for step in (-1, 1))
    gaps = 0
    if before is not None and before.section == part.section:
        gaps += max(0, part.start - before.end)
    if after is not None and after.section == part.section:
        gaps += max(0, after.start - part.end)
    return part.cost + gaps


def _next(hit: Part, step: int, chosen: dict[Place, Part], around: dict[Place, Part]) -> Part | None:
    ordinal = hit.ordinal + step
    while (hit.document, ordinal) in chosen and chosen[hit.document, ordinal].section == hit.section:
        ordinal += step
    part = around.get((hit.document, ordinal))
    return part if part is not None and part.section == hit.section else None


def _merged(hits: Sequence[Part], chosen: dict[Place, Part]) -> list[Passage]:
    passages, done = [], set[Place]()
    for hit in hits:
        if hit.place in done:
            continue
        run = _run(hit, chosen)
        done |= run.keys()
        passages.append(_passage([each for each in hits if each.place in run], run))
    return passages


def _run(hit: Part, chosen: dict[Place, Part]) -> dict[Place, Part]:
    """The chosen parts that touch the hit, over others, in its section."""
    run = {hit.place: hit}
    for step in (1, -1):
        ordinal = hit.ordinal + step
        while (part := chosen.get((hit.document, ordinal))) is not None and part.section == hit.section:
            run[part.place] = part
            ordinal += step
    return run


def _passage(hits: Sequence[Part], run: dict[Place, Part]) -> Passage:
    first, last = run[min(run)], run[max(run)]
    return Passage(document=first.document, start=first.start, end=last.end, first=first, hits=tuple(hits))
