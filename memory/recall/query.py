"""What a query says beside its words: when, and who spoke. Pure.

What is understood only moves items up, it never hides one: "may" can be misread, and a turn of June can tell of May. Who
wants a bound gives `since` and `until`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from memory.recall.event_times import Event, find_events
from memory.text.time_expressions import TimeRange, find_times
from shared.memory_messages import Role

_WORD: Final = re.compile(r"[^\W_]+")
_NAME_PART_LENGTH_MIN: Final = 3
# Names that are words: they need their capital.
_NAMES_THAT_ARE_WORDS: Final = frozenset(
    [
        "April",
        "Art",
        "August",
        "Bill",
        "Bob",
        "Chance",
        "Chase",
        "Dawn",
        "Faith",
        "Frank",
        "Gene",
        "Grace",
        "Grant",
        "Guy",
        "Hope",
        "Jack",
        "Jean",
        "Joy",
        "June",
        "Mark",
        "Max",
        "May",
        "Miles",
        "Pat",
        "Rich",
        "Rob",
        "Rose",
        "Sky",
        "Sue",
        "Summer",
        "Victor",
        "Will",
    ]
)
# Roles are not names: "which user" is a question about something else.
_ROLES: Final = frozenset({"user", "assistant", "system", "tool"})
_OF_THE_USER: Final = frozenset({"i", "me", "my", "mine", "myself"})
_OF_THE_ASSISTANT: Final = re.compile(
    r"\byour\b|\b(?:did|have|had|were) you\b|\byou (?:said|told|suggest|recommend|mention|advis|propos|explain|gave|wrote)"
)


@dataclass(frozen=True, slots=True)
class Understood:
    """`speakers` are as they stand in the index, `roles` whom "I" and "you" stand for. `events` are times that only a memory
    knows."""

    times: tuple[TimeRange, ...]
    speakers: frozenset[str]
    roles: frozenset[Role]
    events: tuple[Event, ...] = ()

    def with_times(self, others: Iterable[TimeRange]) -> "Understood":
        return replace(self, times=(*self.times, *others))


def understand(query: str, *, now: datetime, oldest: datetime | None, speakers: Iterable[str]) -> Understood:
    words = _WORD.findall(query)
    times = find_times(query, now=now, oldest=oldest)
    return Understood(
        times=tuple(times),
        speakers=frozenset(name for name in speakers if _is_named(name, words)),
        roles=_roles(query.lower(), {word.lower() for word in words}),
        events=tuple(find_events(query, times=times)),
    )


def _is_named(speaker: str, words: list[str]) -> bool:
    """By any part of the name, so that "Ada" is Ada Lovelace."""
    if speaker in _ROLES:
        return False
    lowered = {word.lower() for word in words}
    for part in _WORD.findall(speaker):
        is_word = part in _NAMES_THAT_ARE_WORDS
        if len(part) >= _NAME_PART_LENGTH_MIN and (part in words if is_word else part.lower() in lowered):
            return True
    return False


def _roles(query: str, words: set[str]) -> frozenset[Role]:
    roles: set[Role] = set()
    if words & _OF_THE_USER:
        roles.add("user")
    if _OF_THE_ASSISTANT.search(query):
        roles.add("assistant")
    return frozenset(roles)
