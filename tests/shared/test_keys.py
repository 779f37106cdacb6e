"""The file of keys, and who gets in with what."""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from shared.errors import Forbidden, SettingsError, Unauthenticated
from shared.keys import DEFAULT_TENANT, SCOPES, SERVICE_TENANT, Authenticator, KeyFile, Principal, Scope, bearer_token

SERVICE_KEY = "a secret that both services share"


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "keys.db")


@asynccontextmanager
async def guarding(
    file: KeyFile, *, service_key: str | None = None, loopback: bool = True
) -> AsyncIterator[Authenticator]:
    guard = await asyncio.to_thread(Authenticator, file, service_key=service_key, loopback=loopback)
    with closing(guard):
        yield guard


async def refusal(guard: Authenticator, authorization: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await guard.authenticate(authorization)
    return caught.value.detail


def test_a_key_is_stored_as_a_hash_only(file: KeyFile) -> None:
    _, token = file.create(tenant="acme", name="ci", scopes=["memory:read"])
    prefix, key_id, secret = token.split("_", 2)

    content = b"".join(path.read_bytes() for path in file.path.parent.iterdir())

    assert prefix == "dpt"
    assert len(secret) >= 43  # 256 bits
    assert key_id.encode() in content
    assert secret.encode() not in content


def test_only_the_owner_may_read_the_file_and_its_folder(file: KeyFile) -> None:
    file.create(tenant="acme", name="ci", scopes=["memory:read"])

    assert [path.name for path in file.path.parent.iterdir()] == ["keys.db"]
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(file: KeyFile) -> None:
    file.path.chmod(0o644)

    assert KeyFile(file.path).path.stat().st_mode & 0o777 == 0o600


def test_keys_are_listed_without_their_secrets(file: KeyFile) -> None:
    info, token = file.create(tenant="acme", name="ci", scopes=["retrieval:read", "memory:read", "memory:read"])

    assert file.list() == [info]
    assert (info.tenant, info.name, info.scopes, info.revoked_at) == (
        "acme",
        "ci",
        ["memory:read", "retrieval:read"],
        None,
    )
    assert token not in str(file.list())


def test_revoking_is_recorded_once(file: KeyFile) -> None:
    info, _ = file.create(tenant="acme", name="ci", scopes=["memory:read"])

    assert file.revoke(info.id)
    assert not file.revoke(info.id)
    assert not file.revoke("no such key")
    assert file.list()[0].revoked_at is not None


@pytest.mark.parametrize("tenant", [SERVICE_TENANT, "", "_x", "-x", ".x", "a b", "a/b", "a\n", "a\x00", "é", "x" * 65])
def test_a_tenant_name_that_could_mean_something_else_is_refused(file: KeyFile, tenant: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        file.create(tenant=tenant, name="", scopes=["memory:read"])
    assert file.list() == []


@pytest.mark.parametrize("tenant", ["a", "0", "x" * 64, "Acme-Corp_2.eu"])
def test_a_tenant_name_of_letters_digits_and_a_few_signs_is_accepted(file: KeyFile, tenant: str) -> None:
    assert file.create(tenant=tenant, name="", scopes=["memory:read"])[0].tenant == tenant


@pytest.mark.parametrize("scope", SCOPES)
def test_a_missing_scope_is_named(scope: Scope) -> None:
    others = frozenset(SCOPES) - {scope, "admin"}

    with pytest.raises(Forbidden) as caught:
        Principal(tenant="acme", scopes=others).require(scope)

    assert caught.value.detail == f"this key lacks the scope {scope!r}; it has {', '.join(sorted(others))}"


def test_a_key_without_scopes_may_nothing() -> None:
    with pytest.raises(Forbidden, match="it has none"):
        Principal(tenant="acme", scopes=frozenset()).require("memory:read")


@pytest.mark.parametrize("scope", SCOPES)
def test_admin_implies_the_other_scopes(scope: Scope) -> None:
    Principal(tenant="acme", scopes=frozenset({"admin"})).require(scope)


def test_the_scopes_are_those_of_the_type() -> None:
    assert get_args(Scope) == SCOPES


async def test_without_keys_everybody_is_the_default_tenant_with_every_scope(file: KeyFile) -> None:
    async with guarding(file) as guard:
        assert guard.is_open
        assert await guard.authenticate(None) == Principal(tenant=DEFAULT_TENANT, scopes=frozenset(SCOPES))


async def test_a_key_opens_its_own_tenant_with_its_own_scopes(file: KeyFile) -> None:
    info, token = await asyncio.to_thread(file.create, tenant="acme", name="ci", scopes=["memory:read"])

    async with guarding(file) as guard:
        expected = Principal(tenant="acme", scopes=frozenset({"memory:read"}), key_id=info.id)
        assert await guard.authenticate(f"Bearer {token}") == expected
        assert await guard.authenticate(f"bearer  {token} ") == expected
        assert not guard.is_open


async def test_the_first_key_closes_an_open_server(file: KeyFile) -> None:
    async with guarding(file) as guard:
        await guard.authenticate(None)
        await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])

        assert await refusal(guard, None) == (
            "send `Authorization: Bearer KEY`; keys are made with `diptych keys create`"
        )


