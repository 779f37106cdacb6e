"""The estimate is the same for everybody, and a budget kept part by part is kept by the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.tokens import estimate_tokens
from tests.shared.strategies import PROPERTY

TEXTS = st.text(st.characters())


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("a" * 400, 100),
        ("é", 1),  # two bytes
        ("日", 1),  # three bytes
        ("日本", 2),
        ("日本語" * 10, 30),
        ("ab日", 2),  # a half and a whole
        ("abcd日", 2),
        ("😀", 2),  # four bytes
        ("\ud800", 1),  # no valid text, and still counted
    ],
)
def test_four_ascii_characters_or_three_other_bytes_are_a_token(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@PROPERTY
@given(first=TEXTS, second=TEXTS)
def test_texts_joined_cost_no_more_than_apart(first: str, second: str) -> None:
    assert estimate_tokens(first + second) <= estimate_tokens(first) + estimate_tokens(second)


@PROPERTY
@given(first=TEXTS, second=TEXTS)
def test_a_longer_text_costs_no_less(first: str, second: str) -> None:
    assert estimate_tokens(first + second) >= max(estimate_tokens(first), estimate_tokens(second))


@PROPERTY
@given(text=st.text(st.characters(), min_size=1))
def test_no_text_is_free(text: str) -> None:
    assert estimate_tokens(text) >= 1
