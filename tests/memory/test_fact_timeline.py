"""The time line of a key against a calendar that is painted day by day."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from memory.facts.timeline import Validity, erased, line_problems, placed, withdrawn

DAYS = 8


def holding(line: Sequence[Validity], moment: str) -> Validity | None:
    """The fact that holds at `moment`."""
    held = [each for each in line if each.since <= moment and (each.until is None or moment < each.until)]
    return held[0] if held else None


@dataclass(slots=True)
class Calendar:
    """Who holds on each day, and where each begins; nothing about intervals."""

    days: list[int | None] = field(default_factory=lambda: [None] * DAYS)
    begins: dict[int, int] = field(default_factory=dict)

    def paint(self, fact: int, day: int) -> None:
        """Over the fact that holds, until it ends or the next fact begins."""
        below = self.days[day]
        self.begins[fact] = day
        for each in range(day, DAYS):
            if self.days[each] != below or (each > day and each in self.begins.values()):
                break
            self.days[each] = fact

    def erase(self, fact: int) -> None:
        del self.begins[fact]
        self.days = [None if each == fact else each for each in self.days]


def line_of(facts: dict[int, Validity]) -> list[Validity]:
    return list(facts.values())


def calendar_of(facts: dict[int, Validity]) -> list[int | None]:
    held = [holding(line_of(facts), str(day)) for day in range(DAYS)]
    return [each.id if each else None for each in held]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("place"), st.integers(0, DAYS - 1)),
        st.tuples(st.just("erase"), st.integers(0, 20)),
    ),
    max_size=20,
)


@settings(max_examples=400, deadline=None)
@given(steps)
def test_any_order_of_facts_gives_the_calendar_that_painting_gives(steps: list[tuple[str, int]]) -> None:
    facts: dict[int, Validity] = {}
    calendar = Calendar()
    for number, (step, value) in enumerate(steps):
        if step == "place":
            facts |= {each.id: each for each in placed(line_of(facts), Validity(id=number, since=str(value)))}
            calendar.paint(number, value)
        elif facts:
            gone = facts.pop(sorted(facts)[value % len(facts)])
            facts |= {each.id: each for each in erased(line_of(facts), gone)}
            calendar.erase(gone.id)

        assert calendar_of(facts) == calendar.days
        assert line_problems(line_of(facts)) == []
        assert set(facts) == set(calendar.begins)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(0, DAYS - 1), max_size=8), st.data())
def test_what_is_withdrawn_was_never_there(days: list[int], data: st.DataObject) -> None:
    """Without gaps, the calendar depends on nothing but the facts that are left."""
    facts: dict[int, Validity] = {}
    for number, day in enumerate(days):
        facts |= {each.id: each for each in placed(line_of(facts), Validity(id=number, since=str(day)))}
    while facts:
        gone = facts.pop(data.draw(st.sampled_from(sorted(facts))))
        facts |= {each.id: each for each in withdrawn(line_of(facts), gone)}
        remade: dict[int, Validity] = {}
        for each in data.draw(st.permutations(line_of(facts))):
            remade |= {one.id: one for one in placed(line_of(remade), Validity(id=each.id, since=each.since))}

        assert facts == remade
        assert line_problems(line_of(facts)) == []


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, DAYS - 1))
def test_placing_and_withdrawing_changes_nothing(steps: list[tuple[str, int]], day: int) -> None:
    facts: dict[int, Validity] = {}
    for number, (step, value) in enumerate(steps):
        if step == "place":
            facts |= {each.id: each for each in placed(line_of(facts), Validity(id=number, since=str(value)))}
        elif facts:
            gone = facts.pop(sorted(facts)[value % len(facts)])
            facts |= {each.id: each for each in erased(line_of(facts), gone)}
    before = dict(facts)
    own, *others = placed(line_of(facts), Validity(id=99, since=str(day)))
    facts |= {each.id: each for each in others}
    facts |= {each.id: each for each in withdrawn(line_of(facts), own)}

    assert facts == before


def test_problems_are_found() -> None:
    both = [Validity(id=1, since="1"), Validity(id=2, since="2")]
    backwards = [Validity(id=1, since="2", until="1")]
    dangling = [Validity(id=1, since="1", until="2", replaced_by=7)]

    assert line_problems(both) == ["facts 1 and 2 hold at the same time"]
    assert line_problems(backwards) == ["fact 1 ends before it begins"]
    assert line_problems(dangling) == ["fact 1 is replaced by one that does not begin when it ends"]
