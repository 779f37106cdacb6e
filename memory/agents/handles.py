"""Names by which agents know memories, the same in every tool, resource and answer. Pure.

A fact has its own id. A message is `turn:SESSION#NUMBER`, and what a summary stands for `turns:SESSION#FIRST-LAST`: names that
read as what they are, and that never go to another message while the session lives.
"""

import re
from dataclasses import dataclass
from typing import Final

from shared.memory_messages import SEQ_MAX

# What has a meaning of its own as an address or a prefix.
_TAKEN: Final = re.compile(r"fact:|turn:|turns:|profile$")
_FACT: Final = "fact:"
_TURNS: Final = re.compile(
    r"turns?:(?P<session>.+)#(?P<first>[1-9][0-9]{0,15})(?:-(?P<last>[1-9][0-9]{0,15}))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class FactHandle:
    fact_id: str


@dataclass(frozen=True, slots=True)
class TurnsHandle:
    """From `first_seq` to `last_seq`, both included."""

    session_id: str
    first_seq: int
    last_seq: int


def fact_name(fact_id: str) -> str:
    return _FACT + fact_id if _TAKEN.match(fact_id) else fact_id


def turn_name(session_id: str, seq: int) -> str:
    return f"turn:{session_id}#{seq}"


def turns_name(session_id: str, first_seq: int, last_seq: int) -> str:
    return f"turns:{session_id}#{first_seq}-{last_seq}"


def parse_handle(name: str) -> FactHandle | TurnsHandle:
    """Whatever has no other form is taken for a fact's id."""
    found = _TURNS.fullmatch(name)
    if found is None:
        return FactHandle(name.removeprefix(_FACT))
    first = int(found["first"])
    last = int(found["last"] or first)
    return TurnsHandle(found["session"], first, min(last, SEQ_MAX - 1))
