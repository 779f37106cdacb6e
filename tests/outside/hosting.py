"""All that each revision of the protocol requires, by its own conformance suite, of the hosting of the tools.

Behind the hosting of the services stands a server that has everything the suite asks for by name (tests/mcp/fixture_server.py).
"""

import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Final

from mcp import MCPDeprecationWarning

from shared.mcp.hosting import MCP_PATH, mount_server
from tests.mcp.fixture_server import Fixture
from tests.outside.programs import HERE, INSTALLED, Check, succeed
from tests.shared.probe import running_probe

# What of each cannot be: a server without sessions has no way to ask a client of an older revision.
REQUIRED: Final = {"2026-07-28": None, "2025-11-25": HERE / "stateless-baseline.yml"}


def hosting_checks() -> list[Check]:
    return [
        Check(f"all that {revision} requires, of the hosting", partial(_required, revision, baseline))
        for revision, baseline in REQUIRED.items()
    ]


async def _required(revision: str, baseline: Path | None) -> str:
    # The suite asks for what the newest revision has given up, too.
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    known = () if baseline is None else ("--expected-failures", str(baseline))
    with tempfile.TemporaryDirectory() as data_dir:
        async with running_probe(Path(data_dir), lambda app: mount_server(app, Fixture().server)) as probe:
            await succeed(
                *("conformance", "server", "--url", probe.url + MCP_PATH, "--requirements", revision, *known),
                *("-o", str(INSTALLED / "results")),
            )
    return "passed" if baseline is None else "passed but for what needs a session"
