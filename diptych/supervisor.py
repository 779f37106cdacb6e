"""Both services as child processes of one supervisor.

It starts them, waits until both are ready, and stays. A signal stops both cleanly; when a child dies, the other is stopped
and the death is reported, because half a pair that looks alive is worse than none.
"""

import asyncio
import os
import secrets
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from diptych.memory_client import MemoryClient
from diptych.ports import why_not_free
from shared.client import ServiceClient
from shared.errors import DiptychError, Unavailable
from shared.retrieval_client import RetrievalClient

_POLL_S: Final = 0.1
# A child that does not end after its own drain time is stuck.
_KILL_AFTER_S: Final = 20.0


class ChildDied(DiptychError):
    """A service ended by itself."""


class PortTaken(DiptychError):
    """Something else listens where a service should."""


@dataclass(frozen=True, slots=True)
class Child:
    name: str
    process: Process


class Supervisor:
    """Use as an async context manager: leaving it stops what it started."""

    def __init__(self, *, host: str, retrieval_port: int, memory_port: int, environment: Mapping[str, str]) -> None:
        reach = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        reach = f"[{reach}]" if ":" in reach else reach
        self.retrieval_url = f"http://{reach}:{retrieval_port}"
        self.memory_url = f"http://{reach}:{memory_port}"
        self._host = host
        self._ports = {"retrieval": retrieval_port, "memory": memory_port}
        self._environment = {
            # Made anew at each start unless configured: nothing else ever needs it.
            "DIPTYCH_SERVICE_KEY": secrets.token_urlsafe(32),
            **os.environ,
            **environment,
            "DIPTYCH_RETRIEVAL_URL": self.retrieval_url,
        }
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        """Raises PortTaken: whoever listens there would be taken for the child, and for ready."""
        for port in self._ports.values():
            if reason := why_not_free(self._host, port):
                raise PortTaken(f"cannot listen on {self._host}:{port}: {reason}")
        self._stop_when_terminated()
        try:
            for name, port in self._ports.items():
                self._children.append(await self._start(name, port))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)

    async def wait_ready(self, timeout_s: float) -> None:
        """Raises ChildDied, or Unavailable when it takes too long."""
        async with RetrievalClient(self.retrieval_url) as retrieval, MemoryClient(self.memory_url) as memory:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._while_alive(_until_ready(retrieval), _until_ready(memory))
            except TimeoutError as error:
                raise Unavailable(f"the services were not ready within {timeout_s:g} s") from error

    async def run(self, announce: Callable[[], None]) -> None:
        """Until SIGINT or SIGTERM. Calls `announce` once neither can be missed. Raises ChildDied."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        announce()
        await self._while_alive(stop.wait())

    async def stop(self) -> None:
        """Asks both to end, and ends what does not. Idempotent."""
        for child in self._children:
            if child.process.returncode is None:
                child.process.terminate()
        try:
            async with asyncio.timeout(_KILL_AFTER_S):
                await asyncio.gather(*(child.process.wait() for child in self._children))
        except TimeoutError:
            for child in self._children:
                if child.process.returncode is None:
                    child.process.kill()
            await asyncio.gather(*(child.process.wait() for child in self._children))

    @property
    def pids(self) -> dict[str, int]:
        return {child.name: child.process.pid for child in self._children}

    def _stop_when_terminated(self) -> None:
        """Until `run`, SIGTERM cancels the task that waits here, as SIGINT does by itself. Without that the process would
        end at once and leave its children behind."""
        if task := asyncio.current_task():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)

    async def _start(self, name: str, port: int) -> Child:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", name, "--host", self._host, "--port", str(port)),
            stdin=asyncio.subprocess.DEVNULL,  # ours may be what somebody ends us with
            env=self._environment,
        )
        return Child(name, process)

    async def _while_alive(self, *work: Awaitable[object]) -> None:
        """Until all of `work` is done. Raises ChildDied as soon as a child has ended."""
        doing: asyncio.Future[list[object]] = asyncio.gather(*work)
        deaths = [asyncio.ensure_future(child.process.wait()) for child in self._children]
        watched: list[asyncio.Future[Any]] = [doing, *deaths]
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                await doing
                return
            dead = next(child for child in self._children if child.process.returncode is not None)
            raise ChildDied(f"{dead.name} ended with {_ending(dead.process.returncode or 0)}; the pair is stopped")
        finally:
            for future in watched:
                future.cancel()
            await asyncio.gather(*watched, return_exceptions=True)


async def _until_ready(client: ServiceClient) -> None:
    while True:
        try:
            await client.ready()
        except Unavailable:
            await asyncio.sleep(_POLL_S)
        else:
            return


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
