"""What one side encodes the other side decodes to the same message, whatever the message and the encoding."""

import contextlib
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidFields, Malformed
from shared.messages import Answer, Request
from shared.retrieval_messages import DocumentIn, EmbedAnswer, IngestRequest, SearchRequest
from shared.vectors import Vector
from shared.wire import JSON, MSGPACK, decode, encode
from tests.shared.strategies import PROPERTY, any_of, message_kinds

# There is one test for each kind of message, so a few examples of each make many.
FEW = settings(max_examples=15, deadline=None)
ENCODINGS = pytest.mark.parametrize("media", [JSON, MSGPACK])
KINDS = message_kinds()


def plain(message: msgspec.Struct) -> Any:
    """Comparable: vectors have no equality of their own."""
    return msgspec.to_builtins(message, enc_hook=lambda value: value.to_numbers(), builtin_types=(bytes,))


def test_the_kinds_of_messages_are_found() -> None:
    names = {kind.__name__ for kind in KINDS}

    assert {"SearchRequest", "EmbedAnswer", "AppendRequest", "ContextAnswer", "Problem", "CheckReport"} <= names
    assert all(issubclass(kind, (Request, Answer)) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@FEW
def test_every_message_comes_back_from_both_encodings(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    message = data.draw(any_of(kind))

    through_json = decode(encode(message, JSON), JSON, kind)
    through_msgpack = decode(encode(message, MSGPACK), MSGPACK, kind)

    assert plain(through_json) == plain(message)
    assert plain(through_msgpack) == plain(message)


@ENCODINGS
@PROPERTY
@given(data=st.binary(max_size=200), kind=st.sampled_from(KINDS))
def test_any_bytes_are_a_message_or_one_of_two_errors(media: str, data: bytes, kind: type[msgspec.Struct]) -> None:
    with contextlib.suppress(Malformed, InvalidFields):
        assert isinstance(decode(data, media, kind), kind)


@ENCODINGS
@PROPERTY
@given(data=st.data(), position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_message_with_one_byte_changed_is_a_message_or_one_of_two_errors(
    media: str, data: st.DataObject, position: int, byte: int
) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    body = bytearray(encode(data.draw(any_of(kind)), media))
    body[position % len(body)] = byte

    with contextlib.suppress(Malformed, InvalidFields):
        assert isinstance(decode(bytes(body), media, kind), kind)


def test_fields_that_are_none_are_left_out() -> None:
    assert encode(SearchRequest(query="hello"), JSON) == b'{"query":"hello"}'
    assert msgpack.unpackb(encode(SearchRequest(query="hello"), MSGPACK)) == {"query": "hello"}


def test_content_is_base64_in_json_and_raw_in_messagepack() -> None:
    request = IngestRequest(documents=[DocumentIn(id="a", content=b"\xff\x00")])

    assert encode(request, JSON) == b'{"documents":[{"id":"a","content":"/wA="}]}'
    assert msgpack.unpackb(encode(request, MSGPACK)) == {"documents": [{"id": "a", "content": b"\xff\x00"}]}


def test_an_answer_tolerates_fields_it_does_not_know() -> None:
    body = b'{"model":"m","vectors":[[1.5]],"since_next_year":true}'

    assert decode(body, JSON, EmbedAnswer).vectors.to_numbers() == [[1.5]]


def test_a_message_that_cannot_be_encoded_is_a_programming_error() -> None:
    with pytest.raises(NotImplementedError):
        encode({"a": object()}, JSON)
    with pytest.raises(NotImplementedError):
        encode({"a": object()}, MSGPACK)


@ENCODINGS
def test_a_vector_is_sent_without_loss(media: str) -> None:
    sent = Vector(np.array([0.1, -1e-38, 3.0e38], dtype=np.float32))

    received = decode(encode(SearchRequest(vector=sent), media), media, SearchRequest).vector

    assert received is not None
    assert received.array.tobytes() == sent.array.tobytes()
