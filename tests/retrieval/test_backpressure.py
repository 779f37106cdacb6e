"""Who is refused, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from retrieval.jobs.backpressure import Amount, DrainRate, excess_of, retry_delay_s

COUNTS = st.integers(min_value=0, max_value=10_000)


def test_what_fits_exactly_fits_and_one_more_does_not() -> None:
    limit = Amount(10, 1000)
    assert excess_of(Amount(6, 600), Amount(4, 400), limit) is None
    assert excess_of(Amount(6, 600), Amount(5, 400), limit) == Amount(1, 0)
    assert excess_of(Amount(6, 600), Amount(4, 401), limit) == Amount(0, 1)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_once_the_excess_has_gone_it_fits_or_the_queue_is_empty(
    waiting: int, waiting_bytes: int, arriving: int, arriving_bytes: int
) -> None:
    limit, queue, batch = Amount(5000, 5000), Amount(waiting, waiting_bytes), Amount(arriving, arriving_bytes)
    excess = excess_of(queue, batch, limit)
    if excess is not None:
        left = Amount(waiting - excess.documents, waiting_bytes - excess.payload_bytes)
        assert left.documents >= 0
        assert left.payload_bytes >= 0
        assert left.documents == 0 or left.payload_bytes == 0 or excess_of(left, batch, limit) is None


def test_retry_after_is_the_time_that_the_excess_takes_as_it_went_lately() -> None:
    drain = DrainRate()
    assert drain.retry_after_s(Amount(100, 0), now=0.0) == 5.0
    for second in range(11):
        drain.note(Amount(2, 1000), now=float(second))

    # 22 documents and 11,000 bytes in ten seconds.
    assert drain.retry_after_s(Amount(44, 0), now=10.0) == 20.0
    assert drain.retry_after_s(Amount(1, 33_000), now=10.0) == 30.0
    assert drain.retry_after_s(Amount(1, 0), now=10.0) == 1.0
    assert drain.retry_after_s(Amount(10_000, 0), now=10.0) == 60.0
    # A minute later nothing is known any more.
    assert drain.retry_after_s(Amount(44, 0), now=100.0) == 5.0


def test_waits_between_attempts_grow_up_to_a_minute() -> None:
    assert [retry_delay_s(attempts, 1.0) for attempts in range(1, 6)] == [1.0, 4.0, 16.0, 60.0, 60.0]
