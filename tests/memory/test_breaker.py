"""The breaker leaves a failing service alone, and asks again with one call at a time."""

from hypothesis import given
from hypothesis import strategies as st

from memory.models.breaker import Breaker


def opened(now: float = 0.0, **options: float) -> Breaker:
    breaker = Breaker(failures_max=2, pause_s=10.0)
    breaker.failed(now)
    breaker.failed(now, **options)
    return breaker


def test_failures_below_the_limit_change_nothing() -> None:
    breaker = Breaker(failures_max=2, pause_s=10.0)
    breaker.failed(0.0)

    assert breaker.admits(0.0)
    assert not breaker.is_open


def test_a_success_starts_the_count_anew() -> None:
    breaker = Breaker(failures_max=2, pause_s=10.0)
    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)

    assert breaker.admits(0.0)


def test_at_the_limit_nothing_is_admitted_until_the_pause_is_over() -> None:
    breaker = opened()

    assert breaker.is_open
    assert not breaker.admits(9.9)
    assert breaker.admits(10.0)


def test_one_call_is_tried_at_a_time_and_its_success_closes() -> None:
    breaker = opened()

    assert [breaker.admits(10.0) for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.admits(10.0) for _ in range(3)] == [True, True, True]


def test_a_trial_that_fails_opens_again() -> None:
    breaker = opened()
    assert breaker.admits(10.0)
    breaker.failed(12.0)

    assert not breaker.admits(21.9)
    assert breaker.admits(22.0)


def test_a_trial_that_is_given_up_makes_room_for_the_next() -> None:
    breaker = opened()
    assert breaker.admits(10.0)
    breaker.dropped()

    assert breaker.is_open
    assert breaker.admits(10.0)


def test_a_service_that_asks_for_a_longer_pause_gets_it_at_the_first_failure() -> None:
    breaker = Breaker(failures_max=5, pause_s=10.0)
    breaker.failed(0.0, asked_s=60.0)

    assert not breaker.admits(59.9)
    assert breaker.admits(60.0)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["call", "succeeded", "failed", "dropped"]), st.floats(min_value=0, max_value=8)),
    max_size=60,
)


@given(events=EVENTS, failures_max=st.integers(min_value=1, max_value=4))
def test_it_admits_what_a_plain_reading_of_the_rules_admits(events: list[tuple[str, float]], failures_max: int) -> None:
    breaker = Breaker(failures_max=failures_max, pause_s=10.0)
    now, in_flight = 0.0, 0
    outcomes: list[str] = []
    opened_at = -100.0
    trial = False
    for event, elapsed in events:
        now += elapsed
        in_a_row = next((n for n, each in enumerate(reversed(outcomes)) if each == "succeeded"), len(outcomes))
        is_open = in_a_row >= failures_max
        if event == "call":
            expected = not is_open or (not trial and now >= opened_at + 10.0)
            assert breaker.admits(now) == expected
            trial = trial or (is_open and expected)
            in_flight += expected
        elif in_flight:
            in_flight -= 1
            trial = False
            if event == "dropped":
                breaker.dropped()
            elif event == "succeeded":
                outcomes.append(event)
                breaker.succeeded()
            else:
                outcomes.append(event)
                breaker.failed(now)
                opened_at = now
