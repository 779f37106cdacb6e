"""`diptych keys`: made once and shown once, and what that means for a running server."""

import asyncio
from pathlib import Path

import pytest

from diptych import RetrievalClient
from shared.errors import Unauthenticated
from tests.diptych.command import Shell
from tests.harness import RunningRetrieval

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking

ALL_BUT_ADMIN = ["memory:read", "memory:write", "retrieval:read", "retrieval:write"]


async def test_a_key_made_here_closes_a_running_server_and_revoking_it_keeps_it_closed(
    retrieval: RunningRetrieval, tmp_path: Path
) -> None:
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})
    await retrieval.client.collections()

    made = await shell.run_process("keys", "create", "--tenant", "acme", "--name", "ci")

    token = made.out.strip()
    key_id = token.split("_")[1]
    assert (made.code, made.out) == (0, token + "\n")
    assert made.err.startswith(f"Key {key_id} for tenant acme: {', '.join(ALL_BUT_ADMIN)}. Keep it; ")
    assert token not in made.err
    with pytest.raises(Unauthenticated):
        await retrieval.client.collections()
    async with RetrievalClient(retrieval.url, api_key=token) as acme:
        assert (await acme.collections()).items == []

        revoked = await shell.run_process("keys", "revoke", key_id)
        again = await shell.run("keys", "revoke", key_id)

        assert (revoked.code, revoked.out, revoked.err) == (0, "", f"Revoked {key_id}.\n")
        assert (again.code, again.err) == (1, f"Error: there is no active key '{key_id}'\n")
        with pytest.raises(Unauthenticated, match="not valid"):
            await acme.collections()
    with pytest.raises(Unauthenticated, match="send `Authorization"):
        await retrieval.client.collections()


async def test_keys_in_json(tmp_path: Path) -> None:
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})

    made = await shell.run("--json", "keys", "create", "--scope", "admin", "--scope", "memory:read", "--name", "ops")
    listed = await shell.run("keys", "list", "--json")
    revoked = await shell.run("keys", "revoke", made.json["id"], "--json")
    after = await shell.run("keys", "list", "--json")

    assert [done.code for done in (made, listed, revoked, after)] == [0, 0, 0, 0]
    found = made.json
    assert (found["tenant"], found["name"], found["scopes"]) == ("default", "ops", ["admin", "memory:read"])
    assert found["key"].split("_")[:2] == ["dpt", found["id"]]
    assert listed.json == {"items": [{name: value for name, value in found.items() if name != "key"}]}
    assert revoked.json == {"revoked": found["id"]}
    assert after.json["items"][0]["revoked_at"] >= found["created_at"]


async def test_a_list_for_people_shows_no_secret(tmp_path: Path) -> None:
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})
    token = (await shell.run("keys", "create", "--name", "[/odd]")).out.strip()

    listed = await shell.run("keys", "list")

    assert listed.code == 0
    assert token.split("_")[1] in listed.out
    assert "[/odd]" in listed.out
    assert token.split("_", 2)[2] not in listed.out


async def test_a_key_may_belong_to_a_user(tmp_path: Path) -> None:
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})

    made = await shell.run("keys", "create", "--user", "ada [/odd]", "--scope", "memory:read")
    listed = await shell.run("keys", "list")
    found = await shell.run("--json", "keys", "list")

    assert made.err.endswith("for tenant default, user ada [/odd]: memory:read. Keep it; it is not shown again.\n")
    assert "ada [/odd]" in listed.out
    assert [key["user_id"] for key in found.json["items"]] == ["ada [/odd]"]


async def test_a_users_key_administers_nothing(tmp_path: Path) -> None:
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})

    done = await shell.run("keys", "create", "--user", "ada", "--scope", "admin")

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --scope admin is for the whole tenant;")
    assert (await shell.run("--json", "keys", "list")).json["items"] == []


async def test_the_file_of_keys_may_lie_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "keys.db"
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path)})

    await shell.run("--keys-path", str(path), "keys", "create")
    found = await Shell({"DIPTYCH_KEYS_PATH": str(path)}).run("--json", "keys", "list")
    default = await shell.run("--json", "keys", "list")

    assert await asyncio.to_thread(path.exists)
    assert (len(found.json["items"]), default.json["items"]) == (1, [])


@pytest.mark.parametrize("tenant", ["_service", "", "a b"])
async def test_a_tenant_that_may_not_be_is_wrong_usage(tmp_path: Path, tenant: str) -> None:
    done = await Shell({"DIPTYCH_DATA_DIR": str(tmp_path)}).run("keys", "create", "--tenant", tenant)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: --tenant: 1 to 64 letters")


async def test_an_unknown_key_is_no_success(tmp_path: Path) -> None:
    done = await Shell({"DIPTYCH_DATA_DIR": str(tmp_path)}).run("--json", "keys", "revoke", "[/none]")

    assert (done.code, done.out, done.err) == (1, "", "Error: there is no active key '[/none]'\n")


async def test_a_service_started_through_the_command_reads_the_file_that_was_named(tmp_path: Path) -> None:
    """Otherwise it would be open although its operator has made keys."""
    path = tmp_path / "elsewhere" / "keys.db"
    shell = Shell({"DIPTYCH_DATA_DIR": str(tmp_path / "ignored")})
    options = ["--keys-path", str(path), "--data-dir", str(tmp_path / "data")]

    # A host that others can reach, so that it refuses to start, and names the file where it looked for keys.
    done = await shell.run_process(*options, "memory", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - refused

    assert done.code == 2
    assert done.err.startswith(f"memory: there are no API keys in {path}")
    assert not await asyncio.to_thread((tmp_path / "ignored").exists)
