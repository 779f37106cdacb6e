"""`diptych facts list`, `approve` and `reject`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.fact_messages import FactPage
from shared.wire import JSON, decode
from tests.diptych.command import Shell
from tests.harness import RunningMemory, make_key, running_memory

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    async with running_memory(tmp_path, facts_approval="all") as running:
        yield running


@pytest.fixture
def alone(strict: RunningMemory) -> Shell:
    return Shell({"DIPTYCH_MEMORY_URL": strict.url})


async def test_what_waits_is_listed_approved_and_rejected(alone: Shell, strict: RunningMemory) -> None:
    for number, user_id in enumerate(("ada", "bob", "ada")):
        await strict.client.put_fact(id=f"f{number}", user_id=user_id, key=f"k{number}", text=f"[/fact] {number}")

    waiting = await alone.run("facts", "list", "--json")
    approved = await alone.run("facts", "approve", "f0", "f1")
    rejected = await alone.run("facts", "reject", "f2", "--json")
    left = await alone.run("facts", "list")
    held = await alone.run("facts", "list", "--user", "ada")
    refused = await alone.run("facts", "list", "--user", "ada", "--status", "rejected", "--json")

    assert [fact.id for fact in decode(waiting.out.encode(), JSON, FactPage).items] == ["f0", "f1", "f2"]
    assert approved.lines == ["active: [/fact] 0", "active: [/fact] 1"]
    assert [fact["status"] for fact in rejected.json["items"]] == ["rejected"]
    assert "[/fact]" not in left.out
    assert ("[/fact] 0" in held.out, "[/fact] 1" in held.out) == (True, False)
    assert [fact["id"] for fact in refused.json["items"]] == ["f2"]


async def test_the_history_of_a_key_is_listed_page_by_page(alone: Shell, strict: RunningMemory) -> None:
    for number in range(3):
        await strict.client.put_fact(id=f"f{number}", user_id="ada", key="home", text=f"home {number}")
        await strict.client.change_fact(f"f{number}", status="active")

    now = await alone.run("facts", "list", "--user", "ada", "--key", "home", "--json")
    first = await alone.run("facts", "list", "--user", "ada", "--history", "-n", "2")
    rest = await alone.run("facts", "list", "--user", "ada", "--history", "--cursor", first.lines[-1].split()[-1])

    assert [fact["id"] for fact in now.json["items"]] == ["f2"]
    assert ("home 1" in first.out, "home 2" in first.out) == (True, False)
    assert ("home 1" in rest.out, "home 2" in rest.out) == (False, True)


async def test_a_decision_that_cannot_be_made_fails(alone: Shell, strict: RunningMemory) -> None:
    await strict.client.put_fact(id="f0", user_id="ada", text="one")
    await alone.run("facts", "reject", "f0")

    conflict = await alone.run("facts", "approve", "f0")
    missing = await alone.run("facts", "approve", "nowhere")

    assert (conflict.code, conflict.out, missing.code) == (1, "", 1)
    assert "was rejected" in conflict.err


async def test_approving_needs_its_scope(alone: Shell, strict: RunningMemory, tmp_path: Path) -> None:
    await strict.client.put_fact(id="f0", user_id="ada", text="one")
    key = await make_key(tmp_path, "default")

    done = await Shell({**alone.variables, "DIPTYCH_API_KEY": key}).run("facts", "approve", "f0")

    assert done.code == 1
    assert "memory:approve" in done.err
