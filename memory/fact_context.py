"""Facts as parts of a context: what is pinned before everything, instructions as such, and the rest as data. Pure."""

from collections.abc import Sequence

from memory.context import Candidate, Held
from memory.fact_reading import HeldFact
from shared.memory_messages import FactSource


def held_candidates(standing: Sequence[HeldFact], known: Sequence[HeldFact]) -> tuple[Held, Held]:
    """Instructions and facts, both best first; they are read the pinned first, then in the order in which they came true."""
    instructions = [fact for fact in standing if fact.kind == "instruction"]
    facts = [fact for fact in (*standing, *known) if fact.kind != "instruction"]
    return _held(instructions), _held(facts)


def _held(facts: Sequence[HeldFact]) -> Held:
    return Held(
        pinned=[_candidate(fact) for fact in facts if fact.pinned],
        others=[_candidate(fact) for fact in facts if not fact.pinned],
    )


def _candidate(fact: HeldFact) -> Candidate:
    """Facts are quoted as recalled turns are, so that no line can pose as the context's own. Instructions are none of these:
    somebody who may approve facts has let them in."""
    order = (0 if fact.pinned else 1, fact.valid_from.isoformat(), fact.id)
    if fact.kind == "instruction":
        return Candidate("- " + fact.text.replace("\n", "\n  "), FactSource(fact_id=fact.fact_id), order)
    said = f"[since {fact.valid_from:%Y-%m-%d}] {fact.text}"
    return Candidate("> " + said.replace("\n", "\n> "), FactSource(fact_id=fact.fact_id), order)
