"""`diptych mcp` as clients start it: a process that speaks on standard output, and says nothing else there."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from diptych.ports import free_ports
from tests.diptych.agents import FINDER, KEEPER, Seen, running
from tests.harness import PROCESS_WAIT_S, WAIT_S, clean_environment, diptych_command, until

# The tests drive processes.
pytestmark = pytest.mark.blocking

ROOT = Path(__file__).parent.parent.parent
# Importing everything takes a second; much longer on a machine that is busy.
START_WAIT_S = 30.0
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@asynccontextmanager
async def client_of(log: Path, era: str, *arguments: str, **variables: str) -> AsyncIterator[Client]:
    """The SDK's own client, over the process that `diptych ARGUMENTS` is."""
    command, *rest = diptych_command(*arguments)
    started = StdioServerParameters(command=command, args=rest, env=clean_environment(**variables), cwd=ROOT)
    with log.open("w", encoding="utf-8") as errors:
        async with Client(stdio_client(started, errlog=errors), mode=era) as client:
            yield client


async def started(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *diptych_command(*arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(**variables),
    )


async def asked(process: asyncio.subprocess.Process, message: dict[str, Any], timeout_s: float = START_WAIT_S) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(message) + b"\n")
    async with asyncio.timeout(timeout_s):
        return msgspec.json.decode(await process.stdout.readline())


@pytest.mark.parametrize(("era", "revision"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_a_client_of_either_revision_uses_both_services(tmp_path: Path, era: str, revision: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []
    seen = Seen()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    log = tmp_path / "log"
    async with (
        running(tmp_path / "one", FINDER, seen) as retrieval,
        running(tmp_path / "two", KEEPER) as memory,
        client_of(
            log, era, "--retrieval-url", retrieval, "--memory-url", memory, "mcp", "both", "--user", "ada"
        ) as client,
    ):
        assert client.protocol_version == revision
        assert client.instructions == "How retrieval is used.\n\nHow memory is used."
        assert [tool.name for tool in (await client.list_tools()).tools] == [
            "find",
            "find_slowly",
            "keep",
            "keep_slowly",
        ]
        found = await client.call_tool("find", {"query": "a"}, progress_callback=on_progress)
        assert found.structured_content == {"found": "a"}
        assert told == [(1.0, 2.0, "half")]
        assert [caller.named_user for caller in seen.callers] == ["ada"]
        task = asyncio.create_task(client.call_tool("find_slowly", {"query": "a"}))
        async with asyncio.timeout(WAIT_S):
            await seen.entered.wait()
            task.cancel()
            await seen.cancelled.wait()
    assert log.read_text(encoding="utf-8") == ""


async def test_a_service_that_is_away_is_an_answer_and_comes_back_without_us(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    async with client_of(tmp_path / "log", "auto", "mcp", "retrieval", DIPTYCH_RETRIEVAL_URL=url) as client:
        answer = await client.call_tool("find", {"query": "a"})
        assert answer.is_error
        async with running(tmp_path, FINDER, port=port):
            assert (await client.call_tool("find", {"query": "a"})).structured_content == {"found": "a"}
        assert (await client.call_tool("find", {"query": "a"})).is_error


async def test_it_ends_when_its_client_closes_standard_input_and_has_said_nothing_but_answers() -> None:
    process = await started(
        "mcp", "both", DIPTYCH_RETRIEVAL_URL="http://127.0.0.1:9", DIPTYCH_MEMORY_URL="http://127.0.0.1:9"
    )
    answer = await asked(process, INITIALIZE)
    assert answer["result"]["serverInfo"]["name"] == "diptych"
    async with asyncio.timeout(START_WAIT_S):
        out, err = await process.communicate(b"")
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_at_once_on_a_signal(number: signal.Signals) -> None:
    process = await started("mcp", "memory", DIPTYCH_MEMORY_URL="http://127.0.0.1:9")
    await asked(process, INITIALIZE)
    process.send_signal(number)
    async with asyncio.timeout(WAIT_S):
        assert await process.wait() == -number


class TestEmbedded:
    async def test_services_start_with_the_client_and_end_with_it_even_when_we_are_killed(self, tmp_path: Path) -> None:
        process = await started("--data-dir", str(tmp_path), "mcp", "both", "--embedded")
        await asked(process, INITIALIZE)
        answer = await asked(process, {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}, PROCESS_WAIT_S)
        assert answer["result"]["tools"]
        started_here = list(_descendants(process.pid))
        assert len(started_here) == 3  # `up` and both services

        process.kill()

        async def all_ended() -> bool:
            return not any(_is_running(pid) for pid in started_here)

        await until(all_ended, PROCESS_WAIT_S)

    async def test_services_that_end_by_themselves_end_us(self, tmp_path: Path) -> None:
        process = await started("--data-dir", str(tmp_path), "mcp", "memory", "--embedded")
        await asked(process, INITIALIZE)
        (up, *_) = _descendants(process.pid)
        os.kill(up, signal.SIGTERM)
        async with asyncio.timeout(PROCESS_WAIT_S):
            assert await process.wait() == 1
        assert process.stderr is not None
        assert b"the services that were started here have ended" in await process.stderr.read()


def _descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return children + [each for child in children for each in _descendants(child)]


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state[0] != "Z"
