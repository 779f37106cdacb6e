"""Who may ask a running server: programs on this machine while it is open, and holders of keys once there are any."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from diptych import MemoryClient, RetrievalClient
from memory.app import build_memory
from memory.settings import MemorySettings
from shared.errors import Forbidden, NotFound, SettingsError, Unauthenticated
from shared.keys import KeyFile
from shared.wire import JSON, MSGPACK
from tests.harness import RunningMemory, RunningRetrieval, make_key, raw_session, running_memory, running_retrieval
from tests.shared.probe import Probe, ask, ask_bytes, running_probe

SERVICE_KEY = "a secret that both services share"


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    async with running_probe(tmp_path) as running:
        yield running


def local(probe: Probe, name: str) -> str:
    return f"{name}:{probe.url.rsplit(':', 1)[1]}"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://localhost.evil.example",
        "http://127.0.0.1.evil.example:7801",
        "http://192.168.1.5",
        "null",
        "file://",
        "chrome-extension://abcdef",
        "http://[::1",
        "http://user@evil.example",
        "x",
    ],
)
async def test_an_open_server_refuses_a_web_page_from_elsewhere(probe: Probe, origin: str) -> None:
    raw = await ask(probe.url, "GET", "/v1/things/a", Origin=origin)

    assert (raw.status, raw.value["code"]) == (403, "forbidden")
    assert raw.value["detail"] == f"a server without API keys answers only its own machine, not Origin {origin!r}"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7801", "192.168.1.5", "a:b:c", "[::1", "127.0.0.1.nip.io"]
)
async def test_an_open_server_refuses_a_foreign_name_that_points_here(probe: Probe, host: str) -> None:
    raw = await ask(probe.url, "GET", "/v1/things/a", Host=host)

    assert (raw.status, raw.value["code"]) == (403, "forbidden")
    assert raw.value["detail"] == f"a server without API keys answers only its own machine, not Host {host!r}"


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "[::1]"])
async def test_an_open_server_answers_this_machine_under_its_names(probe: Probe, name: str) -> None:
    host = local(probe, name)

    assert (await ask(probe.url, "GET", "/v1/things/a", Host=host)).status == 200
    assert (await ask(probe.url, "GET", "/v1/things/a", Origin=f"http://{host}")).status == 200


async def test_with_a_key_pages_and_names_do_not_matter(probe: Probe, tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme")

    raw = await ask(
        probe.url,
        "GET",
        "/v1/things/a",
        Origin="http://evil.example",
        Host="evil.example",
        Authorization=f"Bearer {token}",
    )

    assert (raw.status, raw.value["tenant"]) == (200, "acme")


async def test_a_page_without_a_key_is_asked_for_one_by_a_closed_server(probe: Probe, tmp_path: Path) -> None:
    await make_key(tmp_path, "acme")

    assert (await ask(probe.url, "GET", "/v1/things/a", Origin="http://evil.example")).status == 401


async def test_the_first_key_closes_a_running_server(probe: Probe, tmp_path: Path) -> None:
    before = await ask(probe.url, "GET", "/v1/things/a")
    token = await make_key(tmp_path, "acme")
    after = await ask(probe.url, "GET", "/v1/things/a")
    with_key = await ask(probe.url, "GET", "/v1/things/a", Authorization=f"Bearer {token}")

    assert (before.status, before.value["tenant"]) == (200, "default")
    assert (after.status, after.value["code"]) == (401, "unauthenticated")
    assert after.headers["WWW-Authenticate"] == "Bearer"
    assert (with_key.status, with_key.value["tenant"]) == (200, "acme")


async def test_a_revoked_key_is_refused_on_the_next_request(tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme")
    async with running_retrieval(tmp_path, key=token) as running:
        assert (await running.client.collections()).items == []

        await asyncio.to_thread(lambda: KeyFile(tmp_path / "keys.db").revoke(token.split("_")[1]))

        with pytest.raises(Unauthenticated, match="this API key is not valid"):
            await running.client.collections()
        async with RetrievalClient(running.url) as nobody:
            with pytest.raises(Unauthenticated, match="send `Authorization: Bearer KEY`"):
                await nobody.collections()


async def test_probes_and_the_description_need_no_key(probe: Probe, tmp_path: Path) -> None:
    await make_key(tmp_path, "acme")

    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json"):
        assert (await ask(probe.url, "GET", path, Host="anything.example")).status == 200


async def test_every_route_of_both_services_needs_a_key(
    retrieval: RunningRetrieval, memory: RunningMemory, tmp_path: Path
) -> None:
    await make_key(tmp_path, "acme")

    for url in (retrieval.url, memory.url):
        async with raw_session(url) as session:
            async with session.get("/openapi.json") as response:
                paths = (await response.json())["paths"]
            for path, methods in paths.items():
                for method in methods:
                    async with session.request(method, path.replace("{", "").replace("}", "")) as response:
                        assert (response.status, method, path) == (401, method, path)


async def test_a_missing_scope_is_named(tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme", "retrieval:read", "memory:write")
    async with running_retrieval(tmp_path, key=token) as running:
        with pytest.raises(
            Forbidden, match="this key lacks the scope 'retrieval:write'; it has memory:write, retrieval:read"
        ):
            await running.client.put_collection("notes")
        with pytest.raises(Forbidden, match="this key lacks the scope 'admin'"):
            await running.client.check()
        assert (await running.client.collections()).items == []
        assert (await running.client.info()).service == "retrieval"


async def test_the_scope_is_checked_before_the_body_is_read(tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme", "memory:read")
    async with running_memory(tmp_path, key=token) as running:
        raw = await ask(running.url, "POST", "/v1/sessions/s/turns", b"not json", Authorization=f"Bearer {token}")

    assert raw.status == 403


async def test_admin_implies_the_other_scopes_within_its_tenant(tmp_path: Path) -> None:
    admin, other = await make_key(tmp_path, "acme", "admin"), await make_key(tmp_path, "globex")
    async with running_retrieval(tmp_path, key=other) as running, RetrievalClient(running.url, api_key=admin) as acme:
        await running.client.ingest("notes", [{"id": "a", "text": "a secret of globex"}])
        await acme.put_collection("plans")

        assert [found.name for found in (await acme.collections()).items] == ["plans"]
        assert (await acme.check()).clean
        with pytest.raises(NotFound):
            await acme.document("notes", "a")
        assert (await acme.search("secret")).hits == []


async def test_a_key_sees_its_own_tenant_only(tmp_path: Path) -> None:
    acme, globex = await make_key(tmp_path, "acme"), await make_key(tmp_path, "globex")
    async with running_memory(tmp_path, key=acme) as running, MemoryClient(running.url, api_key=globex) as other:
        await running.client.append("s", [{"role": "user", "content": "our plan"}], user_id="ada")

        with pytest.raises(NotFound):
            await other.session("s")
        assert (await other.recall("plan", user_id="ada")).items == []
        assert (await other.sessions(user_id="ada")).items == []


async def test_the_service_key_may_embed_and_reads_nothing(tmp_path: Path) -> None:
    token = await make_key(tmp_path, "acme")
    async with (
        running_retrieval(tmp_path, key=token, service_key=SERVICE_KEY) as running,
        RetrievalClient(running.url, api_key=SERVICE_KEY) as service,
    ):
        await running.client.ingest("notes", [{"id": "a", "text": "a secret"}])

        assert (await service.embed(["hello"], kind="query")).model == "hash"
        assert (await service.collections()).items == []
        assert (await service.search("secret")).hits == []
        with pytest.raises(NotFound):
            await service.document("notes", "a")
        with pytest.raises(Forbidden, match="lacks the scope 'retrieval:write'; it has retrieval:read"):
            await service.put_collection("mine")
        with pytest.raises(Forbidden, match="lacks the scope 'admin'"):
            await service.check()


async def test_the_service_key_opens_nothing_in_memory(tmp_path: Path) -> None:
    async with (
        running_memory(tmp_path, service_key=SERVICE_KEY) as running,
        MemoryClient(running.url, api_key=SERVICE_KEY) as service,
    ):
        with pytest.raises(Forbidden, match="lacks the scope 'memory:read'"):
            await service.recall(user_id="ada")


@pytest.mark.blocking
@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.org"])  # noqa: S104 - refused before it is bound
def test_a_service_that_others_can_reach_does_not_start_without_keys(tmp_path: Path, host: str) -> None:
    settings = MemorySettings(data_dir=tmp_path, host=host)

    with pytest.raises(SettingsError, match="there are no API keys"):
        build_memory(settings)

    assert not (tmp_path / "memory").exists()


@pytest.mark.parametrize("media", [JSON, MSGPACK])
async def test_a_header_that_is_not_utf_8_is_a_wrong_key(probe: Probe, tmp_path: Path, media: str) -> None:
    key_id = (await make_key(tmp_path, "acme")).split("_")[1]

    answer = await ask_bytes(
        probe.url,
        b"GET /v1/things/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: %s\r\n"
        b"Authorization: Bearer dpt_%s_\xff\xfe\r\n\r\n" % (media.encode(), key_id.encode()),
    )

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"this API key is not valid" in answer
