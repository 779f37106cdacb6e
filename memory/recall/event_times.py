"""Times that a query names by what happened: "before the move", "after Ada's charity race". Pure.

Only what somebody remembers can say when that was, so here is only found what is meant; the index knows when it was told
(`ScopeIndex.told_of`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, cast

from memory.text.time_expressions import TimeRange

Relation = Literal["before", "after", "since", "until", "during"]

# An event is named with somebody's or something's article; "before lunch" and "after I left" are not read.
_EVENT: Final = re.compile(
    # Looked for at every place: what is behind one may name another.
    r"(?=\b(?P<relation>before|after|since|until|till|during) "
    r"(?P<event>(?:the|this|that|my|our|your|his|her|their|[A-Z][\w-]*['\u2019]s) [\w'\u2019-]+(?: [\w'\u2019-]+){0,4}))",
)
# What follows an event in a question, and does not name it.
_REST: Final = re.compile(
    r" (?:to|and|or|but|is|was|were|are|did|do|does|has|had|have|will|would|that|which|who|what|where|when|how|why|in|on|at|from)\b.*"
)


@dataclass(frozen=True, slots=True)
class Event:
    """`text` is what was read so, `name` what is to be looked for."""

    text: str
    relation: Relation
    name: str


def find_events(query: str, *, times: Sequence[TimeRange] = ()) -> list[Event]:
    """Those that are no calendar time, which `times` has already."""
    found = []
    for match in _EVENT.finditer(query):
        name = _REST.sub("", match["event"])
        if any(each.text in name or name in each.text for each in times):
            continue
        relation = "until" if match["relation"] == "till" else match["relation"]
        found.append(Event(f"{match['relation']} {name}", cast("Relation", relation), name))
    return found


def event_range(event: Event, told: datetime) -> TimeRange:
    """By the day on which it was told: an event and its telling seldom lie further apart than that, and if they do, nothing that
    is understood hides a turn."""
    day = told.replace(hour=0, minute=0, second=0, microsecond=0)
    match event.relation:
        case "before" | "until":
            return TimeRange(event.text, None, day)
        case "after" | "since":
            return TimeRange(event.text, day, None)
        case "during":
            return TimeRange(event.text, day, day + timedelta(days=1))
