"""The time line of one key: at every moment at most one of its facts holds. Pure.

A new fact takes the time from its beginning on, up to where the next one begins, out of the fact that held then. So a late
fact about an earlier time ends no newer one, and the order in which facts come does not matter. What is withdrawn, as if it
had never been said, gives its time back to the fact that it took it from. What is erased leaves a gap: that something else was
said is no longer known, but neither does an older value come back as if it were true again.

Rejected: computing all validities anew from the facts that are left. It brings older values back on erasing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """A fact's place: it holds from `since` until `until`, exclusive, which is when `replaced_by` took over.

    Times are texts that sort as they do. One that ends when it begins never holds. An end without `replaced_by` was made
    by a fact that is erased.
    """

    id: int
    since: str
    until: str | None = None
    replaced_by: int | None = None

    @property
    def is_empty(self) -> bool:
        return self.until == self.since


def placed(line: Sequence[Validity], new: Validity) -> list[Validity]:
    """What changes when a fact comes to the line: its own validity first, and that of the fact that it ends, if any.

    Of two that begin at the same time the one with the higher id holds.
    """
    before = [each for each in line if (each.since, each.id) < (new.since, new.id)]
    after = [each for each in line if (each.since, each.id) > (new.since, new.id)]
    previous = max(before, key=_order, default=None)
    following = min(after, key=_order, default=None)
    until = following.since if following else None
    if previous is None or not _gives_way(previous, new.since, following):
        return [replace(new, until=until, replaced_by=following.id if following else None)]
    if previous.replaced_by is None and previous.until is not None:
        until, following = previous.until, None
    return [
        replace(new, until=until, replaced_by=following.id if following else None),
        replace(previous, until=new.since, replaced_by=new.id),
    ]


def withdrawn(line: Sequence[Validity], gone: Validity) -> list[Validity]:
    """What changes when a fact was never true: the one that it ended holds for its time."""
    return [
        replace(each, until=gone.until, replaced_by=gone.replaced_by) for each in line if each.replaced_by == gone.id
    ]


def erased(line: Sequence[Validity], gone: Validity) -> list[Validity]:
    """What changes when a fact is erased: the one that it ended stays ended, and names it no more."""
    if gone.is_empty:
        return withdrawn(line, gone)
    return [replace(each, replaced_by=None) for each in line if each.replaced_by == gone.id]


def line_problems(line: Sequence[Validity]) -> list[str]:
    """What is wrong with a key's active facts; empty when sound."""
    ordered = sorted(line, key=_order)
    known = {each.id: each for each in ordered}
    problems = [f"fact {each.id} ends before it begins" for each in ordered if each.until and each.until < each.since]
    problems += [
        f"facts {before.id} and {after.id} hold at the same time"
        for before, after in pairwise(ordered)
        if before.until is None or before.until > after.since
    ]
    problems += [
        f"fact {each.id} is replaced by one that does not begin when it ends"
        for each in ordered
        if each.replaced_by is not None
        and (each.replaced_by not in known or known[each.replaced_by].since != each.until)
    ]
    return problems


def _gives_way(previous: Validity, since: str, following: Validity | None) -> bool:
    """Holds at `since`, or would have if another had not begun at the same time."""
    if previous.until is None or previous.until > since:
        return True
    return following is not None and previous.replaced_by == following.id


def _order(each: Validity) -> tuple[str, int]:
    return each.since, each.id
