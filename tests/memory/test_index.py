"""The recall index of a scope agrees with a plain scan, whatever came and went."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.recall.index import ScopeIndex, Scored, Wanted
from memory.recall.query import Understood
from memory.truth.records import Changes, IndexedItem, ItemKey
from shared.filters import parse_filter
from shared.vectors import Float32Array
from tests.shared.filter_oracle import FILTERS, METADATA, holds

START = datetime(2026, 1, 1, tzinfo=UTC)
DIMENSIONS = 4
TURNS = Wanted(kinds=frozenset({"turn"}))
NOTHING = Understood((), frozenset(), frozenset())


def vector_of(item_id: int) -> Float32Array:
    vector = np.random.default_rng(item_id).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def turn(item_id: int, *, with_vector: bool = True, text: str = "alpha", **changed: Any) -> IndexedItem:
    """Each a day after the one before, and alone: no neighbours unless it gets a `position`."""
    raw = vector_of(item_id).astype("<f4").tobytes() if with_vector else None
    item = IndexedItem(
        kind="turn",
        id=item_id,
        session=1,
        position=None,
        role="user",
        speaker="user",
        text=text,
        created_at=START + timedelta(days=item_id),
        metadata="{}",
        vector=raw,
    )
    return replace(item, **changed)


def keys(ids: Iterable[int]) -> list[ItemKey]:
    return [("turn", item_id) for item_id in ids]


def filled(*items: IndexedItem) -> ScopeIndex:
    index = ScopeIndex("m")
    index.apply(Changes(1, list(items), []))
    return index


def lexical(index: ScopeIndex, query: str, wanted: Wanted = TURNS) -> list[int]:
    return ids(index.search(query, None, wanted=wanted, understood=NOTHING, limit=1000))


def dense(index: ScopeIndex, vector: Float32Array, wanted: Wanted = TURNS) -> list[Scored]:
    return index.search(None, vector, wanted=wanted, understood=NOTHING, limit=1000)


def ids(found: list[Scored]) -> list[int]:
    return [scored.key[1] for scored in found]


steps = st.lists(
    st.tuples(
        st.dictionaries(st.integers(1, 150), st.booleans(), max_size=60), st.sets(st.integers(1, 150), max_size=40)
    ),
    min_size=1,
    max_size=6,
)


@given(steps)
def test_the_dense_leg_is_a_plain_scan_over_what_is_alive_and_has_a_vector(
    changes: list[tuple[dict[int, bool], set[int]]],
) -> None:
    index, alive, vectors = ScopeIndex("m"), set[int](), set[int]()
    gone: set[int] = set()
    for number, (added, removed) in enumerate(changes, start=1):
        # Ids are never used twice, so what is gone does not come back.
        items = {item: has for item, has in added.items() if item not in gone | removed}
        turns = [turn(item, with_vector=has, position=item) for item, has in items.items()]
        index.apply(Changes(number, turns, keys(sorted(removed))))
        gone |= removed
        alive = (alive | items.keys()) - gone
        vectors = (vectors | {item for item, has in items.items() if has}) - gone

    query = vector_of(0)
    found = {scored.key[1]: scored for scored in dense(index, query)}
    expected = {item: float(vector_of(item) @ query) for item in vectors}
    assert set(keys(alive)) == index.keys()
    assert len(alive) - len(vectors) == index.without_vector
    assert vectors == found.keys()
    assert {item: scored.scores.dense for item, scored in found.items()} == pytest.approx(expected, abs=1e-5)
    best_first = sorted(vectors, key=lambda item: -expected[item])
    assert [found[item].scores.dense_rank for item in best_first] == list(range(1, len(vectors) + 1))


@given(
    st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map(" ".join), min_size=1, max_size=12),
    st.data(),
)
def test_an_index_that_saw_changes_answers_as_one_that_only_saw_the_result(
    texts: list[str], data: st.DataObject
) -> None:
    items = [
        turn(number, text=text, session=number % 2, position=number // 2) for number, text in enumerate(texts, start=1)
    ]
    removed = data.draw(st.sets(st.sampled_from(range(1, len(items) + 1))))
    changed = ScopeIndex("m")
    for number, item in enumerate(data.draw(st.permutations(items)), start=1):
        changed.apply(Changes(number, [item], []))
    changed.apply(Changes(99, [], keys(removed)))
    fresh = filled(*(item for item in items if item.id not in removed))

    for query in ("a", "b c", "d a a"):
        for vector in (None, vector_of(7)):
            again, before = (
                index.search(query, vector, wanted=TURNS, understood=NOTHING, limit=5) for index in (fresh, changed)
            )
            assert ids(again) == ids(before)
            assert [each.score for each in again] == pytest.approx([each.score for each in before])


def test_a_time_window_bounds_both_legs() -> None:
    index = filled(*(turn(item) for item in range(1, 10)))
    window = Wanted(kinds=frozenset({"turn"}), since=START + timedelta(days=3), until=START + timedelta(days=5))

    assert {3, 4, 5} == set(lexical(index, "alpha", window))
    assert {3, 4, 5} == set(ids(dense(index, vector_of(1), window)))


def test_what_is_said_later_has_no_say_in_an_earlier_moment() -> None:
    before = [turn(1, text="alpha beta", position=1), turn(2, text="gamma", position=2)]
    later = [turn(3, text="alpha alpha needle", position=3), turn(4, text="beta", position=4)]
    wanted = Wanted(kinds=frozenset({"turn"}), until=START + timedelta(days=2))

    def answer(index: ScopeIndex) -> list[Scored]:
        return index.search("alpha needle gamma", vector_of(9), wanted=wanted, understood=NOTHING, limit=9)

    assert answer(filled(*before, *later)) == answer(filled(*before))


def test_a_vector_that_comes_later_is_used_from_then_on() -> None:
    index = filled(turn(1, with_vector=False))
    assert dense(index, vector_of(1)) == []

    index.apply(Changes(2, [turn(1)], []))

    assert ids(dense(index, vector_of(1))) == [1]
    assert lexical(index, "alpha") == [1]


def test_a_vector_that_is_made_anew_takes_the_place_of_the_old_one() -> None:
    index = filled(turn(1), turn(2))
    index.apply(Changes(2, [turn(1, vector=vector_of(3).astype("<f4").tobytes())], []))

    assert ids(dense(index, vector_of(3)))[0] == 1
    assert dense(index, vector_of(3))[0].scores.dense == pytest.approx(1.0, abs=1e-5)


def test_the_speaker_and_the_date_are_part_of_what_is_found() -> None:
    index = filled(
        turn(1, text="went hiking", speaker="Caroline"),
        turn(2, text="went hiking too"),
        turn(99, text="went hiking again"),
    )

    assert lexical(index, "Caroline hiking")[0] == 1
    assert lexical(index, "hiking in April")[0] == 99
    assert lexical(index, "saturday") == [2]


def test_a_turn_is_found_by_what_stands_beside_it_but_after_what_says_it_itself() -> None:
    index = filled(
        turn(1, text="where did you move from", position=1),
        turn(2, text="sweden four years ago", position=2),
        turn(3, text="so nice", position=3),
        turn(4, text="something else", position=4),
        turn(5, text="move", position=5, session=2),
    )

    assert lexical(index, "move") == [5, 1, 2]
    assert lexical(index, "sweden") == [2, 3, 1]


def test_an_erased_turn_is_gone_from_its_neighbours_too() -> None:
    index = filled(*(turn(number, text=word, position=number) for number, word in enumerate("abc", start=1)))
    index.apply(Changes(2, [], keys([2])))

    assert lexical(index, "b") == []
    assert lexical(index, "a") == [1]


def test_only_the_kinds_that_are_asked_for_are_answered() -> None:
    index = filled(turn(1), turn(2))

    assert lexical(index, "alpha", Wanted(kinds=frozenset())) == []
    assert dense(index, vector_of(1), Wanted(kinds=frozenset())) == []


@given(st.lists(METADATA, max_size=8), FILTERS)
def test_a_filter_answers_what_it_is_true_of(given_metadata: list[dict[str, Any]], condition: dict[str, Any]) -> None:
    items = [
        turn(number, metadata=msgspec.json.encode(each).decode()) for number, each in enumerate(given_metadata, start=1)
    ]
    part = parse_filter(condition)
    wanted = Wanted(kinds=frozenset({"turn"}), filter=part)

    expected = {number for number, each in enumerate(given_metadata, start=1) if holds(condition, each)}
    assert expected == set(lexical(filled(*items), "alpha", wanted))
    assert expected == set(ids(dense(filled(*items), vector_of(1), wanted)))


def test_an_index_with_many_dead_rows_says_that_it_is_worn() -> None:
    index = filled(*(turn(item) for item in range(1, 101)))
    assert not index.is_worn

    index.apply(Changes(2, [], keys(range(1, 41))))

    assert index.is_worn
