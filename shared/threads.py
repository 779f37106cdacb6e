"""Pools of threads that end with the service, and the typed hand-over of blocking work to one of them.

`run_in` is for work of any kind. Where every request hands something over, the two futures of an executor, their chain and a wake
of the event loop for each answer cost more than many a read: there a coroutine waits for an `Asked`, and a thread answers all that
it has done with one wake. Measured: 5 microseconds of processor time a hand-over for 17.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any, Generic, ParamSpec, TypeVar

from shared.errors import Unavailable

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


class Asked(Generic[ResultT]):
    """What a coroutine has asked a thread to do. To be made where its event loop runs."""

    __slots__ = ("function", "future", "loop")

    def __init__(self, function: Callable[..., ResultT]) -> None:
        self.function = function
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[ResultT] = self.loop.create_future()

    @property
    def is_abandoned(self) -> bool:
        """Whoever asked no longer waits."""
        return self.future.cancelled()


# What was asked, the result, and what was raised instead of one.
Answer = tuple[Asked[Any], Any, BaseException | None]


def answer(answers: Sequence[Answer]) -> None:
    """Tells those who wait, from the thread that did the work."""
    for loop in {asked.loop for asked, _, _ in answers}:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            loop.call_soon_threadsafe(_tell, [each for each in answers if each[0].loop is loop])


def _tell(answers: Sequence[Answer]) -> None:
    for asked, result, raised in answers:
        if asked.future.done():  # cancelled meanwhile
            continue
        if raised is not None:
            asked.future.set_exception(raised)
        else:
            asked.future.set_result(result)


class Hands:
    """A few threads that do what they are asked, in order. `close` is idempotent and finishes what was asked; later use raises
    Unavailable with `closed`."""

    def __init__(self, threads: int, *, name: str, closed: str) -> None:
        self._closed_because = closed
        self._queue: queue.SimpleQueue[Asked[Any] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def do(self, function: Callable[[], ResultT]) -> ResultT:
        asked = Asked(function)
        with self._closing:  # so that nothing is queued behind the threads' last entries
            if self._closed:
                raise Unavailable(self._closed_because, retry_after_s=1.0)
            self._queue.put(asked)
        return await asked.future

    def close(self) -> None:
        with self._closing:
            if not self._closed:
                self._closed = True
                for _ in self._threads:
                    self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (asked := self._queue.get()) is not None:
            if not asked.is_abandoned:
                answer([_done(asked)])
            # What it holds must not wait here for the next.
            del asked


def _done(asked: Asked[Any]) -> Answer:
    try:
        return asked, asked.function(), None
    except BaseException as error:  # noqa: BLE001 - a worker's loop: handed to whoever asked
        return asked, None, error
