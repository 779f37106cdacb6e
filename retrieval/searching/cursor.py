"""Paging through the results of a search. A cursor says how far the pages before it came, and of which search. Pure.

Nothing is kept for it on the server. As long as nothing is written to the collections, pages join without a gap or a
repetition; the answers' `sequence` tells whether something was.
"""

import hashlib
import re

import msgspec

from shared.errors import invalid
from shared.retrieval_messages import SearchRequest
from shared.wire import MSGPACK, encode

_CURSOR = re.compile(r"([0-9]{1,6})-([0-9a-f]{16})")


def offset_of(request: SearchRequest) -> int:
    """Raises InvalidFields for a cursor that no answer to this search gave."""
    if request.cursor is None:
        return 0
    found = _CURSOR.fullmatch(request.cursor)
    if found is None or found[2] != _digest(request):
        raise invalid("$.cursor", "not a cursor of this search; send next_cursor with the request that gave it")
    return int(found[1])


def cursor_after(request: SearchRequest, offset: int) -> str:
    return f"{offset}-{_digest(request)}"


def _digest(request: SearchRequest) -> str:
    """Of everything that decides the order of results; a page may have another size, and another budget."""
    same = msgspec.structs.replace(request, cursor=None, limit=1, max_tokens=None, explain=False)
    return hashlib.blake2b(encode(same, MSGPACK), digest_size=8).hexdigest()
