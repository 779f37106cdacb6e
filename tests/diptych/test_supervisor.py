"""`diptych up` with the real model: ready when it says so, stopped by a signal, and honest when a child dies."""

import asyncio
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from diptych import MemoryClient, RetrievalClient
from diptych.ports import free_ports, why_not_free
from diptych.supervisor import PortTaken, Supervisor
from tests.harness import PROCESS_WAIT_S, clean_environment, diptych_command, until

# The tests drive processes; the services are elsewhere.
pytestmark = pytest.mark.blocking

# Longer than either service takes to drain and close.
STOP_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Up:
    """One `diptych up`."""

    process: subprocess.Popen[str]
    ports: tuple[int, int]
    log: Path

    @property
    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]

    def first_line(self) -> str:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PROCESS_WAIT_S)
        assert readable
        return self.process.stdout.readline()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, STOP_WAIT_S)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")


def start(folder: Path, ports: tuple[int, int], *options: str, **variables: str) -> Up:
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    command = diptych_command(*options, "--data-dir", str(folder), "up")
    with log.open("w", encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [*command, "--retrieval-port", str(ports[0]), "--memory-port", str(ports[1])],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=clean_environment(**variables),
            # A shell that started the tests in the background has made them ignore it, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
        )
    return Up(process, ports, log)


def stop(up: Up) -> None:
    """Only for what a failed test has left behind."""
    if up.process.poll() is None:
        up.process.terminate()
        try:
            up.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            up.process.kill()
            up.process.wait()
    if up.process.stdout is not None:
        up.process.stdout.close()


def two_ports() -> tuple[int, int]:
    first, second = free_ports(2)
    return first, second


@dataclass(slots=True)
class Ready:
    """A pair that has said that it is ready. Loading the model takes seconds, so tests that leave it alone share one."""

    folder: Path
    up: Up | None = None
    told: Any = None

    def pair(self) -> Up:
        if self.up is None or self.up.process.poll() is not None:
            self.close()
            self.up = start(self.folder, two_ports(), "--json")
            self.told = msgspec.json.decode(self.up.first_line())
        return self.up

    def close(self) -> None:
        if self.up is not None:
            stop(self.up)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ready]:
    found = Ready(tmp_path_factory.mktemp("pair"))
    yield found
    found.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_ready_means_that_both_services_answer(ready: Ready) -> None:
    up = ready.pair()
    told = ready.told

    assert told.keys() == {"retrieval", "memory", "ready_s", "pids"}
    assert (told["retrieval"], told["memory"]) == tuple(f"http://127.0.0.1:{port}" for port in up.ports)
    assert sorted(told["pids"].values()) == sorted(up.children)
    async with RetrievalClient(told["retrieval"]) as retrieval, MemoryClient(told["memory"]) as memory:
        assert (await retrieval.ready()).status == (await memory.ready()).status == "ready"
        assert (await retrieval.info()).details["model"] == "all-MiniLM-L6-v2"
        assert (await retrieval.search("anything")).hits == []


async def test_a_second_pair_on_the_same_ports_is_refused_and_the_first_goes_on(ready: Ready, tmp_path: Path) -> None:
    first = ready.pair()
    second = start(tmp_path / "second", first.ports)
    try:
        assert await second.ended() == 1
        assert second.output() == f"Error: cannot listen on 127.0.0.1:{first.ports[0]}: Address already in use\n"
        assert second.process.stdout is not None
        assert second.process.stdout.read() == ""
    finally:
        stop(second)
    assert first.process.poll() is None
    async with MemoryClient(ready.told["memory"]) as memory:
        await memory.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_both_and_is_no_failure(ready: Ready, number: signal.Signals) -> None:
    up = ready.pair()
    pids = list(ready.told["pids"].values())

    up.process.send_signal(number)

    assert await up.ended() == 0
    assert [is_alive(pid) for pid in pids] == [False, False]
    assert [why_not_free("127.0.0.1", port) for port in up.ports] == [None, None]
    # Each ended by itself, after it had closed everything.
    lines = [msgspec.json.decode(line) for line in up.output().splitlines() if line.startswith("{")]
    assert {line["service"] for line in lines if line.get("event") == "stopped"} == {"retrieval", "memory"}


async def test_a_child_that_dies_is_reported_and_takes_the_other_along(ready: Ready) -> None:
    up = ready.pair()
    pids = ready.told["pids"]

    os.kill(pids["retrieval"], signal.SIGKILL)

    assert await up.ended() == 1
    assert "Error: retrieval ended with signal SIGKILL; the pair is stopped\n" in up.output()
    assert [is_alive(pid) for pid in pids.values()] == [False, False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_the_services_start_leaves_no_child_behind(tmp_path: Path, number: signal.Signals) -> None:
    up = start(tmp_path / "pair", two_ports())
    children: list[int] = []
    try:
        await until(lambda: has_children(up, 2), STOP_WAIT_S)
        children = up.children
        up.process.send_signal(number)
        code = await up.ended()
        left = [pid for pid in children if is_alive(pid)]
    finally:
        stop(up)
        for pid in filter(is_alive, children):
            os.kill(pid, signal.SIGKILL)

    assert (code, left) == (1, [])
    assert "Traceback" not in up.output()


async def has_children(up: Up, count: int) -> bool:
    return len(up.children) == count


async def test_a_child_that_cannot_start_is_reported(tmp_path: Path) -> None:
    up = start(tmp_path / "pair", two_ports(), DIPTYCH_RETRIEVAL_PRT="1")
    try:
        assert await up.ended() == 1
    finally:
        stop(up)
    assert "DIPTYCH_RETRIEVAL_PRT: no service has this setting" in up.output()
    assert "Error: retrieval ended with exit code 2; the pair is stopped\n" in up.output()


@pytest.mark.parametrize("index", [0, 1])
async def test_a_port_that_is_taken_is_told_before_anything_is_started(index: int) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        ports = list(two_ports())
        ports[index] = taken.getsockname()[1]
        pair = Supervisor(host="127.0.0.1", retrieval_port=ports[0], memory_port=ports[1], environment={})

        with pytest.raises(PortTaken, match=f"cannot listen on 127.0.0.1:{ports[index]}: Address already in use"):
            await pair.__aenter__()

        assert pair.pids == {}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7801"),
        ("localhost", "http://localhost:7801"),
        ("0.0.0.0", "http://127.0.0.1:7801"),  # noqa: S104 - never bound
        ("::", "http://127.0.0.1:7801"),
        ("::1", "http://[::1]:7801"),
    ],
)
def test_the_services_are_reached_where_they_listen(host: str, url: str) -> None:
    pair = Supervisor(host=host, retrieval_port=7801, memory_port=7802, environment={})

    assert (pair.retrieval_url, pair.memory_url) == (url, url.replace("7801", "7802"))
    RetrievalClient(pair.retrieval_url)


def test_free_ports_are_distinct_and_free() -> None:
    ports = free_ports(20)

    assert len(set(ports)) == 20
    assert {why_not_free("127.0.0.1", port) for port in ports} == {None}


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        assert why_not_free("127.0.0.1", taken.getsockname()[1]) == "Address already in use"
