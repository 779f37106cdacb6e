"""Facts as parts of a context: what is pinned before everything, instructions as such, and the rest as data. Pure."""

from collections.abc import Sequence

from memory.context import Candidate, Held
from memory.facts.reading import HeldFact
from memory.truth.records import RecalledFact
from shared.memory_messages import FactSource


def held_candidates(
    standing: Sequence[HeldFact], known: Sequence[HeldFact], recalled: Sequence[RecalledFact]
) -> tuple[Held, Held]:
    """Instructions and facts, best first: of facts those that the query is about, then the newest. They are read the pinned
    first, then in the order in which they came true."""
    ordered = {fact.id: fact for fact in (*standing, *map(_of, recalled), *known)}
    instructions = [fact for fact in ordered.values() if fact.kind == "instruction"]
    facts = [fact for fact in ordered.values() if fact.kind != "instruction"]
    return _held(instructions), _held(facts)


def _of(recalled: RecalledFact) -> HeldFact:
    fact = recalled.fact
    return HeldFact(
        id=recalled.id,
        fact_id=fact.id,
        kind=fact.kind,
        text=fact.text,
        pinned=fact.pinned,
        valid_from=fact.valid_from,
    )


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
