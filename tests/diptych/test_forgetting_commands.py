"""`diptych forget`, `diptych audit` and `diptych retention`."""

import pytest

from shared.forgetting_messages import AuditEntry, TenantRetention
from shared.memory_messages import EraseReport
from shared.wire import JSON, decode
from tests.diptych.command import Shell
from tests.harness import RunningMemory, until

# The command itself may block: its event loop serves nobody else.
pytestmark = pytest.mark.blocking


async def fill(memory: RunningMemory) -> None:
    turns = [{"id": f"t{number}", "role": "user", "content": f"said {number}"} for number in range(4)]
    await memory.client.append("s", turns, user_id="ada")


async def test_it_counts_first_and_erases_only_when_told_to(shell: Shell, memory: RunningMemory) -> None:
    await fill(memory)

    counted = await shell.run("forget", "--user", "ada")
    refused = await shell.run("forget", "--user", "ada", "--erase", stdin="n\n")
    assert (counted.code, refused.code) == (0, 1)
    assert counted.out.startswith("would erase 4 turns, 0 facts, ")
    assert "cannot be undone" in refused.err
    assert len((await memory.client.turns("s")).items) == 4

    done = await shell.run("forget", "t1", "--session", "s", "--erase", stdin="y\n")
    report = await shell.run("--json", "forget", "--user", "ada", "--erase", "--yes")
    assert (done.code, report.code) == (0, 0)
    assert done.out.startswith("erased 1 turns, ")
    assert decode(report.out.encode(), JSON, EraseReport).turns == 3


async def test_a_time_needs_a_zone_and_something_must_be_named(shell: Shell, memory: RunningMemory) -> None:
    await fill(memory)
    for before in ("2026-03-01T10:00:00", "yesterday"):
        wrong = await shell.run("forget", "--user", "ada", "--before", before)
        assert (wrong.code, "write it as" in wrong.err) == (2, True)
    nothing = await shell.run("forget", "--erase", "--yes")
    assert (nothing.code, "nothing is forgotten by default" in nothing.err) == (2, True)
    earlier = await shell.run("forget", "--user", "ada", "--before", "2020-01-01T00:00:00Z", "--json")
    assert decode(earlier.out.encode(), JSON, EraseReport).turns == 0


async def test_the_audit_lists_what_was_erased(shell: Shell, memory: RunningMemory) -> None:
    await fill(memory)
    await shell.run("forget", "t1", "--session", "s", "--erase", "--yes")
    await shell.run("forget", "--user", "ada", "--erase", "--yes")

    shown = await shell.run("audit")
    entries = decode((await shell.run("audit", "--user", "ada", "--json")).out.encode(), JSON, list[AuditEntry])

    assert shown.code == 0
    assert "1 turns" in shown.out
    assert [entry.report.turns for entry in entries] == [3]


async def test_retention_is_set_when_confirmed_and_erases_what_is_past_it(shell: Shell, memory: RunningMemory) -> None:
    await fill(memory)
    before = await shell.run("retention", "get")
    refused = await shell.run("retention", "set", "--turns", "3", stdin="n\n")
    assert (before.code, before.out, refused.code) == (0, "kept: everything, for ever\n", 1)
    assert await memory.client.retention() == TenantRetention()

    done = await shell.run("retention", "set", "--turns", "3", "--days", "30", stdin="y\n")
    assert done.out == "kept: turns of the last 30 days, of these the newest 3 turns of a session\n"

    async def is_erased() -> bool:
        return [turn.id for turn in (await memory.client.turns("s")).items] == ["t1", "t2", "t3"]

    await until(is_erased)
    forever = await shell.run("--json", "retention", "set", "--forever")
    assert decode(forever.out.encode(), JSON, TenantRetention) == TenantRetention()


@pytest.mark.parametrize("options", [(), ("--forever", "--days", "3"), ("--days", "0", "--yes")])
async def test_retention_is_not_set_by_half_a_sentence(
    shell: Shell, memory: RunningMemory, options: tuple[str, ...]
) -> None:
    wrong = await shell.run("retention", "set", *options)

    assert wrong.code == 2
    assert await memory.client.retention() == TenantRetention()
