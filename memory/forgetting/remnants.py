"""Looks for erased bytes where no row is any more: in the unused space of a database's pages. Pure.

`secure_delete` overwrites a row where it lay when it was deleted. It does not overwrite the copies that SQLite left behind
when it moved the row to another page before that: of some thousands of erased rows a few were measured to stay readable so. They lie
between the array of cell pointers and the first cell, or in freed blocks between cells
(https://www.sqlite.org/fileformat.html#b_tree_pages). Only there is looked, so that words which somebody else said too are
no remnant. Freed pages and overflow pages are overwritten whole by `secure_delete`.
"""

import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

_WORD: Final = 8
# Windows of 16 bytes, one after the other: any 31 bytes in a row hold one. Shorter pieces are in every other text as well.
_WINDOW: Final = 2 * _WORD
_FILE_HEADER: Final = 100
# By kind of page, the size of its header: interior index and table, leaf index and table.
_HEADERS: Final = {2: 12, 5: 12, 10: 8, 13: 8}
# Between pieces, so that no window reaches from one into the next.
_BREAK: Final = bytes(_WINDOW)


class Needles:
    """Texts to look for, as windows."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        whole = b"".join(text[: len(text) // _WINDOW * _WINDOW] for text in texts)
        windows = np.frombuffer(whole, dtype="<u8").reshape(-1, 2)
        # Zeros are what overwritten space looks like.
        windows = windows[windows.all(axis=1)]
        self._firsts: Words = np.sort(windows[:, 0])
        self._pairs: Words = np.sort(_mixed(windows[:, 0], windows[:, 1]))

    def __len__(self) -> int:
        return len(self._pairs)

    def are_in(self, hay: bytes) -> bool:
        if not len(self) or len(hay) < _WINDOW:
            return False
        return any(self._are_in_words(hay, shift) for shift in range(_WORD))

    def _are_in_words(self, hay: bytes, shift: int) -> bool:
        words: Words = np.frombuffer(hay, dtype="<u8", offset=shift, count=(len(hay) - shift) // _WORD)
        firsts = words[:-1]
        near = np.flatnonzero(_holds(self._firsts, firsts))
        return bool(len(near)) and bool(_holds(self._pairs, _mixed(firsts[near], words[near + 1])).any())


def unused(raw: bytes, page_bytes: int, *, at_start: bool) -> bytes:
    """The bytes of whole pages that belong to no cell, pieces of zeros left out. `at_start` where the file begins with them."""
    found: list[bytes] = []
    for start in range(0, len(raw) - page_bytes + 1, page_bytes):
        header = _FILE_HEADER if at_start and start == 0 else 0
        found += _unused_of(raw[start : start + page_bytes], header)
    return _BREAK.join(found)


def page_bytes_of(raw: bytes) -> int:
    """From the file's first 100 bytes."""
    size: int = struct.unpack_from(">H", raw, 16)[0]
    return 65536 if size == 1 else size


def _unused_of(page: bytes, header: int) -> list[bytes]:
    size = _HEADERS.get(page[header])
    if size is None:
        return []
    freeblock, cells, content = struct.unpack_from(">HHH", page, header + 1)
    pieces = [page[header + size + 2 * cells : content or len(page)]]
    # A page that is no b-tree's looks like one now and then: follow no more than can be.
    while header < freeblock <= len(page) - 4:
        following, length = struct.unpack_from(">HH", page, freeblock)
        pieces.append(page[freeblock + 4 : freeblock + length])
        if following <= freeblock:
            break
        freeblock = following
    return [kept for piece in pieces if len(kept := piece.strip(b"\0")) >= _WINDOW - 1]


def _mixed(first: Words, second: Words) -> Words:
    """One number of two, by a multiplier that spreads its bits (SplitMix64's)."""
    return first * np.uint64(0xBF58476D1CE4E5B9) ^ second


def _holds(ordered: Words, words: Words) -> NDArray[np.bool_]:
    places = np.searchsorted(ordered, words)
    return np.asarray(ordered[np.minimum(places, len(ordered) - 1)] == words)
