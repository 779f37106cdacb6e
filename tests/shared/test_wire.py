"""What cannot be read is refused with the error and the path that tell the caller why."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import FieldError, InvalidFields, Malformed, UnsupportedMedia
from shared.memory_messages import AppendRequest
from shared.messages import Id, PageQuery
from shared.retrieval_messages import CollectionSpec, IngestRequest, SearchRequest
from shared.wire import JSON, MSGPACK, convert, decode, encode, media_type, negotiate
from tests.shared.strategies import PROPERTY

ENCODINGS = pytest.mark.parametrize("media", [JSON, MSGPACK])
NOT_IN_TEXT = "must not contain NUL or, in ids, control characters"


def packed(value: object, media: str) -> bytes:
    return msgspec.json.encode(value) if media == JSON else bytes(msgpack.packb(value))


def refused(body: bytes, media: str, kind: type[Any]) -> FieldError:
    """The one field that is wrong."""
    with pytest.raises(InvalidFields) as caught:
        decode(body, media, kind)
    (error,) = caught.value.errors
    assert caught.value.detail == f"{error.path}: {error.message}"
    return error


TURN = {"role": "user", "content": "hello"}


@ENCODINGS
@pytest.mark.parametrize(
    ("kind", "value", "path", "message"),
    [
        (SearchRequest, {"qury": "x"}, "$.qury", "unknown field"),
        (CollectionSpec, {"language": "klingon"}, "$.language", "Invalid enum value 'klingon'"),
        (SearchRequest, {"fusion": {"alfa": 1}}, "$.fusion.alfa", "unknown field"),
        (AppendRequest, {"turns": [TURN, TURN | {"rol": "x"}]}, "$.turns[1].rol", "unknown field"),
        (AppendRequest, {}, "$.turns", "required field is missing"),
        (AppendRequest, {"turns": [{"role": "user"}]}, "$.turns[0].content", "required field is missing"),
        (AppendRequest, {"turns": [TURN | {"role": "boss"}]}, "$.turns[0].role", "Invalid enum value 'boss'"),
        (AppendRequest, {"turns": []}, "$.turns", "Expected `array` of length >= 1"),
        (SearchRequest, {"limit": "ten"}, "$.limit", "Expected `int`, got `str`"),
        (SearchRequest, {"limit": True}, "$.limit", "Expected `int`, got `bool`"),
        (SearchRequest, {"limit": 5.0}, "$.limit", "Expected `int`, got `float`"),
        (SearchRequest, {"limit": 0}, "$.limit", "Expected `int` >= 1"),
        (SearchRequest, {"limit": 1001}, "$.limit", "Expected `int` <= 1000"),
        (SearchRequest, {"fusion": {"alpha": 1.01}}, "$.fusion.alpha", "Expected `float` <= 1.0"),
        (SearchRequest, {"query": ""}, "$.query", "Expected `str` of length >= 1"),
        (SearchRequest, {"query": "x" * 8193}, "$.query", "Expected `str` of length <= 8192"),
        (SearchRequest, {"collection": "x" * 257}, "$.collection", "Expected `str` of length <= 256"),
        (SearchRequest, {"collections": ["a", 7]}, "$.collections[1]", "Expected `str`, got `int`"),
        (IngestRequest, {"documents": [{"metadata": []}]}, "$.documents[0].metadata", None),
        (SearchRequest, ["query"], "$", "Expected `object`, got `array`"),
        (SearchRequest, None, "$", "Expected `object`, got `null`"),
        (AppendRequest, {"turns": [TURN | {"created_at": "yesterday"}]}, "$.turns[0].created_at", None),
        (AppendRequest, {"turns": [TURN | {"created_at": "2026-01-01T00:00:00"}]}, "$.turns[0].created_at", None),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    media: str, kind: type[msgspec.Struct], value: object, path: str, message: str | None
) -> None:
    error = refused(packed(value, media), media, kind)

    assert error.path == path
    assert message is None or error.message == message


@ENCODINGS
def test_every_limit_accepts_what_lies_just_inside(media: str) -> None:
    value = {"query": "x" * 8192, "limit": 1000, "collection": "y" * 256, "candidates": 1, "fusion": {"alpha": 1.0}}

    request = decode(packed(value, media), media, SearchRequest)

    assert (len(request.query or ""), request.limit, request.candidates) == (8192, 1000, 1)


@ENCODINGS
@pytest.mark.parametrize("text", ["\x00", "a\x00b", "a\x00", "a\n\x00"])
def test_nul_is_refused_in_every_text(media: str, text: str) -> None:
    assert refused(packed({"query": text}, media), media, SearchRequest) == FieldError("$.query", NOT_IN_TEXT)


@ENCODINGS
@pytest.mark.parametrize("text", ["a\n", "\t", "a\x1fb", "\x7f"])
def test_control_characters_are_refused_in_ids_only(media: str, text: str) -> None:
    error = refused(packed({"query": "x", "collection": text}, media), media, SearchRequest)

    assert error == FieldError("$.collection", NOT_IN_TEXT)
    assert decode(packed({"query": text}, media), media, SearchRequest).query == text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"query", "not valid JSON"),
        (b'{"query":"a"} x', "trailing characters"),
        (b'{"limit":NaN}', "not valid JSON"),
        (b'{"query":"\xff"}', "not valid UTF-8: invalid start byte at byte 0"),
        (b'{"qu\xffery":"a"}', "not valid UTF-8"),
        (b'{"query":"\\ud800"}', "not valid JSON"),
        (b'{"query":"\\udc00x"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"query":"a"}', "not valid JSON"),
        (b'{"documents":[{"metadata":' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"documents":[{"metadata":' + b'{"a":[' * 5_000 + b"]}" * 5_000 + b"}]}", "nested too deeply"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_what_is_no_json_is_malformed(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        decode(body, JSON, IngestRequest if body.startswith(b'{"doc') else SearchRequest)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid MessagePack"),
        (b"\x81\xa5que", "incomplete input"),
        (b"\x81\xa5query\xa1a\x01", "extra data"),
        (b"\xc1", "not valid MessagePack"),
        (b"\x81\xa5query\xa3\xff\xff\xff", "not valid UTF-8: invalid start byte at byte 0"),
        (b"\x81\xa5query\xa3\xed\xa0\x80", "not valid UTF-8: invalid continuation byte"),
        (b"\x81\xa5query" + msgpack.packb(msgpack.ExtType(5, b"x")), "extension type 5 is not part of the protocol"),
        (b"\x81\xa5query\xd6\xff", "incomplete input"),
        (b"\x81\xa5query\xc7\x03\xff\x00\x00\x00", "not valid MessagePack"),
        (b"\x81\x01\xa1x", "int is not allowed for map key"),
        (b"\x81\x91\x01\xa1x", "list is not allowed for map key"),
        (b"\x81\xc0\xa1x", "not allowed for map key"),
        (b"\x91" * 100_000, "nested too deeply"),
        (b"\x81\xa1a" * 100_000, "nested too deeply"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\xdf\xff\xff\xff\xff", "exceeds max_map_len"),
        (b"\xdb\xff\xff\xff\xffaa", "not valid MessagePack"),
        (b"\xc6\xff\xff\xff\xffaa", "not valid MessagePack"),
        (b"\xc9\xff\xff\xff\xff\x05aa", "not valid MessagePack"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else None,
)
def test_what_is_no_messagepack_is_malformed(body: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        decode(body, MSGPACK, SearchRequest)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_nesting_bomb_where_an_object_is_wanted_is_refused_at_its_first_byte(opening: bytes) -> None:
    with pytest.raises((InvalidFields, Malformed)):
        decode(opening * 1_000_000, JSON, SearchRequest)


def test_a_timestamp_is_no_text_and_no_time() -> None:
    moment = msgpack.packb({"turns": [TURN | {"created_at": msgpack.Timestamp(1)}]})

    assert refused(moment, MSGPACK, AppendRequest).path == "$.turns[0].created_at"
    assert refused(msgpack.packb({"query": msgpack.Timestamp(1)}), MSGPACK, SearchRequest).path == "$.query"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({b"query": "x"}, "$"),
        ({"fusion": {b"alpha": 1.0}}, "$.fusion"),
        ({"documents": [{"metadata": {b"a": 1}}]}, "$.documents[0].metadata"),
    ],
)
def test_a_key_of_bytes_is_refused_where_it_stands(value: dict[Any, Any], path: str) -> None:
    kind = IngestRequest if "documents" in value else SearchRequest

    assert refused(msgpack.packb(value), MSGPACK, kind) == FieldError(path, "a key is not text")


def test_raw_bytes_are_no_text_and_text_is_no_content() -> None:
    assert refused(msgpack.packb({"query": b"x"}), MSGPACK, SearchRequest).path == "$.query"
    assert refused(msgpack.packb({"documents": [{"content": "eA=="}]}), MSGPACK, IngestRequest).path == (
        "$.documents[0].content"
    )


def test_content_that_is_not_base64_is_named() -> None:
    error = refused(b'{"documents":[{"content":"!"}]}', JSON, IngestRequest)

    assert error == FieldError("$.documents[0].content", "Invalid base64 encoded string")


@ENCODINGS
@PROPERTY
@given(name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="`"), min_size=1))
def test_an_unknown_field_of_any_name_is_named(media: str, name: str) -> None:
    if name in SearchRequest.__struct_fields__:
        return

    assert refused(packed({name: 1}, media), media, SearchRequest) == FieldError(f"$.{name}", "unknown field")


def test_a_query_string_is_read_with_its_types() -> None:
    assert convert({"limit": "5", "cursor": "7"}, PageQuery, root="query") == PageQuery(limit=5, cursor="7")


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"limit": "ten"}, "query.limit", "Expected `int`, got `str`"),
        ({"limit": "0"}, "query.limit", "Expected `int` >= 1"),
        ({"limt": "5"}, "query.limt", "unknown field"),
        ({"cursor": "x" * 513}, "query.cursor", "Expected `str` of length <= 512"),
    ],
)
def test_a_query_string_that_does_not_fit_is_named(values: dict[str, str], path: str, message: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        convert(values, PageQuery, root="query")

    assert caught.value.errors == (FieldError(path, message),)


def test_a_part_of_a_path_that_does_not_fit_is_named() -> None:
    with pytest.raises(InvalidFields) as caught:
        convert("x" * 257, Id, root="path.collection")

    assert caught.value.errors == (FieldError("path.collection", "Expected `str` of length <= 256"),)


@pytest.mark.parametrize(
    ("content_type", "media"),
    [
        (None, JSON),
        ("", JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
        ("application/vnd.msgpack", MSGPACK),
    ],
)
def test_a_content_type_names_an_encoding(content_type: str | None, media: str) -> None:
    assert media_type(content_type) == media


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "json", "*/*", ";", "\udcff"])
def test_any_other_content_type_is_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia, match="send application/json or application/msgpack") as caught:
        media_type(content_type)
    assert encode(caught.value.detail, JSON)


@pytest.mark.parametrize(
    ("accept", "request_type", "answer"),
    [
        (None, None, JSON),
        (None, JSON, JSON),
        (None, MSGPACK, MSGPACK),
        (None, "application/x-msgpack; v=5", MSGPACK),
        (None, "text/plain", JSON),
        ("", MSGPACK, MSGPACK),
        (JSON, MSGPACK, JSON),
        (MSGPACK, JSON, MSGPACK),
        ("application/vnd.msgpack", JSON, MSGPACK),
        ("APPLICATION/MSGPACK", None, MSGPACK),
        ("application/problem+json", MSGPACK, JSON),
        ("application/problem+msgpack", JSON, MSGPACK),
        ("*/*", JSON, JSON),
        ("*/*", MSGPACK, MSGPACK),
        ("text/html, */*;q=0.8", MSGPACK, MSGPACK),
        ("application/json;q=0.5, application/msgpack", JSON, MSGPACK),
        ("application/json;q=0.5, application/msgpack;q=0.4", MSGPACK, JSON),
        ("application/msgpack;q=0.5, application/json;q=0.5", JSON, MSGPACK),
        ("application/json ; q=1.0 , application/msgpack ; q=0.9", MSGPACK, JSON),
        ("application/json;q=0", MSGPACK, MSGPACK),
        ("application/json;q=high", MSGPACK, MSGPACK),
        ("application/json;q=nan", MSGPACK, MSGPACK),
        ("application/json;v=1;q=0.1, application/msgpack;q=0.2", JSON, MSGPACK),
        (",;,;;", MSGPACK, MSGPACK),
    ],
)
def test_the_answer_is_in_what_accept_prefers_else_the_request_s_own(
    accept: str | None, request_type: str | None, answer: str
) -> None:
    assert negotiate(accept, request_type) == answer


@PROPERTY
@given(accept=st.text(), request_type=st.none() | st.text())
def test_any_accept_negotiates_one_of_the_two(accept: str, request_type: str | None) -> None:
    assert negotiate(accept, request_type) in {JSON, MSGPACK}
