"""The recall index of a scope agrees with a plain scan, whatever came and went."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.index import ScopeIndex
from memory.records import Changes, IndexedTurn
from shared.vectors import Float32Array

START = datetime(2026, 1, 1, tzinfo=UTC)
DIMENSIONS = 4


def vector_of(item_id: int) -> Float32Array:
    vector = np.random.default_rng(item_id).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def turn(item_id: int, *, with_vector: bool = True, text: str = "alpha") -> IndexedTurn:
    raw = vector_of(item_id).astype("<f4").tobytes() if with_vector else None
    return IndexedTurn(
        id=item_id, session=1, speaker="user", text=text, created_at=START + timedelta(days=item_id), vector=raw
    )


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
        index.apply(Changes(number, [turn(item, with_vector=has) for item, has in items.items()], sorted(removed)))
        gone |= removed
        alive = (alive | items.keys()) - gone
        vectors = (vectors | {item for item, has in items.items() if has}) - gone

    query = vector_of(0)
    expected = sorted(vectors, key=lambda item: (-float(vector_of(item) @ query), item))
    found = index.dense(query, since=None, until=None, limit=200)
    assert alive == index.ids()
    assert len(alive) - len(vectors) == index.without_vector
    assert vectors == found.keys()
    assert [float(vector_of(item) @ query) for item in expected] == pytest.approx(list(found.values()), abs=1e-5)


def test_a_time_window_bounds_both_legs() -> None:
    index = ScopeIndex("m")
    index.apply(Changes(1, [turn(item) for item in range(1, 10)], []))
    window = {"since": START + timedelta(days=3), "until": START + timedelta(days=5)}

    assert {3, 4, 5} == index.lexical("alpha", limit=100, **window).keys()
    assert {3, 4, 5} == index.dense(vector_of(1), limit=100, **window).keys()


def test_a_vector_that_comes_later_is_used_from_then_on() -> None:
    index = ScopeIndex("m")
    index.apply(Changes(1, [turn(1, with_vector=False)], []))
    assert index.dense(vector_of(1), since=None, until=None, limit=1) == {}

    index.apply(Changes(2, [turn(1)], []))

    assert list(index.dense(vector_of(1), since=None, until=None, limit=1)) == [1]
    assert list(index.lexical("alpha", since=None, until=None, limit=5)) == [1]


def test_the_speaker_is_part_of_what_is_found() -> None:
    index = ScopeIndex("m")
    named = IndexedTurn(id=1, session=1, speaker="Caroline", text="went hiking", created_at=START, vector=None)
    index.apply(Changes(1, [named, turn(2, text="went hiking too")], []))

    assert next(iter(index.lexical("Caroline hiking", since=None, until=None, limit=5))) == 1


def test_an_index_with_many_dead_rows_says_that_it_is_worn() -> None:
    index = ScopeIndex("m")
    index.apply(Changes(1, [turn(item) for item in range(1, 101)], []))
    assert not index.is_worn

    index.apply(Changes(2, [], list(range(1, 41))))

    assert index.is_worn
