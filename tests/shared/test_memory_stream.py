"""The records of an export as bytes and back, however the bytes are cut."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Malformed, ServiceError, TooLarge, UnsupportedMedia
from shared.memory_records import ExportedSession, ExportedSpan, ExportedTurn, ExportHeader, MemoryRecord
from shared.memory_stream import (
    NDJSON,
    MemoryStreamReader,
    MemoryStreamWriter,
    negotiate_records,
    records_media_type,
)
from shared.wire import MSGPACK
from tests.shared.strategies import PROPERTY, any_of

MEDIA = st.sampled_from([NDJSON, MSGPACK])


def written(records: Sequence[MemoryRecord], media: str) -> bytes:
    writer = MemoryStreamWriter(media)
    return b"".join(writer.write(record) for record in records) + writer.end()


@st.composite
def streams(draw: st.DrawFn) -> list[MemoryRecord]:
    found: list[MemoryRecord] = [ExportHeader(version=1, user_id=draw(st.none() | st.just("u")))]
    for name in sorted(draw(st.sets(st.sampled_from("abc")))):
        turns = draw(st.lists(any_of(ExportedTurn), max_size=3))
        session = msgspec.structs.replace(draw(any_of(ExportedSession)), id=name, last_seq=len(turns))
        found.append(session)
        found += [msgspec.structs.replace(turn, session_id=name, seq=seq) for seq, turn in enumerate(turns, start=1)]
        found += [
            msgspec.structs.replace(span, session_id=name) for span in draw(st.lists(any_of(ExportedSpan), max_size=1))
        ]
    return found


@PROPERTY
@given(records=streams(), media=MEDIA, part_bytes=st.integers(1, 500))
def test_a_stream_comes_back_however_it_is_cut(records: list[MemoryRecord], media: str, part_bytes: int) -> None:
    data = written(records, media)
    reader = MemoryStreamReader(media)
    back = [
        record for start in range(0, len(data), part_bytes) for record in reader.feed(data[start : start + part_bytes])
    ]
    reader.close()

    assert [number for number, _ in back] == list(range(1, len(records) + 2))
    assert written([record for _, record in back[:-1]], media) == data


@PROPERTY
@given(records=streams(), media=MEDIA, share=st.floats(0, 1, exclude_max=True))
def test_a_stream_that_was_cut_off_is_no_whole_one(records: list[MemoryRecord], media: str, share: float) -> None:
    data = written(records, media)
    reader = MemoryStreamReader(media)
    reader.feed(data[: int(share * len(data))])

    with pytest.raises(Malformed, match="cut off"):
        reader.close()


@PROPERTY
@given(data=st.binary(max_size=300), media=MEDIA)
def test_any_bytes_are_records_or_an_error_of_the_caller(data: bytes, media: str) -> None:
    reader = MemoryStreamReader(media, record_bytes_max=200)
    with pytest.raises(ServiceError) as caught:  # noqa: PT012 - either of the two
        reader.feed(data)
        reader.close()
    assert caught.value.status in {400, 413, 422}


@pytest.mark.parametrize("media", [NDJSON, MSGPACK])
def test_a_record_may_be_as_large_as_the_limit_and_no_larger(media: str) -> None:
    data = written([ExportHeader(version=1, user_id="u" * 200)], media)
    largest = max(len(data) - len(MemoryStreamWriter(media).end()), 0)

    MemoryStreamReader(media, record_bytes_max=largest).feed(data)
    with pytest.raises(TooLarge):
        MemoryStreamReader(media, record_bytes_max=largest - 1).feed(data)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, NDJSON),
        ("*/*", NDJSON),
        ("application/x-ndjson", NDJSON),
        ("application/msgpack", MSGPACK),
        ("application/x-ndjson;q=0.5, application/x-msgpack", MSGPACK),
        ("application/x-ndjson, application/msgpack;q=0.5", NDJSON),
    ],
)
def test_the_encoding_follows_accept(accept: str | None, media: str) -> None:
    assert negotiate_records(accept) == media


def test_the_encoding_of_a_body_is_named() -> None:
    assert records_media_type("application/x-ndjson; charset=utf-8") == NDJSON
    assert records_media_type("application/vnd.msgpack") == MSGPACK
    for name in (None, "", "application/json", "text/plain"):
        with pytest.raises(UnsupportedMedia):
            records_media_type(name)
