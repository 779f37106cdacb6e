"""Server-sent events as bytes: whatever they are cut into, the same events come out."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.streaming import EventReader, Received

STREAM = (
    b": ping\r\n\r\n"
    b'id: 1\r\nevent: progress\r\ndata: {"a": "\xc3\xa9"}\r\n\r\n'
    b"event: item_failed\ndata: two\ndata: lines\n\n"
    b"id: 7\nretry: 5\ndata:bare\n\n"
    b"data: unfinished"
)
EVENTS = [
    Received("progress", '{"a": "é"}', "1"),
    Received("item_failed", "two\nlines", "1"),
    Received("message", "bare", "7"),
]


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=20))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    reader = EventReader()

    found = [event for begin, end in pairwise(places) for event in reader.feed(STREAM[begin:end])]

    assert found == EVENTS
