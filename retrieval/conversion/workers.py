"""Workers: processes that convert, started when a file needs one and stopped when none came for a while.

A worker that is late, dies or says nothing sensible is replaced, and only its file fails. It inherits no sockets, no
files and none of the environment, and ends when this process ends, because its standard input is a pipe from here.
"""

import asyncio
import contextlib
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

import msgspec
import structlog

from retrieval.conversion.framing import Answer, Request, read_frame, write_frame
from retrieval.conversion.limits import Unreadable
from shared.python_process import kill, pipes_of, start_python
from shared.threads import run_in

log = structlog.get_logger()

# Starting Python and importing a converter counts neither as the file's time nor for its memory.
_START_S: Final = 10.0


class _Worker:
    """Blocking: called from a thread of its own."""

    def __init__(self) -> None:
        self._process = start_python("retrieval.conversion.worker")
        self.is_late = False
        self._is_fresh = True

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, request: Request) -> Answer:
        """Raises Unreadable where no answer comes; the worker is dead then."""
        stdin, stdout = pipes_of(self._process)
        timer = threading.Timer(request.timeout_s + (_START_S if self._is_fresh else 0.0), self.give_up)
        timer.start()
        frame = None
        try:
            with contextlib.suppress(BrokenPipeError):
                write_frame(stdin, msgspec.msgpack.encode(request))
                frame = read_frame(stdout)
        finally:
            timer.cancel()
        if frame is None:
            self.kill()
            if self.is_late or self._process.returncode == -signal.SIGXCPU:
                raise Unreadable(f"took longer than {request.timeout_s:g} s to read (convert_timeout_s)")
            raise Unreadable(
                "broken or a bomb: its converter died of it, most likely at its limit of memory "
                "(convert_memory_bytes_max)"
            )
        self._is_fresh = False
        return msgspec.msgpack.decode(frame, type=Answer)

    def give_up(self) -> None:
        """From any thread: whoever waits for the answer gets none."""
        self.is_late = True
        self._process.kill()

    def kill(self) -> None:
        kill(self._process)


@dataclass(slots=True)
class _Errand:
    request: Request
    worker: _Worker | None = None
    is_unwanted: bool = False


class Workers:
    def __init__(self, *, processes: int, idle_s: float) -> None:
        self._idle_s = idle_s
        self._slots = asyncio.Semaphore(processes)
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="convert")
        self._resting: list[_Worker] = []
        self._errands: list[_Errand] = []
        self._stopping: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def processes(self) -> list[int]:
        """The ids of those that run now."""
        busy = [errand.worker for errand in self._errands if errand.worker is not None]
        return [worker.pid for worker in (*self._resting, *busy)]

    async def convert(self, request: Request) -> Answer:
        """Raises Unreadable where the worker did not survive it."""
        async with self._slots:
            if self._stopping is not None:
                self._stopping.cancel()
            errand = _Errand(request)
            self._errands.append(errand)
            try:
                return await run_in(self._threads, self._run, errand)
            except asyncio.CancelledError:
                _abandon(errand)
                raise
            finally:
                self._errands.remove(errand)
                self._stopping = asyncio.get_running_loop().call_later(self._idle_s, self._stop_resting)

    async def close(self) -> None:
        if self._stopping is not None:
            self._stopping.cancel()
        await asyncio.to_thread(self._close)

    def _run(self, errand: _Errand) -> Answer:
        if self._resting:
            worker = self._resting.pop()
            try:
                answer = self._ask(worker, errand)
            except Unreadable:
                if worker.is_late:
                    raise
                # It may have been killed while it rested, so its death says nothing of the file yet.
                worker = _Worker()
                answer = self._ask(worker, errand)
        else:
            worker = _Worker()
            answer = self._ask(worker, errand)
        self._resting.append(worker)
        if answer.defect:
            log.warning("converter_failed", error=answer.defect)
        return answer

    def _ask(self, worker: _Worker, errand: _Errand) -> Answer:
        errand.worker = worker
        if errand.is_unwanted:
            worker.give_up()
        return worker.ask(errand.request)

    def _stop_resting(self) -> None:
        while self._resting:
            self._threads.submit(self._resting.pop().kill)

    def _close(self) -> None:
        for errand in tuple(self._errands):
            _abandon(errand)
        self._threads.shutdown()
        while self._resting:
            self._resting.pop().kill()


def _abandon(errand: _Errand) -> None:
    """The thread is let go by ending what it waits for."""
    errand.is_unwanted = True
    if errand.worker is not None:
        errand.worker.give_up()
