"""Memory's parts put together give memory's order, and each that is left out takes with it what it is for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evals.recall_parts import Asked, Parts, TurnRanker
from memory.recall.event_times import event_range
from memory.recall.index import ScopeIndex, Wanted
from memory.recall.query import understand
from memory.truth.records import Changes, IndexedItem
from shared.memory_messages import RecallKind
from shared.vectors import Float32Array

START = datetime(2024, 3, 5, 12, tzinfo=UTC)
LATER = START + timedelta(days=400)
TURNS: frozenset[RecallKind] = frozenset({"turn"})
TEXTS = (
    "we moved to Rome",
    "yes, since last June",
    "what did you paint?",
    "a lake at sunrise",
    "Ada runs",
    "the move was hard",
)
QUERIES = (
    "what did Ada paint?",
    "what happened in March 2024?",
    "who runs?",
    "before the move, what did I say?",
    "lake",
    "what was it a year ago",
)


def unit(seed: int) -> Float32Array:
    vector = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def turn(number: int, text: str, *, speaker: str = "Ada", days: float = 0.0, session: int = 0) -> IndexedItem:
    return IndexedItem(
        kind="turn",
        id=number,
        session=session,
        position=number,
        role="user" if speaker == "Ada" else "assistant",
        speaker=speaker,
        text=text,
        created_at=START + timedelta(days=days),
        metadata="{}",
        vector=unit(number).astype("<f4").tobytes(),
    )


def by_index(items: list[IndexedItem], asked: Asked, *, has_words: bool = True, has_meaning: bool = True) -> list[int]:
    """As the service asks its index."""
    index = ScopeIndex("m")
    index.apply(Changes(1, items, []))
    wanted = Wanted(kinds=TURNS, until=asked.as_of)
    understood = understand(asked.text, now=asked.as_of, oldest=index.oldest, speakers=index.speakers)
    told = ((event, index.told_of(event.name, wanted)) for event in understood.events)
    understood = understood.with_times(event_range(event, moment) for event, moment in told if moment is not None)
    found = index.search(
        asked.text if has_words else None,
        asked.vector if has_meaning else None,
        wanted=wanted,
        understood=understood,
        limit=10,
    )
    return [scored.key[1] for scored in found]


@given(
    st.lists(
        st.tuples(st.sampled_from(TEXTS), st.sampled_from(["Ada", "Bob"]), st.integers(0, 3)), min_size=1, max_size=40
    ),
    st.sampled_from(QUERIES),
    st.integers(100, 200),
    st.booleans(),
)
def test_with_every_part_in_place_the_order_is_that_of_the_index(
    said: list[tuple[str, str, int]],
    query: str,
    seed: int,
    is_early: bool,  # noqa: FBT001 - drawn
) -> None:
    said.sort(key=lambda each: each[2])
    items = [
        turn(number, text, speaker=speaker, days=20.0 * number, session=session)
        for number, (text, speaker, session) in enumerate(said)
    ]
    asked = Asked(query, unit(seed), START + timedelta(days=200) if is_early else LATER)

    assert TurnRanker(items, Parts()).ids(asked, 10) == by_index(items, asked)
    assert TurnRanker(items, Parts(meaning=False)).ids(asked, 10) == by_index(items, asked, has_meaning=False)
    assert TurnRanker(items, Parts(words=False)).ids(asked, 10) == by_index(items, asked, has_words=False)


WORDS = Parts(meaning=False, company=False)


def found(items: list[IndexedItem], query: str, parts: Parts) -> list[int]:
    return TurnRanker(items, parts).ids(Asked(query, unit(99), LATER), 10)


def test_without_the_date_a_day_is_not_found_by_its_words() -> None:
    items = [turn(0, "nothing"), turn(1, "nothing", days=40.0)]

    assert found(items, "April", WORDS) == [1]
    assert found(items, "April", replace(WORDS, date_in_words=False)) == []


def test_without_the_speaker_nothing_is_found_by_who_said_it() -> None:
    items = [turn(0, "hello"), turn(1, "hello", speaker="Bob")]

    assert found(items, "Bob", replace(WORDS, words_beside=False)) == [1]
    assert found(items, "Bob", replace(WORDS, words_beside=False, speaker_in_words=False)) == []


def test_without_the_turns_beside_an_answer_is_not_found_by_its_question() -> None:
    items = [turn(0, "what is your dog called?", speaker="Bob"), turn(1, "Rex")]

    assert found(items, "dog", WORDS) == [0, 1]
    assert found(items, "dog", replace(WORDS, words_beside=False)) == [0]


def test_recency_alone_decides_between_equals_and_nothing_else_is_taken_with_it() -> None:
    items = [turn(0, "a lake", session=0), turn(1, "a lake", days=300.0, session=1)]

    assert found(items, "lake", WORDS) == [1, 0]
    assert found(items, "lake", replace(WORDS, recency=False)) == [0, 1]
    assert (
        found(
            [turn(0, "a lake", speaker="Bob"), items[1]], "what did Bob see at the lake", replace(WORDS, recency=False)
        )[0]
        == 0
    )


def test_a_time_that_the_query_names_counts_unless_it_is_left_out() -> None:
    items = [turn(number, "a lake", days=100.0 * number, session=number) for number in range(3)]
    parts = replace(WORDS, date_in_words=False, recency=False)

    assert found(items, "the lake in June 2024", parts)[0] == 1
    assert found(items, "the lake in June 2024", replace(parts, times=False)) == [0, 1, 2]


def test_other_fusions_put_first_what_both_legs_put_first() -> None:
    items = [turn(number, text, session=number) for number, text in enumerate(TEXTS)]

    for fusion in ("rrf", "relative", "dbsf"):
        ranker = TurnRanker(items, Parts(fusion=fusion))
        assert ranker.ids(Asked("a lake at sunrise", unit(3), LATER), 3)[0] == 3