async def test_a_revoked_key_is_refused_and_the_server_stays_closed(file: KeyFile) -> None:
    info, token = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])

    async with guarding(file) as guard:
        await guard.authenticate(f"Bearer {token}")
        await asyncio.to_thread(file.revoke, info.id)

        assert await refusal(guard, f"Bearer {token}") == "this API key is not valid"
        assert "send `Authorization" in await refusal(guard, None)
        assert not guard.is_open
    async with guarding(file, loopback=False) as restarted:
        assert not restarted.is_open


async def test_every_wrong_key_meets_the_same_words(file: KeyFile) -> None:
    info, token = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])
    other, revoked = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])
    await asyncio.to_thread(file.revoke, other.id)
    wrong = [
        revoked,
        "dpt_000000000000_unknown",
        f"dpt_{info.id}_{'x' * 43}",
        f"dpt_{info.id}_\udcff",  # how aiohttp hands on a header that is not UTF-8
        f"dpt_{info.id}_",
        f"dpt_{info.id}",
        token[:-1],
        token + "x",
        token.upper(),
        "dpt",
        "_",
        "ключ",
        "\udcff",
    ]

    async with guarding(file, service_key=SERVICE_KEY) as guard:
        assert {await refusal(guard, f"Bearer {each}") for each in wrong} == {"this API key is not valid"}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwdw==", "Token x", "dpt_x_y"])
async def test_without_a_bearer_token_a_closed_server_asks_for_one(file: KeyFile, authorization: str | None) -> None:
    await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])

    async with guarding(file) as guard:
        assert "send `Authorization: Bearer KEY`" in await refusal(guard, authorization)
    assert bearer_token(authorization) is None


async def test_the_service_key_opens_no_tenant(file: KeyFile) -> None:
    await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["admin"])

    async with guarding(file, service_key=SERVICE_KEY) as guard:
        assert await guard.authenticate(f"Bearer {SERVICE_KEY}") == Principal(
            tenant=SERVICE_TENANT, scopes=frozenset({"retrieval:read"}), key_id="service"
        )
    async with guarding(file) as guard:
        await refusal(guard, f"Bearer {SERVICE_KEY}")


async def test_a_wrong_key_is_refused_by_an_open_server_too(file: KeyFile) -> None:
    async with guarding(file) as guard:
        assert await refusal(guard, "Bearer dpt_000000000000_x") == "this API key is not valid"


def test_a_server_that_others_can_reach_does_not_start_without_keys(file: KeyFile) -> None:
    with pytest.raises(SettingsError, match="Make one with `diptych keys create`") as caught:
        Authenticator(file, service_key=None, loopback=False)
    assert str(caught.value).startswith(f"there are no API keys in {file.path}")

    file.create(tenant="acme", name="", scopes=["memory:read"])
    Authenticator(file, service_key=None, loopback=False).close()


async def test_many_requests_meet_a_change_at_once(file: KeyFile) -> None:
    info, token = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"])

    async with guarding(file) as guard:
        await asyncio.to_thread(file.revoke, info.id)
        found = await asyncio.gather(
            *(guard.authenticate(f"Bearer {token}") for _ in range(20)), return_exceptions=True
        )

    assert [type(each) for each in found] == [Unauthenticated] * 20


def test_closing_twice_is_closing_once(file: KeyFile) -> None:
    guard = Authenticator(file, service_key=None, loopback=True)

    guard.close()
    guard.close()


def test_the_file_is_a_database_with_a_rollback_journal(file: KeyFile) -> None:
    """The change counter, by which servers notice a change, moves with every commit in this mode only."""
    with closing(sqlite3.connect(file.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


OLD_SCHEMA = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, scopes TEXT NOT NULL,
    hash BLOB NOT NULL, created_at TEXT NOT NULL, revoked_at TEXT
)
"""


async def test_a_file_from_before_there_were_users_goes_on_working(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    digest = hashlib.sha256(b"dpt_0123456789ab_old").digest()

    def write() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(OLD_SCHEMA)
            row = ("0123456789ab", "acme", "old", "memory:read", digest, "2026-01-01T00:00:00+00:00")
            connection.execute(
                "INSERT INTO keys (id, tenant, name, scopes, hash, created_at) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    await asyncio.to_thread(write)
    file = await asyncio.to_thread(KeyFile, path)
    _, token = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=["memory:read"], user_id="ada")

    async with guarding(file) as guard:
        old = await guard.authenticate("Bearer dpt_0123456789ab_old")
        new = await guard.authenticate(f"Bearer {token}")

    assert (old.tenant, old.user_id) == ("acme", None)
    assert (new.tenant, new.user_id) == ("acme", "ada")
    assert [info.user_id for info in await asyncio.to_thread(file.list)] == [None, "ada"]
    again = await asyncio.to_thread(KeyFile, path)
    assert [info.user_id for info in await asyncio.to_thread(again.list)] == [None, "ada"]


def test_two_processes_that_meet_an_old_file_at_once_both_go_on(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(OLD_SCHEMA)
    with ThreadPoolExecutor(8) as threads:
        files = list(threads.map(KeyFile, [path] * 8))

    assert [file.list() for file in files] == [[]] * 8


@pytest.mark.parametrize("user", ["", "a\n", "a\x00", "x" * 257])
def test_a_user_whose_memory_nobody_could_name_is_refused(file: KeyFile, user: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        file.create(tenant="acme", name="", scopes=["memory:read"], user_id=user)
    assert file.list() == []
