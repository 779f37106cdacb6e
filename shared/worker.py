"""A process beside a service for pure functions that compute for long in Python.

In a thread of the service they would hold the interpreter: each statement of a writer, and each turn of the event loop, would
wait for them up to the interpreter's switch interval of 5 ms (measured: docs/ARCHITECTURE.md).
"""

import asyncio
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, TypeVarTuple

import structlog

from shared.errors import Unavailable
from shared.python_process import Process, kill, pipes_of, start_python
from shared.threads import run_in

log = structlog.get_logger()

ArgumentTs = TypeVarTuple("ArgumentTs")
ResultT = TypeVar("ResultT")

# Starting it again takes half a second; keeping it, some 50 MB.
IDLE_S: Final = 60.0
# A process that was killed says nothing of the call that it died in, until the next one dies of it too.
_ATTEMPTS: Final = 2


class Worker:
    """One call at a time, in the order of asking. The process is started when needed, ended when idle, and replaced where it
    dies. `close` is idempotent and ends the call in hand; later calls raise Unavailable."""

    def __init__(self, name: str, *, idle_s: float = IDLE_S) -> None:
        self._name = name
        self._idle_s = idle_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._process: Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process, if one runs now."""
        return self._process.pid if self._process is not None else None

    async def call(self, function: Callable[[*ArgumentTs], ResultT], *arguments: *ArgumentTs) -> ResultT:
        """Returns and raises what `function` does, which must be found by its name; all that is passed is pickled.

        Raises Unavailable where the process dies of it, or the worker is closed."""
        if self._closed:
            raise self._unavailable()
        self._keep()
        try:
            return await run_in(self._thread, self._call, function, arguments)
        finally:
            self._keep()

    async def close(self) -> None:
        self._closed = True
        if self._ending is not None:
            self._ending.cancel()
        if (process := self._process) is not None:
            process.kill()  # the thread is let go by ending what it waits for
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._end)

    def _keep(self) -> None:
        """For a while from now on."""
        if self._ending is not None:
            self._ending.cancel()
        if not self._closed:
            self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._thread.submit, self._end)

    def _call(self, function: Callable[..., ResultT], arguments: tuple[Any, ...]) -> ResultT:
        call = pickle.dumps((function, arguments))
        for _ in range(_ATTEMPTS):
            if self._closed:
                break
            self._process = self._process or start_python("shared.worker_process")
            stdin, stdout = pipes_of(self._process)
            try:
                stdin.write(call)
                stdin.flush()
                result, error = pickle.load(stdout)  # noqa: S301 - our own process, by a pipe that nobody else has
            except (EOFError, OSError, pickle.UnpicklingError):
                log.warning("worker_died", worker=self._name, pid=self._process.pid)
                self._end()
                continue
            if error is not None:
                raise error
            return result  # type: ignore[no-any-return]
        raise self._unavailable()

    def _end(self) -> None:
        if self._process is not None:
            kill(self._process)
            self._process = None

    def _unavailable(self) -> Unavailable:
        return Unavailable(f"the process that does the work of {self._name} is gone", retry_after_s=1.0)
