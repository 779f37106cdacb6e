"""What a question says beside its words, and how far that moves an item."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.ranking import Floats, boosts, fused, with_sessions
from memory.recall_query import understand
from memory.time_expressions import TimeRange

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

    assert (speakers, roles) == (found.speakers, found.roles)


@given(scores, st.data())
def test_a_boost_never_turns_a_score_into_none_and_recency_is_bounded(
    given_scores: Floats, data: st.DataObject
) -> None:
    count = len(given_scores)
    times = np.array(data.draw(st.lists(st.floats(-1e11, 1e11), min_size=count, max_size=count)))
    is_named = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    ranges = [TimeRange("x", NOW, None), TimeRange("y", None, NOW), TimeRange("z", NOW, NOW + timedelta(days=1))]

    plain = boosts(times, [], is_named=np.zeros(count, dtype=bool))
    all_together = boosts(times, ranges, is_named=is_named)

    assert ((plain >= 1.0) & (plain <= 1.1)).all()
    assert (all_together >= plain).all()
    assert np.isfinite(all_together).all()
    # The newest is never behind an older one of the same score.
    assert plain[times.argmax()] == plain.max()


def test_what_a_query_dates_counts_more_within_it_and_less_and_less_after_it() -> None:
    may = TimeRange("in May", datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))
    days = [datetime(2026, 4, 30, tzinfo=UTC), datetime(2026, 5, 20, tzinfo=UTC), NOW + timedelta(days=7)]
    times = np.array([day.timestamp() for day in days])
    nobody = np.zeros(3, dtype=bool)

    before, within, after = boosts(times, [may], is_named=nobody) - boosts(times, [], is_named=nobody)

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


@given(scores, st.data())
def test_a_session_lifts_its_own_by_its_best(given_scores: Floats, data: st.DataObject) -> None:
    sessions = np.array(
        data.draw(st.lists(st.integers(-1, 3), min_size=len(given_scores), max_size=len(given_scores))), dtype=np.int32
    )

    lifted = with_sessions(given_scores, sessions, 4)

    for at, session in enumerate(sessions):
        best = given_scores[at] if session < 0 else given_scores[sessions == session].max()
        assert min(given_scores[at], best) - 1e-12 <= lifted[at] <= max(given_scores[at], best) + 1e-12
        alike = (sessions == session) & (given_scores < given_scores[at])
        assert (lifted[alike] <= lifted[at]).all() or session < 0
