"""The protocol's own conformance suite against the hosting of the tools: `make conformance`.

Behind the hosting of the services stands a server that has everything the suite asks for by name (tests/mcp/fixture_server.py).
What each revision requires is run whole. Needs npx and its registry; versions are those of package.json. Ends with 0 when all passed.
"""

import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from shared.mcp.hosting import MCP_PATH, mount_server
from tests.mcp.fixture_server import Fixture
from tests.shared.probe import running_probe

_HERE: Final = Path(__file__).parent
# The suite needs Node 22 or newer, whatever the machine has.
_PACKAGES: Final = ("node", "@modelcontextprotocol/conformance")
# Revisions, and what of each cannot be: a server without sessions has no way to ask a client of an older revision.
REQUIRED: Final = {"2026-07-28": None, "2025-11-25": _HERE / "stateless-baseline.yml"}
TIMEOUT_S: Final = 300.0


async def run_suite(url: str, revision: str, baseline: Path | None) -> int:
    """The suite's exit code. What it prints is passed on."""
    pins = json.loads((_HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = [part for name in _PACKAGES for part in ("--package", f"{name}@{pins[name]}")]
    known = () if baseline is None else ("--expected-failures", str(baseline))
    with tempfile.TemporaryDirectory() as results:
        process = await asyncio.create_subprocess_exec(
            *("npx", "--yes", *packages, "conformance", "server", "--url", url, "--output-dir", results),
            *("--requirements", revision, *known),
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def running_fixture() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as data_dir:
        async with running_probe(Path(data_dir), lambda app: mount_server(app, Fixture().server)) as probe:
            yield probe.url + MCP_PATH


async def check_hosting() -> int:
    codes = {}
    async with running_fixture() as url:
        for revision, baseline in REQUIRED.items():
            codes[revision] = await run_suite(url, revision, baseline)
    for revision, code in codes.items():
        sys.stdout.write(f"requirements of {revision}: exit code {code}\n")
    return max(codes.values())


if __name__ == "__main__":
    # Of the server only what is wrong, between the lines of the suite.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sys.exit(asyncio.run(check_hosting()))
