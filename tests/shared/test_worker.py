"""A worker's process does what it is told, dies without harm, and never outlives the service."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.errors import Unavailable
from shared.worker import Worker
from tests.harness import is_gone, until

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 20.0


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker("test", idle_s=WAIT_S)
    yield made
    await made.close()


async def test_it_answers_from_a_process_of_its_own_that_stays(worker: Worker) -> None:
    assert worker.pid is None

    assert await worker.call(divmod, 17, 5) == (3, 2)

    assert await worker.call(os.getpid) == worker.pid != os.getpid()


async def test_what_a_function_raises_is_raised_here_and_the_process_lives(worker: Worker) -> None:
    first = await worker.call(os.getpid)

    with pytest.raises(ZeroDivisionError):
        await worker.call(divmod, 17, 0)

    assert await worker.call(os.getpid) == first


async def test_what_a_function_prints_is_no_answer(worker: Worker) -> None:
    await worker.call(print, "no pickle")

    assert await worker.call(divmod, 1, 1) == (1, 0)


async def test_calls_at_once_take_turns(worker: Worker) -> None:
    assert await asyncio.gather(*(worker.call(divmod, number, 7) for number in range(50))) == [
        divmod(number, 7) for number in range(50)
    ]


async def test_a_process_killed_in_the_middle_is_replaced_and_the_call_done(worker: Worker) -> None:
    first = await worker.call(os.getpid)
    slow: asyncio.Task[object] = asyncio.create_task(worker.call(select.select, [], [], [], 1.0))
    await asyncio.sleep(0.2)

    os.kill(first, signal.SIGKILL)

    await slow
    assert worker.pid != first


async def test_a_call_that_kills_the_process_fails_alone(worker: Worker) -> None:
    with pytest.raises(Unavailable, match="test"):
        await worker.call(os._exit, 1)

    assert await worker.call(divmod, 17, 5) == (3, 2)


async def test_it_ends_when_idle_and_starts_when_needed() -> None:
    worker = Worker("test", idle_s=0.05)
    first = await worker.call(os.getpid)

    async def has_ended() -> bool:
        return worker.pid is None

    await until(has_ended)

    assert await asyncio.to_thread(is_gone, first)
    assert await worker.call(os.getpid) != first
    await worker.close()


async def test_it_does_not_end_by_a_signal_that_was_meant_for_the_service(worker: Worker) -> None:
    first = await worker.call(os.getpid)

    os.kill(first, signal.SIGTERM)

    assert await worker.call(os.getpid) == first


async def test_closing_waits_for_nothing_and_lets_nobody_wait(worker: Worker) -> None:
    pid = await worker.call(os.getpid)
    slow: asyncio.Task[object] = asyncio.create_task(worker.call(signal.pause))
    await asyncio.sleep(0.2)

    await asyncio.wait_for(worker.close(), WAIT_S)

    with pytest.raises(Unavailable):
        await slow
    with pytest.raises(Unavailable):
        await worker.call(divmod, 1, 1)
    assert await asyncio.to_thread(is_gone, pid)


@pytest.mark.parametrize("call", ["worker.call(divmod, 1, 1)", "asyncio.wait_for(worker.call(signal.pause), 0.5)"])
async def test_it_ends_with_a_service_that_was_killed(call: str) -> None:
    """At rest, and in the middle of a call."""
    program = f"""
import asyncio, contextlib, signal
from shared.worker import Worker

async def main():
    worker = Worker("test")
    with contextlib.suppress(TimeoutError):
        await {call}
    print(worker.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert service.stdout is not None
    pid = int(await asyncio.wait_for(service.stdout.readline(), WAIT_S))
    assert not await asyncio.to_thread(is_gone, pid)

    service.kill()
    await service.wait()

    async def has_ended() -> bool:
        return await asyncio.to_thread(is_gone, pid)

    await until(has_ended)
