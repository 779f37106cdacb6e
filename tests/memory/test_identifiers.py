"""What is found in a text, kind by kind, and what is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.text.identifiers import find, is_weak_path
from tests.memory.hostile import GROWTH_MAX, HOSTILE_UNITS, growth


def found(text: str) -> list[tuple[str, str]]:
    return [(each.kind, each.text) for each in sorted(find(text), key=lambda each: each.start)]


def of_kind(kind: str, text: str) -> list[str]:
    return [each for known, each in found(text) if known == kind]


PATHS = {
    "see src/app/main.py:12:4 please": "src/app/main.py",
    "start ./run.sh now": "./run.sh",
    "in ~/.config/tool/settings.toml.": "~/.config/tool/settings.toml",
    r"C:\Users\ada\notes.txt": r"C:\Users\ada\notes.txt",
    'File "/srv/app/store.py", line 30, in load': "/srv/app/store.py",
    "at load (/app/src/index.js:10:15)": "/app/src/index.js",
    "src/a.ts(12,5): error": "src/a.ts",
    "diff --git a/src/x.py": "src/x.py",
    "[the guide](docs/guide.md)": "docs/guide.md",
    "FAILED tests/test_a.py::test_b[1-2] - x": "tests/test_a.py::test_b[1-2]",
    "GET /v1/users/42?limit=10 HTTP/1.1": "/v1/users/42?limit=10",
    "edit .env first": ".env",
    "the Makefile is old": "Makefile",
    "`memory/app` is where": "memory/app",
    "file=/var/log/app.log;": "/var/log/app.log",
}
URLS = {
    "at https://a.example/b?c=d#e, then": "https://a.example/b?c=d#e",
    "(https://en.example.org/wiki/A_(b))": "https://en.example.org/wiki/A_(b)",
    "<http://x.example/z>.": "http://x.example/z",
    "psql postgres://app@db-1.example:5432/orders -c x": "postgres://app@db-1.example:5432/orders",
    "http://localhost:8080/healthz!": "http://localhost:8080/healthz",
    "见https://例え.example/パス。": "https://例え.example/パス",
}
EMAILS = {
    "ask ada.lovelace@mail.example.co.uk.": "ada.lovelace@mail.example.co.uk",
    "<bob+x@example.org>": "bob+x@example.org",
}
IDS = {
    "{550e8400-e29b-41d4-a716-446655440000}": "550e8400-e29b-41d4-a716-446655440000",
    "commit 3f2a91c fixed": "3f2a91c",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "sha256:abcdef123456": "sha256:abcdef123456",
    "closes #123.": "#123",
    "see PAY-42:": "PAY-42",
    "at 0x7fff": "0x7fff",
    "request_id=req_8k2j3n4m5p status=200": "req_8k2j3n4m5p",
    "10.0.3.17:5432": "10.0.3.17:5432",
    "2001:db8::1": "2001:db8::1",
    "00:1a:2b:3c:4d:5e": "00:1a:2b:3c:4d:5e",
    "arn:aws:s3:::bucket/key": "arn:aws:s3:::bucket/key",
    "AKIAIOSFODNN7EXAMPLE": "AKIAIOSFODNN7EXAMPLE",
    "INV-2024-0042": "INV-2024-0042",
}
NUMBERS = {
    "took 412 ms": "412 ms",
    "3.5GiB of memory": "3.5GiB",
    "99.9%": "99.9%",
    "1,234,567 rows": "1,234,567",
    "p95=412ms": "412ms",
    '{"total": 17}': "17",
    "in 1m30s": "1m30s",
    "1e-5": "1e-5",
    "(42)": "42",
    "at 5 GB/s": "5 GB/s",
    "50k/day": "50k/day",
    "port:8080": "8080",
}
MONEY = {
    "$1,299.00.": "$1,299.00",
    "€1.200,50": "€1.200,50",
    "12.50 USD": "12.50 USD",
    "USD 300": "USD 300",
    "$5 million": "$5 million",
    "$0.02/req": "$0.02/req",
    "价格¥1,200元": "¥1,200",
}
VERSIONS = {"v1.2.3": "v1.2.3", "2.0.0-rc1": "2.0.0-rc1", "Python 3.11.7,": "3.11.7", ">=1.4.0,<2": "1.4.0"}
DATES = {
    "at 2024-03-05T12:30:00Z": "2024-03-05T12:30:00Z",
    "2024-03-05 12:30:01,123 INFO": "2024-03-05 12:30:01,123",
    "on 5 March 2024": "5 March 2024",
    "March 5, 2024": "March 5, 2024",
    "by 14:05": "14:05",
    "3/4/2024": "3/4/2024",
    "Mar 05 12:01:02 host": "Mar 05 12:01:02",
    "at 3pm": "3pm",
    "2024年3月5日に": "2024年3月5日",
}
CASES = [
    (kind, text, expected)
    for kind, cases in (
        ("path", PATHS), ("url", URLS), ("email", EMAILS), ("id", IDS), ("number", NUMBERS), ("money", MONEY), ("version", VERSIONS), ("date", DATES),
    )
    for text, expected in cases.items()
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "expected"), CASES)
def test_it_is_found_whole(kind: str, text: str, expected: str) -> None:
    assert expected in of_kind(kind, text)


@pytest.mark.parametrize(
    "text",
    ["and/or", "client/server", "application/json", "text/html", "HTTP/1.1", "UTF-8 and SHA-256", "x86_64", "COVID-19", "a/b", "...", "e.g. this"],
)  # fmt: skip
def test_words_that_look_alike_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_places_in_files_are_numbers_of_their_own() -> None:
    assert found("src/app.py:12:4") == [("path", "src/app.py"), ("number", "12"), ("number", "4")]


def test_bounds_of_a_range_are_told_apart() -> None:
    assert found("sed -n '20,90p'; 10-20 of 12/15, 50%→80%") == [
        ("number", each) for each in ("20", "90p", "10", "20", "12", "15", "50%", "80%")
    ]


def test_what_is_part_of_a_larger_one_is_not_told_again() -> None:
    assert found("https://ci.example/runs/8812?at=2024-03-05") == [
        ("url", "https://ci.example/runs/8812?at=2024-03-05")
    ]


def test_two_words_with_a_slash_are_a_path_where_they_are_marked_as_code() -> None:
    assert is_weak_path("memory/app")
    assert found("memory/app and `memory/app`") == [("path", "memory/app")]


def test_encoded_data_is_no_identifier() -> None:
    assert found("data " + "QUJDRA1x" * 100) == []


@given(st.text(max_size=300) | st.lists(st.sampled_from(HOSTILE_UNITS), max_size=60).map("".join))
def test_what_is_found_stands_in_the_text_where_it_says_and_nothing_overlaps(text: str) -> None:
    end = 0
    for each in sorted(find(text), key=lambda each: each.start):
        assert each.text
        assert text[each.start : each.start + len(each.text)] == each.text
        assert each.start >= end
        end = each.start + len(each.text)


@pytest.mark.parametrize("unit", HOSTILE_UNITS)
def test_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    assert growth(find, unit) < GROWTH_MAX
