"""The gate: never more than there is, never more than a share, and whoever holds least is next."""

import asyncio
import random
from collections import Counter

import pytest

from retrieval.jobs.fairness import FairGate


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_whoever_holds_least_is_next() -> None:
    gate, order = FairGate(2), list[str]()

    async def take(key: str) -> None:
        await gate.acquire(key)
        order.append(key)

    tasks = [asyncio.create_task(take(key)) for key in ("a", "a", "a", "a", "b", "c", "b")]
    await turns()
    for key in ("a", "a", "b", "c", "a"):  # each time some of those who hold nothing wait
        gate.release(key)
        await turns()

    assert order == ["a", "a", "b", "a", "c", "b", "a"]
    await asyncio.gather(*tasks)


async def test_a_share_leaves_room_for_newcomers() -> None:
    gate = FairGate(4, share_max=2)
    await gate.acquire("a")
    await gate.acquire("a")
    third = asyncio.create_task(gate.acquire("a"))
    await turns()

    await asyncio.wait_for(gate.acquire("b"), 1)
    assert not third.done()
    gate.release("a")
    await asyncio.wait_for(third, 1)


async def test_more_than_there_is_is_let_through_alone() -> None:
    gate = FairGate(10)
    await gate.acquire("a", 1000)
    other = asyncio.create_task(gate.acquire("b"))
    await turns()
    assert not other.done()
    gate.release("a", 1000)
    await asyncio.wait_for(other, 1)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_is_cancelled_nothing_is_lost_and_nothing_is_given_twice(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's dice
    gate, held, highest = FairGate(7, share_max=5), Counter[str](), 0

    async def use(key: str, amount: int) -> None:
        nonlocal highest
        await gate.acquire(key, amount)
        held[key] += min(amount, 5)
        highest = max(highest, held.total())
        assert held[key] <= 5
        try:
            await turns(chance.randrange(4))
        finally:
            held[key] -= min(amount, 5)
            gate.release(key, amount)

    tasks = [asyncio.create_task(use(chance.choice("abc"), chance.randint(1, 6))) for _ in range(60)]
    for task in chance.sample(tasks, 20):
        await turns(chance.randrange(3))
        task.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks, return_exceptions=True)
        # Everything is free again.
        await asyncio.gather(gate.acquire("a", 5), gate.acquire("b", 2))

    assert highest <= 7
