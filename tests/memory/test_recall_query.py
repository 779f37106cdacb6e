"""What a question says beside its words, and how far that moves an item."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.recall.bm25 import Neighbours
from memory.recall.query import understand
from memory.recall.ranking import Floats, boosts, fused, with_company
from memory.text.time_expressions import TimeRange

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY_S = 86_400.0

scores = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(np.array)


@pytest.mark.parametrize(
    ("query", "speakers", "roles"),
    [
        ("what did Ada say", {"Ada Lovelace"}, set()),
        ("what did ada and bob say", {"Ada Lovelace"}, set()),
        ("What did Bob paint?", {"Bob"}, set()),
        ("will it rain", set(), set()),
        ("what does Will want", {"Will"}, set()),
        ("which user wrote to the assistant", set(), set()),
        ("what is my budget", set(), {"user"}),
        ("can you tell me what I said", set(), {"user"}),
        ("what did you recommend to me", set(), {"user", "assistant"}),
        ("can you list the deadlines", set(), set()),
        ("your advice", set(), {"assistant"}),
        ("an adamant refusal", set(), set()),
    ],
)
def test_who_is_named_or_meant(query: str, speakers: set[str], roles: set[str]) -> None:
    everybody = ["Ada Lovelace", "Bob", "Will", "user", "assistant", "Al"]

    found = understand(query, now=NOW, oldest=None, speakers=everybody)

    assert speakers == set(found.speakers)
    assert roles == set(found.roles)


@given(scores, st.data())
def test_a_boost_never_turns_a_score_into_none_and_recency_is_bounded(
    given_scores: Floats, data: st.DataObject
) -> None:
    count = len(given_scores)
    times = np.array(data.draw(st.lists(st.floats(-1e11, 1e11), min_size=count, max_size=count)))
    is_named = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    ranges = [TimeRange("x", NOW, None), TimeRange("y", None, NOW), TimeRange("z", NOW, NOW + timedelta(days=1))]

    everything = np.ones(count, dtype=bool)
    plain = boosts(times, [], visible=everything, is_named=~everything)
    all_together = boosts(times, ranges, visible=everything, is_named=is_named)

    assert ((plain >= 1.0) & (plain <= 1.1)).all()
    assert (all_together >= plain).all()
    assert np.isfinite(all_together).all()
    # The newest is never behind an older one of the same score.
    assert plain[times.argmax()] == plain.max()


def test_what_a_query_dates_counts_more_within_it_and_less_and_less_after_it() -> None:
    may = TimeRange("in May", datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
    days = [datetime(2026, 4, 30, tzinfo=UTC), datetime(2026, 5, 20, tzinfo=UTC), NOW + timedelta(days=7)]
    times = np.array([day.timestamp() for day in days])
    who = {"visible": np.ones(3, dtype=bool), "is_named": np.zeros(3, dtype=bool)}

    before, within, after = boosts(times, [may], **who) - boosts(times, [], **who)

    assert before == pytest.approx(0.0)
    assert within == pytest.approx(2 * after)
    assert after > 0


@given(scores, st.data())
def test_fusion_is_within_0_and_1_and_keeps_the_order_of_a_leg_that_is_alone(
    dense: Floats, data: st.DataObject
) -> None:
    count = len(dense)
    lexical = np.array(data.draw(st.lists(st.floats(0, 30), min_size=count, max_size=count)))
    judged = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))

    both = fused(dense * 2 - 1, lexical, judged=judged)
    by_words = fused(dense, lexical, judged=np.zeros(count, dtype=bool))
    by_meaning = fused(dense, np.zeros(count), judged=np.ones(count, dtype=bool))

    assert ((both >= 0) & (both <= 1)).all()
    for one in range(count):
        assert (by_words[lexical < lexical[one]] <= by_words[one]).all()
        assert (by_meaning[dense < dense[one]] <= by_meaning[one]).all()


def test_what_has_no_vector_yet_is_placed_by_its_words() -> None:
    found = fused(np.array([0.2, 0.9, 0.0]), np.array([1.0, 4.0, 5.0]), judged=np.array([True, True, False]))

    assert found.argmax() == 2
    assert found[2] == 1.0


@given(scores, st.sets(st.integers(0, 20)))
def test_company_counts_less_with_each_item_between(given_scores: Floats, starts: set[int]) -> None:
    """Rows in order; a new session begins at each of `starts`."""
    count = len(given_scores)
    rows = np.arange(count, dtype=np.int32)
    begins = np.array([row == 0 or row in starts for row in rows])
    ends = np.append(begins[1:], True)
    neighbours = Neighbours(np.where(begins, -1, rows - 1), np.where(ends, -1, rows + 1))
    session = begins.cumsum()

    lifted = with_company(given_scores, neighbours)

    for at in range(count):
        near = [given_scores[row] * 0.95 ** abs(row - at) for row in rows if session[row] == session[at]]
        assert lifted[at] == pytest.approx((given_scores[at] + 0.7 * max(near)) / 1.7)
