"""Erased bytes are seen where SQLite leaves them, and live ones are not taken for them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.forgetting.remnants import Needles, page_bytes_of, unused

pytestmark = pytest.mark.blocking


def text_of(number: int) -> str:
    """Without 16 bytes that another one has."""
    return f"{number:05d} {number * 7919:08d} " * (2 + number * 7919 % 60)


def made(path: Path, *, secure: bool, page_bytes: int = 4096) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute(f"PRAGMA secure_delete = {'ON' if secure else 'OFF'}")
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO rows VALUES (?, ?)", [(number, text_of(number)) for number in range(500)])
    connection.execute("COMMIT")
    return connection


def remains(path: Path, texts: list[str]) -> bool:
    raw = path.read_bytes()
    return Needles(text.encode() for text in texts).are_in(unused(raw, page_bytes_of(raw), at_start=True))


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_rows_that_were_not_overwritten_are_seen_until_the_file_is_written_anew(
    tmp_path: Path, page_bytes: int
) -> None:
    with closing(made(tmp_path / "x.db", secure=False, page_bytes=page_bytes)) as connection:
        gone = sorted(range(500), key=lambda number: number * 7919 % 500)[:100]
        connection.execute("BEGIN")
        connection.executemany("DELETE FROM rows WHERE id = ?", [(number,) for number in gone])
        connection.execute("COMMIT")

        assert remains(tmp_path / "x.db", [text_of(number) for number in gone])
        connection.execute("VACUUM")
        assert not remains(tmp_path / "x.db", [text_of(number) for number in gone])


def test_a_row_that_says_the_same_and_lives_is_no_remnant(tmp_path: Path) -> None:
    with closing(made(tmp_path / "x.db", secure=True)) as connection:
        connection.execute("INSERT INTO rows VALUES (1000, ?)", (text_of(7),))
        connection.execute("DELETE FROM rows WHERE id = 7")
        assert text_of(7).encode() in (tmp_path / "x.db").read_bytes()
        assert not remains(tmp_path / "x.db", [text_of(7)])


@given(st.binary(min_size=31, max_size=200), st.integers(0, 100), st.binary(max_size=40), st.binary(max_size=40))
def test_any_piece_of_31_bytes_is_found_at_any_place(text: bytes, start: int, before: bytes, after: bytes) -> None:
    text = bytes(byte or 1 for byte in text)
    start = min(start, len(text) - 31)
    assert Needles([text]).are_in(before + text[start : start + 31] + after)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_what_shares_no_16_bytes_is_not_found(text: bytes, hay: bytes) -> None:
    shared = any(text[at : at + 16] in hay for at in range(len(text) - 15))
    assert shared or not Needles([text]).are_in(hay)


def test_zeros_and_nothing_are_never_found() -> None:
    assert not Needles([bytes(64)]).are_in(bytes(64))
    assert not Needles([]).are_in(b"x" * 64)
    assert not Needles([b"short"]).are_in(b"short")
    assert not Needles([b"x" * 64]).are_in(b"")
