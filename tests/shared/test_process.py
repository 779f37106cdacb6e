"""The services as processes: their command lines, their exit codes, and what a signal leaves time for."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from diptych import MemoryClient
from memory.settings import MemorySettings
from retrieval.settings import RetrievalSettings
from shared.errors import SettingsError, Unavailable
from shared.memory_messages import ContextAnswer
from shared.process import serve
from shared.server import SERVER, build_app, make_server
from shared.settings import ServiceSettings
from tests.harness import WAIT_S, clean_environment, raw_session, serving, until
from tests.shared.probe import ProbeSettings

ROOT = Path(__file__).parent.parent.parent
# Importing everything takes a second; much longer on a machine that is busy.
START_S = 30.0
# What does not finish is given some seconds to notice that it was cancelled.
STOP_S = 30.0
BODY = b'{"user_id":"ada","turns":[{"id":"t1","role":"user","content":"hello"}]}'


def run(service: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", service, *flags],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=clean_environment(**variables),
        timeout=START_S,
    )


@pytest.mark.blocking
@pytest.mark.parametrize("kind", [RetrievalSettings, MemorySettings])
def test_help_lists_every_setting_with_its_default(kind: type[ServiceSettings]) -> None:
    done = run(kind.service, "--help")
    text = without_spaces(done.stdout)

    assert (done.returncode, done.stderr) == (0, "")
    for name, setting in kind.model_fields.items():
        described = str(setting.description)
        default = "" if setting.default is None else f" [default: {setting.default}]"
        assert without_spaces(f"--{name.replace('_', '-')} VALUE {described}{default}") in text


def without_spaces(text: str) -> str:
    """Lines are folded to the width of the terminal, at hyphens too."""
    return "".join(text.split())


@pytest.mark.blocking
@pytest.mark.parametrize("service", ["retrieval", "memory"])
def test_settings_that_cannot_be_used_exit_with_2_and_all_their_names(service: str, tmp_path: Path) -> None:
    done = run(
        service,
        *("--port", "seventy", "--body-bytes-max", "1", "--data-dir", str(tmp_path)),
        DIPTYCH_LOG_LEVEL="loud",
        **{f"DIPTYCH_{service.upper()}_PRT": "1"},
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{service}: these settings cannot be used:\n")
    for name in ("--port", "--body-bytes-max", "--log-level", f"DIPTYCH_{service.upper()}_PRT"):
        assert f"\n  {name}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.blocking
def test_an_unknown_flag_exits_with_2() -> None:
    done = run("memory", "--prt", "1")

    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option" in done.stderr
    assert "--prt" in done.stderr


@pytest.mark.blocking
def test_an_open_server_for_others_does_not_start(tmp_path: Path) -> None:
    done = run("memory", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(tmp_path))  # noqa: S104 - refused

    assert done.returncode == 2
    assert done.stderr.startswith("memory: there are no API keys in")


@pytest.mark.blocking
def test_a_port_that_is_taken_exits_with_2_and_its_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("memory", "--port", str(port), "--data-dir", str(tmp_path))

    assert done.returncode == 2
    assert f"memory: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


@dataclass(frozen=True, slots=True)
class Started:
    process: asyncio.subprocess.Process
    url: str
    data_dir: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def event(self, name: str) -> dict[str, Any]:
        """The next log line of that event."""
        return await _event(self.process, name)

    async def ended(self) -> int:
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()


async def _event(process: asyncio.subprocess.Process, name: str, timeout_s: float = WAIT_S) -> dict[str, Any]:
    assert process.stderr is not None
    async with asyncio.timeout(timeout_s):
        async for line in process.stderr:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
    raise AssertionError(f"the log ended without {name}")


@asynccontextmanager
async def started_memory(data_dir: Path, *flags: str) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "memory", "--port", "0", "--data-dir", str(data_dir), "--log-format", "json", *flags),
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=clean_environment(),
    )
    try:
        event = await _event(process, "listening", START_S)
        yield Started(process, event["url"], data_dir)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class SlowRetrieval:
    """Stands where retrieval would, and answers nobody until it is released."""

    def __init__(self) -> None:
        self.searched, self.released = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/v1/search":
            self.searched.set()
        await self.released.wait()
        return web.Response(status=503)


@asynccontextmanager
async def slow_retrieval() -> AsyncIterator[tuple[str, SlowRetrieval]]:
    slow, app = SlowRetrieval(), web.Application()
    app.router.add_route("*", "/{path:.*}", slow.answer)
    async with serving(app) as url:
        yield url, slow
        slow.released.set()


async def context_of(url: str) -> ContextAnswer:
    async with MemoryClient(url, retries=False) as client:
        return await client.context("hello", session_id="s", user_id="ada", collections=["notes"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_a_request_in_flight_finish(tmp_path: Path, number: signal.Signals) -> None:
    async with slow_retrieval() as (url, slow), started_memory(tmp_path, "--retrieval-url", url) as started:
        request = asyncio.create_task(context_of(started.url))
        await asyncio.wait_for(slow.searched.wait(), WAIT_S)
        started.process.send_signal(number)
        draining = await started.event("draining")
        await until(lambda: is_refused(started.port))
        slow.released.set()

        assert (await asyncio.wait_for(request, WAIT_S)).degraded
        assert draining["requests"] == 1
        await started.event("stopped")
        assert await started.ended() == 0


async def test_while_it_drains_a_service_takes_what_has_begun_and_is_not_ready(tmp_path: Path) -> None:
    async with started_memory(tmp_path) as started, raw_session(started.url) as session:
        reader, writer = await asyncio.open_connection("127.0.0.1", started.port)
        head = f"POST /v1/sessions/s/turns HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n"
        writer.write(head.encode() + BODY[:-1])
        await until(lambda: has_in_flight(session))

        started.process.terminate()
        await started.event("draining")
        await until(lambda: is_refused(started.port))
        async with session.get("/readyz") as ready:  # over the connection that is open already
            assert (ready.status, (await ready.json())["detail"]) == (503, "not ready: the server is shutting down")
        writer.write(BODY[-1:])
        answer = await asyncio.wait_for(reader.readuntil(b"}]"), WAIT_S)
        writer.close()

        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"status":"stored"' in answer
        assert await started.ended() == 0

    async with started_memory(tmp_path) as again, MemoryClient(again.url) as client:
        assert [turn.content for turn in (await client.turns("s")).items] == ["hello"]


async def has_in_flight(session: aiohttp.ClientSession) -> bool:
    """The append, and the scrape that asks."""
    async with session.get("/metrics") as response:
        return "diptych_http_requests_in_flight 2.0" in await response.text()


async def is_refused(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_request_that_does_not_finish_in_the_drain_time_is_cut_off(tmp_path: Path) -> None:
    async with (
        slow_retrieval() as (url, slow),
        started_memory(tmp_path, "--retrieval-url", url, "--drain-timeout-s", "0.1") as started,
    ):
        request = asyncio.create_task(context_of(started.url))
        await asyncio.wait_for(slow.searched.wait(), WAIT_S)
        started.process.terminate()

        assert await started.ended() == 0
        with pytest.raises(Unavailable, match="cannot be reached"):
            await asyncio.wait_for(request, WAIT_S)


async def test_a_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    async with started_memory(tmp_path) as started:
        second = await asyncio.to_thread(run, "memory", "--port", "0", "--data-dir", str(tmp_path))

        assert second.returncode == 2
        assert f"memory: {tmp_path}/memory/memory.db is in use by another process" in second.stderr
        assert "Traceback" not in second.stderr
        async with MemoryClient(started.url) as client:
            await client.ready()


async def test_the_garbage_collector_no_longer_looks_at_what_was_loaded_once_the_service_is_ready(
    tmp_path: Path,
) -> None:
    async with started_memory(tmp_path) as started:
        event = await _event(started.process, "settled", START_S)

        assert event["objects"] > 100_000


async def test_a_part_that_fails_for_good_ends_the_service_with_its_error(tmp_path: Path) -> None:
    settings = ProbeSettings(data_dir=tmp_path)
    app = build_app(await asyncio.to_thread(make_server, settings, "9.9"), ())
    app[SERVER].fail(SettingsError("the model 'x' could not be loaded"))

    with pytest.raises(SettingsError, match="the model 'x' could not be loaded"):
        await asyncio.wait_for(serve(app, settings), WAIT_S)

    assert app[SERVER].draining


async def test_a_part_that_does_not_start_closes_the_parts_before_it(tmp_path: Path) -> None:
    settings = ProbeSettings(data_dir=tmp_path)
    closed: list[str] = []

    async def sound(_app: web.Application) -> AsyncIterator[None]:
        yield
        closed.append("sound")

    async def broken(_app: web.Application) -> AsyncIterator[None]:
        if not closed:
            raise Unavailable("the disk is away")
        yield

    app = build_app(await asyncio.to_thread(make_server, settings, "9.9"), (), [sound, broken])

    with pytest.raises(Unavailable, match="the disk is away"):
        await asyncio.wait_for(serve(app, settings), WAIT_S)

    assert closed == ["sound"]
