"""Typed hand-over of blocking work to a given pool of threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
ResultT = TypeVar("ResultT")


async def run_in(
    pool: ThreadPoolExecutor,
    function: Callable[Parameters, ResultT],
    *arguments: Parameters.args,
    **options: Parameters.kwargs,
) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: function(*arguments, **options))
