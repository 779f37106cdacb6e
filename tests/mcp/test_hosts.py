"""Which names /mcp answers to, so that a page in a browser cannot be made to reach it under its own (DNS rebinding)."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.hosts import foreign_header, host_of
from shared.mcp.catalogue import Catalogue
from shared.mcp.hosting import mount
from tests.harness import make_key
from tests.shared.probe import Raw, ask, running_probe

OWN = ("memory.example.org", "memory")
PAGES = ("https://agents.example.org",)
EMPTY = Catalogue(name="probe", title="Probe", instructions="", tools=())

LIST = msgspec.json.encode(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/list",
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        },
    }
)


def refused(host: str | None, origin: str | None = None) -> str | None:
    return foreign_header(host, origin, hosts=OWN, origins=PAGES)


@pytest.mark.parametrize(
    "host",
    [
        None,
        "localhost",
        "localhost:7802",
        "127.0.0.1:7802",
        "127.0.0.2",
        "[::1]:7802",
        "memory",
        "memory:7802",
        "memory.example.org",
        "MEMORY.example.org:443",
    ],
)
def test_its_own_names_and_those_that_it_was_told_are_served(host: str | None) -> None:
    assert refused(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "evil.example.org:7802",
        "localhost.evil.example.org",
        "memory.example.org.evil.example.org",
        "evilmemory.example.org",
        "127.0.0.1.evil.example.org",
        "192.168.1.5:7802",
        "0x7f000001.evil.example.org",
        "example.org",
        "",
        ":7802",
        "memory@evil.example.org",
        "evil.example.org@memory:x",
        "evil.example.org#memory",
        "evil.example.org/memory",
        "[::ffff:192.168.1.5]",
        "[",
    ],
)
def test_every_other_name_is_foreign(host: str) -> None:
    assert refused(host) == "Host"


@pytest.mark.parametrize(
    "origin", [None, "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "https://agents.example.org"]
)
def test_pages_of_this_machine_and_those_that_it_was_told_may_call(origin: str | None) -> None:
    assert refused("localhost", origin) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example.org",
        "http://agents.example.org",
        "https://agents.example.org:8443",
        "https://agents.example.org.evil.example.org",
        "https://evil.example.org/https://agents.example.org",
        "http://localhost.evil.example.org",
        "file://",
        # The name of the server itself is not the origin of a page that may call it.
        "https://memory.example.org",
    ],
)
def test_every_other_page_is_foreign(origin: str) -> None:
    assert refused("localhost", origin) == "Origin"


@given(st.text(max_size=40), st.text(max_size=40))
def test_whatever_stands_in_the_headers_only_a_name_that_is_known_gets_in(host: str, origin: str) -> None:
    found = refused(host, origin)
    if found is None:
        assert host_of(f"http://{host}") in {*OWN, "localhost"} or host_of(f"http://{host}").startswith(("127.", "::1"))
    assert found in {None, "Host", "Origin"}


async def list_tools(url: str, **headers: str) -> Raw:
    accept = "application/json, text/event-stream"
    return await ask(
        url,
        "POST",
        "/mcp",
        LIST,
        **{"Accept": accept, "MCP_Protocol_Version": "2026-07-28", "Mcp_Method": "tools/list", **headers},
    )


@pytest.mark.parametrize(
    ("headers", "setting"),
    [
        ({"Host": "evil.example.org"}, "mcp_hosts"),
        ({"Origin": "http://evil.example.org"}, "mcp_origins"),
        ({"Host": "memory.example.org", "Origin": "null"}, "mcp_origins"),
    ],
)
@pytest.mark.parametrize("with_key", [False, True])
async def test_a_page_that_was_made_to_point_here_learns_nothing_with_a_key_or_without(
    tmp_path: Path, headers: dict[str, str], setting: str, *, with_key: bool
) -> None:
    """Not even whether a key is needed."""
    token = await make_key(tmp_path, "acme")
    key = {"Authorization": f"Bearer {token}"} if with_key else {}
    async with running_probe(tmp_path, lambda app: mount(app, EMPTY), mcp_hosts=OWN, mcp_origins=PAGES) as probe:
        answer = await list_tools(probe.url, **headers, **key)

    assert answer.status == 403
    assert answer.value["detail"].endswith(f"is not served here; allow it with the setting {setting}")
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize(
    "settings", [{}, {"mcp_hosts": OWN, "mcp_origins": PAGES}, {"host": "memory.example.org"}], ids=str
)
async def test_what_was_allowed_gets_in(tmp_path: Path, settings: dict[str, Any]) -> None:
    token = await make_key(tmp_path, "acme")
    allowed: list[dict[str, str]] = [{}]
    if settings:
        allowed.append({"Host": "memory.example.org:443"})
    if "mcp_origins" in settings:
        allowed.append({"Host": "memory", "Origin": "https://agents.example.org"})
    async with running_probe(tmp_path, lambda app: mount(app, EMPTY), **settings) as probe:
        for headers in allowed:
            answer = await list_tools(probe.url, Authorization=f"Bearer {token}", **headers)
            assert (headers, answer.status) == (headers, 200)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_only_posts_are_answered(tmp_path: Path, method: str) -> None:
    """There is no stream from the server outside of a call, and no session that could be ended."""
    async with running_probe(tmp_path, lambda app: mount(app, EMPTY)) as probe:
        answer = await ask(probe.url, method, "/mcp")

    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
