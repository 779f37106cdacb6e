"""Both encodings are measured on the same message."""

import zlib

import numpy as np

from benchmarks.wire import Sample, measured
from diptych import TurnIn, Vector
from shared.memory_messages import AppendRequest
from shared.retrieval_messages import SearchRequest
from shared.wire import JSON, MSGPACK, encode


def test_each_encoding_has_its_bytes_and_as_many_samples_as_rounds() -> None:
    message = AppendRequest(user_id="ada", turns=[TurnIn(id="1", role="user", content="We deploy on Fridays.")])
    found = measured(Sample("append", message), rounds=5)
    for each, media in zip(found.encoded, (JSON, MSGPACK), strict=True):
        data = encode(message, media)
        assert (each.bytes, each.compressed_bytes) == (len(data), len(zlib.compress(data)))
        assert each.encode_us.count == each.decode_us.count == 5


def test_vectors_are_a_third_smaller_or_more_as_messagepack() -> None:
    message = SearchRequest(vector=Vector(np.linspace(0, 1, 384, dtype=np.float32)))
    text, packed = measured(Sample("search", message), rounds=1).encoded
    assert packed.bytes < text.bytes * 2 / 3
