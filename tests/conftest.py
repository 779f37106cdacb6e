"""Fixtures for all tests. A blocking call on the event loop fails the test that made it."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from blockbuster import BlockBuster, blockbuster_ctx

from tests.harness import RunningMemory, RunningRetrieval, running_memory, running_retrieval

# Read when haystack is imported; by default it reports its use to its makers.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    if request.node.get_closest_marker("blocking"):
        yield None
        return
    with blockbuster_ctx() as blockbuster:
        yield blockbuster


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not decide what a test sees."""
    for name in list(os.environ):
        if name.startswith("DIPTYCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True, scope="session")
def _quiet_logs() -> None:
    structlog.configure(processors=[_drop])


def _drop(_logger: object, _method: str, _event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent


@pytest.fixture
async def retrieval(tmp_path: Path) -> AsyncIterator[RunningRetrieval]:
    async with running_retrieval(tmp_path) as running:
        yield running


@pytest.fixture
async def memory(tmp_path: Path, retrieval: RunningRetrieval) -> AsyncIterator[RunningMemory]:
    """Beside `retrieval`, and using it."""
    async with running_memory(tmp_path, retrieval_url=retrieval.url) as running:
        yield running
