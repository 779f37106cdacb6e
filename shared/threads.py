"""Pools of threads that end with the service, and the typed hand-over of blocking work to one of them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
ResultT = TypeVar("ResultT")


def open_pool(
    stack: AsyncExitStack, threads: int, *, name: str, initializer: Callable[[], None] | None = None
) -> ThreadPoolExecutor:
    """A pool that is shut down when `stack` closes, off the event loop, since its last work may take a moment."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name, initializer=initializer)
    stack.push_async_callback(asyncio.to_thread, pool.shutdown)
    return pool


async def run_in(
    pool: ThreadPoolExecutor,
    function: Callable[Parameters, ResultT],
    *arguments: Parameters.args,
    **options: Parameters.kwargs,
) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: function(*arguments, **options))
