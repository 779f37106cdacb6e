"""Blocking work goes to a pool of threads that ends with the service."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

from shared.threads import open_pool, run_in
from tests.harness import WAIT_S


def where(number: int, *, power: int) -> tuple[int, str]:
    return number**power, threading.current_thread().name


async def test_work_runs_in_a_thread_of_the_pool_with_its_arguments() -> None:
    async with AsyncExitStack() as stack:
        pool = open_pool(stack, 1, name="search")

        assert await run_in(pool, where, 3, power=2) == (9, "search_0")


async def test_what_the_work_raises_is_raised() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ZeroDivisionError):
            await run_in(open_pool(stack, 1, name="search"), divmod, 1, 0)


async def test_the_pool_ends_after_its_last_work() -> None:
    begun, released = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        begun.set()
        assert released.wait(WAIT_S)
        done.append("work")

    async with asyncio.timeout(WAIT_S):
        async with AsyncExitStack() as stack:
            pool = open_pool(stack, 1, name="search")
            working = asyncio.create_task(run_in(pool, work))
            await asyncio.to_thread(begun.wait, WAIT_S)
            released.set()
        await working

    assert done == ["work"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        await run_in(pool, where, 1, power=1)
