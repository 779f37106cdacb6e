"""Postings, against a dictionary of lists, before and after they are sorted."""

import gc
import random
from collections import Counter

from memory.recall.postings import Postings

TERMS = [f"term{number}" for number in range(300)]


def said(chance: random.Random) -> Counter[str]:
    """Some terms are in every third row, most in few."""
    return Counter(TERMS[int(len(TERMS) * chance.random() ** 3)] for _ in range(chance.randrange(30)))


def test_each_term_has_its_rows_in_order_whenever_it_is_asked_for() -> None:
    chance = random.Random(7)  # noqa: S311 - repeatable, no secret
    postings = Postings()
    naive: dict[str, dict[int, int]] = {}
    for row in range(3000):  # three times as much as stays unsorted
        counts = said(chance)
        postings.append(row, counts)
        for term, count in counts.items():
            naive.setdefault(term, {})[row] = count
        for term in chance.sample(TERMS, 2 if row % 50 else 20):
            rows, found = postings.of(term)
            assert dict(zip(rows.tolist(), found.tolist(), strict=True)) == naive.get(term, {})
            assert rows.tolist() == sorted(naive.get(term, {}))
            assert (term in postings) is (term in naive)


def test_a_row_without_terms_and_a_term_without_rows_are_nothing() -> None:
    postings = Postings()
    postings.append(0, {})

    assert [part.tolist() for part in postings.of("absent")] == [[], []]
    assert "absent" not in postings


def test_thousands_of_terms_are_few_objects_to_the_garbage_collector() -> None:
    postings = Postings()
    gc.collect()
    before = len(gc.get_objects())
    for row in range(2000):
        postings.append(row, {f"own{row}": 1, f"too{row}": 2, "shared": 3})
    postings.of("shared")

    assert len(gc.get_objects()) - before < 100
