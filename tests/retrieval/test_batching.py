"""Who shares a batch: decided from token counts alone."""

from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.models.batching import choose_batch

TOKENS = st.lists(st.integers(1, 400), min_size=1, max_size=64)


@given(tokens=TOKENS, tokens_max=st.integers(64, 1024))
@example(tokens=[400], tokens_max=64)
def test_a_batch_has_the_oldest_and_keeps_to_its_budget_unless_one_text_breaks_it(
    tokens: list[int], tokens_max: int
) -> None:
    chosen = choose_batch(tokens, tokens_max)

    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    assert len(chosen) == 1 or max(tokens[each] for each in chosen) * len(chosen) <= tokens_max


@given(tokens=TOKENS, tokens_max=st.integers(64, 1024))
def test_no_run_of_neighbours_by_length_that_holds_the_oldest_wastes_less(tokens: list[int], tokens_max: int) -> None:
    def share(lengths: list[int]) -> float:
        return sum(lengths) / (max(lengths) * len(lengths) + tokens_max / 8)

    chosen = sorted(tokens[each] for each in choose_batch(tokens, tokens_max))
    ordered = sorted(tokens)
    rivals = [
        ordered[first:last]
        for first in range(len(ordered))
        for last in range(first + 1, len(ordered) + 1)
        if tokens[0] in ordered[first:last] and ordered[last - 1] * (last - first) <= tokens_max
    ]

    assert all(share(chosen) >= share(rival) - 1e-9 for rival in rivals)


@given(tokens=TOKENS, tokens_max=st.integers(64, 1024))
def test_every_text_gets_its_turn_in_as_many_batches_as_there_are_texts_at_most(
    tokens: list[int], tokens_max: int
) -> None:
    waiting = list(enumerate(tokens))
    served: list[int] = []
    while waiting:
        oldest = waiting[0][0]
        chosen = set(choose_batch([length for _, length in waiting], tokens_max))
        batch = [waiting[each][0] for each in chosen]
        assert oldest in batch
        served += batch
        waiting = [work for place, work in enumerate(waiting) if place not in chosen]

    assert sorted(served) == list(range(len(tokens)))


def test_texts_of_like_length_are_put_together_whatever_their_order() -> None:
    assert sorted(choose_batch([100, 10, 100, 12, 101, 9], 512)) == [0, 2, 4]


def test_short_texts_gather() -> None:
    assert len(choose_batch([8] * 64, 512)) == 64
