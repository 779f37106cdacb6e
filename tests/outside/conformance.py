"""The protocol's own conformance suite, from outside, against a running server: `python -m tests.outside.conformance`.

Without an address it serves the fixture (tests/mcp/fixture_server.py) behind the hosting of the services, and runs what each
revision requires. With `--url`, the named scenarios against whatever is served there. Needs npx and a registry of packages; the
versions are pinned. Exits with 0 when everything that was asked for passed.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from shared.mcp.hosting import MCP_PATH, mount_server
from tests.mcp.fixture_server import Fixture
from tests.shared.probe import running_probe

# The suite needs Node 22 or newer, whatever the machine has.
PACKAGES: Final = ("node@24.19.0", "@modelcontextprotocol/conformance@0.2.0-alpha.12")
# Revisions, and what of each cannot be: a server without sessions has no way to ask a client of an older revision.
REQUIRED: Final = {"2026-07-28": None, "2025-11-25": Path(__file__).with_name("stateless_baseline.yml")}
TIMEOUT_S: Final = 300.0


async def run_suite(url: str, *options: str) -> int:
    """The suite's exit code. What it prints is passed on."""
    packages = [part for package in PACKAGES for part in ("-p", package)]
    with tempfile.TemporaryDirectory() as results:
        process = await asyncio.create_subprocess_exec(
            *("npx", "--yes", *packages, "conformance", "server", "--url", url, "--output-dir", results, *options)
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
    worst = 0
    async with running_fixture() as url:
        for revision, baseline in REQUIRED.items():
            known = () if baseline is None else ("--expected-failures", str(baseline))
            code = await run_suite(url, "--requirements", revision, *known)
            sys.stdout.write(f"requirements of {revision}: exit code {code}\n")
            worst = max(worst, code)
    return worst


async def check_scenarios(url: str, scenarios: Sequence[str], revision: str, baseline: str | None) -> int:
    known = () if baseline is None else ("--expected-failures", baseline)
    worst = 0
    for scenario in scenarios:
        code = await run_suite(url, "--scenario", scenario, "--spec-version", revision, *known)
        sys.stdout.write(f"{scenario} of {revision}: exit code {code}\n")
        worst = max(worst, code)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a server's /mcp; without it the fixture is served")
    parser.add_argument("--spec-version", default="2026-07-28", choices=REQUIRED)
    parser.add_argument("--expected-failures", help="a baseline file of the suite")
    parser.add_argument("scenarios", nargs="*")
    given = parser.parse_args()
    # Of the server only what is wrong, between the lines of the suite.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if given.url is None:
        return asyncio.run(check_hosting())
    if not given.scenarios:
        parser.error("name the scenarios; `conformance list --server` lists them")
    return asyncio.run(check_scenarios(given.url, given.scenarios, given.spec_version, given.expected_failures))


if __name__ == "__main__":
    sys.exit(main())
