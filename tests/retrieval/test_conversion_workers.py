"""Workers: what happens to a converter happens to one file only."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from retrieval.conversion.framing import Request
from retrieval.conversion.limits import Unreadable
from retrieval.conversion.workers import Workers
from tests.harness import WAIT_S, is_gone, until
from tests.retrieval import files

MEMORY = 512 * 1024 * 1024
ROOT = Path(__file__).parent.parent.parent
MANY = "[" + "[]," * 6_000_000 + "[]]"
SLOW = "<p>x</p>" * 400_000


def request(
    content: bytes | None = None, *, text: str | None = None, kind: str | None = None, **options: int
) -> Request:
    chosen = {
        "timeout_s": 60,
        "memory_bytes_max": MEMORY,
        "characters_max": 100_000_000,
        "pages_max": 100,
        "unzipped_bytes_max": 1 << 30,
        "unzipped_ratio_max": 2000,
        **options,
    }
    return Request(text=text, content=content, declared=kind, file_name="", **chosen)


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    async with Workers(processes=2, idle_s=60) as running:
        yield running


async def test_nothing_runs_before_a_file_needs_it_and_one_process_serves_many(workers: Workers) -> None:
    content = await asyncio.to_thread(files.pdf)
    assert workers.processes == []

    first = await workers.convert(request(content))
    pids = workers.processes
    second = await workers.convert(request(content))

    assert first == second
    assert first.parsed is not None
    assert "ninety" in first.parsed.text
    assert (len(pids), workers.processes) == (1, pids)


async def test_processes_end_when_nothing_comes() -> None:
    async with Workers(processes=1, idle_s=0.05) as workers:
        await workers.convert(request(text="# a", kind="text/markdown"))
        (pid,) = workers.processes or [0]

        await until(lambda: asyncio.to_thread(is_gone, pid))
        assert workers.processes == []
        assert (await workers.convert(request(text="# a", kind="text/markdown"))).parsed is not None


async def test_a_file_that_takes_too_long_fails_and_the_next_is_read(workers: Workers) -> None:
    await workers.convert(request(text="# a", kind="text/markdown"))  # a start is not counted
    with pytest.raises(Unreadable, match=r"took longer than 1 s to read \(convert_timeout_s\)"):
        await workers.convert(request(text=SLOW, kind="text/html", timeout_s=1, memory_bytes_max=4 << 30))

    assert (await workers.convert(request(text="# a", kind="text/markdown"))).parsed is not None


async def test_a_file_that_takes_too_much_memory_fails_and_the_next_is_read(workers: Workers) -> None:
    sparse = await asyncio.to_thread(files.sparse_workbook)
    reasons = []
    for bomb in (request(sparse), request(text=MANY, kind="application/json", memory_bytes_max=256 << 20)):
        try:
            reasons.append((await workers.convert(bomb)).reason or "")
        except Unreadable as error:
            reasons.append(str(error))

    assert all("convert_memory_bytes_max" in reason for reason in reasons)
    assert (await workers.convert(request(text="# a", kind="text/markdown"))).parsed is not None


async def test_a_pdf_that_unpacks_to_gigabytes_fails_alone(workers: Workers) -> None:
    bomb = await asyncio.to_thread(files.pdf_bomb, 400 * 1024 * 1024)
    assert len(bomb) < 10_000

    try:
        reason = (await workers.convert(request(bomb, timeout_s=20))).reason
    except Unreadable as error:
        reason = str(error)

    assert reason
    assert (await workers.convert(request(text="# a", kind="text/markdown"))).parsed is not None


async def test_a_worker_that_is_killed_at_work_fails_its_file_only(workers: Workers) -> None:
    slow = asyncio.create_task(workers.convert(request(text=SLOW, kind="text/html", memory_bytes_max=4 << 30)))

    async def is_running() -> bool:
        return bool(workers.processes)

    await until(is_running)
    other = asyncio.create_task(workers.convert(request(text="# a", kind="text/markdown")))
    os.kill(workers.processes[0], signal.SIGKILL)

    with pytest.raises(Unreadable, match="its converter died"):
        await slow
    assert (await other).parsed is not None


async def test_a_worker_that_is_killed_at_rest_is_replaced_unnoticed(workers: Workers) -> None:
    await workers.convert(request(text="# a", kind="text/markdown"))
    (pid,) = workers.processes
    os.kill(pid, signal.SIGKILL)
    await until(lambda: asyncio.to_thread(is_gone, pid))

    assert (await workers.convert(request(text="# a", kind="text/markdown"))).parsed is not None
    assert workers.processes != [pid]


async def test_work_that_nobody_waits_for_is_ended(workers: Workers) -> None:
    task = asyncio.create_task(workers.convert(request(text=SLOW, kind="text/html", memory_bytes_max=4 << 30)))

    async def is_running() -> bool:
        return bool(workers.processes)

    await until(is_running)
    (pid,) = workers.processes
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: asyncio.to_thread(is_gone, pid))


async def test_closing_ends_every_process_at_once() -> None:
    workers = Workers(processes=2, idle_s=60)
    await workers.convert(request(text="# a", kind="text/markdown"))
    pids = workers.processes

    async with asyncio.timeout(WAIT_S):
        await workers.close()

    assert all([await asyncio.to_thread(is_gone, pid) for pid in pids])


@pytest.mark.blocking
@pytest.mark.parametrize("text", ["# a", SLOW])
def test_workers_end_with_the_process_that_started_them_even_when_it_is_killed(text: str) -> None:
    """At rest, and in the middle of a file."""
    code = f"""
import asyncio
from retrieval.conversion.workers import Workers
from tests.retrieval.test_conversion_workers import request

async def main():
    workers = Workers(processes=1, idle_s=600)
    task = asyncio.create_task(workers.convert(request(text={text[:8]!r} * {len(text) // 8 or 1}, kind="text/html")))
    while not workers.processes or ({len(text) < 10} and not task.done()):
        await asyncio.sleep(0.01)
    print(*workers.processes, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        assert not is_gone(pid)
        service.kill()

    async def gone() -> bool:
        return is_gone(pid)

    asyncio.run(until(gone))


@pytest.mark.blocking
def test_a_worker_has_no_files_of_the_service_and_none_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_SERVICE_KEY", "a secret of twenty-four characters")

    async def look() -> tuple[list[str], bytes]:
        async with Workers(processes=1, idle_s=60) as workers:
            with (tmp_path / "open.db").open("w") as file:
                os.set_inheritable(file.fileno(), True)
                await workers.convert(request(text="# a", kind="text/markdown"))
                (pid,) = workers.processes
                folder = Path(f"/proc/{pid}")
                return [str(each.readlink()) for each in (folder / "fd").iterdir()], (folder / "environ").read_bytes()

    descriptors, environment = asyncio.run(look())

    assert all(each.startswith("pipe:") or each == "/dev/null" for each in descriptors)
    assert b"DIPTYCH" not in environment


@pytest.mark.blocking
@pytest.mark.parametrize(
    "deed",
    [
        "import socket; socket.socket()",
        "open('/etc/hostname')",
        "open('/tmp/x', 'w')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.listdir('/etc')",
    ],
)
def test_python_code_in_a_worker_may_not_reach_out(deed: str) -> None:
    code = f"import sys; from retrieval.conversion.worker import Guard; sys.addaudithook(Guard()); {deed}"

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False, cwd=ROOT
    )

    assert "PermissionError: a converter may not" in result.stderr
