"""Pages follow one another without gap or repetition, and the last one says so."""

from hypothesis import given
from hypothesis import strategies as st

from shared.paging import Page, numbered_page, page_of
from tests.shared.strategies import PROPERTY


def test_one_more_than_the_limit_means_another_page() -> None:
    assert page_of(["a", "b", "c"], 2, key=str.upper) == Page(["a", "b"], "B")


def test_exactly_the_limit_is_the_last_page() -> None:
    assert page_of(["a", "b"], 2, key=str.upper) == Page(["a", "b"], None)


def test_nothing_found_is_an_empty_last_page() -> None:
    assert page_of([], 2, key=str) == Page([], None)


def test_the_cursor_of_numbered_items_is_a_number() -> None:
    assert numbered_page([(3, "a"), (7, "b"), (9, "c")], 2) == Page(["a", "b"], "7")
    assert numbered_page([(3, "a")], 2) == Page(["a"], None)


@PROPERTY
@given(names=st.sets(st.text(min_size=1)), limit=st.integers(1, 5))
def test_following_the_cursor_sees_everything_once(names: set[str], limit: int) -> None:
    ordered, seen, cursor = sorted(names), list[str](), ""
    while True:
        page = page_of([name for name in ordered if name > cursor][: limit + 1], limit, key=str)
        assert len(page.items) <= limit
        seen += page.items
        if page.next_cursor is None:
            break
        cursor = page.next_cursor

    assert seen == ordered
