"""Facts as recall reads them: entered in its history when they hold, gone from it when they do not, and never another's."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory.fact_items import FACT_SOURCE, FactItems
from memory.records import Scope
from tests.harness import RunningMemory, running_memory

ADA = Scope(tenant="default", user_id="ada")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    async with running_memory(tmp_path) as running:
        yield running


@pytest.fixture
async def items(alone: RunningMemory) -> FactItems:
    """Of Ada: one superseded, one that holds, one expired, one of the future, one rejected; and one of Bob's."""
    put = alone.client.put_fact
    await put(user_id="ada", key="home", text="Lisbon", valid_from=NOW - 30 * DAY)
    await put(user_id="ada", key="home", text="Porto", valid_from=NOW - 10 * DAY)
    await put(user_id="ada", text="on leave", valid_from=NOW - 20 * DAY, expires_at=NOW - 5 * DAY)
    await put(user_id="ada", text="next year", valid_from=NOW + 300 * DAY)
    await put(id="wrong", user_id="ada", text="wrong", valid_from=NOW - 10 * DAY)
    await alone.client.change_fact("wrong", status="rejected")
    await put(user_id="bob", text="Bob's", valid_from=NOW - 10 * DAY)
    return FactItems(alone.service.store.database)


async def keys(alone: RunningMemory, sql: str) -> list[tuple[object, ...]]:
    return await alone.service.store.database.read(lambda connection: connection.execute(sql).fetchall())


async def test_only_what_holds_at_the_moment_is_recalled(alone: RunningMemory, items: FactItems) -> None:
    everything = [int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts")]
    for days, wanted in ((0, ["Porto"]), (7, ["Porto", "on leave"]), (15, ["Lisbon", "on leave"]), (40, [])):
        moment = NOW - days * DAY
        found = await items.recalled(ADA, everything, moment=moment)
        assert sorted(each.fact.text for each in found.values()) == wanted
        newest = await items.newest(ADA, moment=moment, since=None, until=None, limit=10)
        assert sorted(each.fact.text for each in newest) == wanted
        over = await items.passed_over(ADA, moment)
        active = {int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts WHERE status = 'active'")}
        ours = active & {int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts WHERE user_id = 'ada'")}
        assert ours - over == found.keys()


async def test_the_newest_are_those_of_the_window(items: FactItems) -> None:
    moment = NOW - 7 * DAY

    newest = await items.newest(ADA, moment=moment, since=None, until=None, limit=1)
    assert [each.fact.text for each in newest] == ["Porto"]
    before = await items.newest(ADA, moment=moment, since=NOW - 25 * DAY, until=NOW - 15 * DAY, limit=9)
    assert [(each.fact.text, each.created_at) for each in before] == [("on leave", NOW - 20 * DAY)]


@pytest.mark.parametrize(
    "scope",
    [
        Scope(tenant="default", user_id="nobody"),
        Scope(tenant="other", user_id="ada"),
        Scope(tenant="default", user_id="ada", session=1),
        Scope(tenant="default", user_id="ada", agent_id="a"),
        Scope(tenant="default", agent_id="a"),
        Scope(tenant="default", session=1),
    ],
    ids=str,
)
async def test_a_scope_of_another_or_narrower_than_a_user_has_none(items: FactItems, scope: Scope) -> None:
    assert await items.recalled(scope, list(range(100)), moment=NOW) == {}
    assert await items.newest(scope, moment=NOW, since=None, until=None, limit=10) == []
    assert await items.passed_over(scope, NOW) == set()


async def test_an_index_reads_active_facts_with_their_owner_and_their_time(
    alone: RunningMemory, items: FactItems
) -> None:
    names = ("tenant", "user_id", "agent_id", "session", "position", "role", "name", "text", "created_at", "metadata")
    columns = ", ".join(FACT_SOURCE[name] for name in names)
    found = await keys(alone, f"SELECT {columns} FROM {FACT_SOURCE['rows']} ORDER BY {FACT_SOURCE['id']}")

    assert [row[7] for row in found] == ["Lisbon", "Porto", "on leave", "next year", "Bob's"]
    assert found[4][:7] == ("default", "bob", None, None, None, "", None)
    assert (datetime.fromisoformat(str(found[4][8])), found[4][9]) == (NOW - 10 * DAY, "{}")
    assert await items.passed_over(ADA, NOW) == {1, 3, 4}


@pytest.mark.usefixtures("items")
async def test_what_can_be_recalled_stands_in_the_history_and_waits_for_a_vector(alone: RunningMemory) -> None:
    active = await keys(alone, "SELECT id FROM facts WHERE status = 'active' ORDER BY id")
    waiting = "SELECT item_id FROM pending WHERE item_kind = 'fact' ORDER BY item_id"
    last = (
        "SELECT o.item_id FROM ops o WHERE o.item_kind = 'fact' AND o.kind = 'add' AND NOT EXISTS "
        "(SELECT 1 FROM ops p WHERE p.item_kind = 'fact' AND p.item_id = o.item_id AND p.kind = 'remove' AND p.seq > o.seq) "
        "AND NOT EXISTS (SELECT 1 FROM ops p WHERE p.item_kind = 'fact' AND p.item_id = o.item_id AND p.seq > o.seq) "
        "ORDER BY o.item_id"
    )
    assert await keys(alone, waiting) == active
    assert await keys(alone, last) == active
    owners = await keys(alone, "SELECT DISTINCT tenant, user_id, agent_id, session FROM ops WHERE item_kind = 'fact'")
    assert sorted(owners) == [("default", "ada", None, None), ("default", "bob", None, None)]
    for fact in (await alone.client.facts("ada", include_superseded=True, include_expired=True)).items:
        await alone.client.erase_fact(fact.id)
    assert await keys(alone, waiting) == [active[-1]]
    assert await keys(alone, last) == [active[-1]]
