"""Facts as recall reads them: entered in its history when they hold, gone from it when they do not, and never another's."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from memory.facts.items import FactItems
from memory.truth.items import SOURCES
from memory.truth.records import Scope
from tests.harness import RunningMemory, running_memory

ADA = Scope(tenant="default", user_id="ada")
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
At = Callable[[datetime], FactItems]


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    async with running_memory(tmp_path) as running:
        yield running


@pytest.fixture
async def items(alone: RunningMemory) -> At:
    """Of Ada: one superseded, one that holds, one expired, one of the future, one rejected; and one of Bob's."""
    put = alone.client.put_fact
    await put(user_id="ada", key="home", text="Lisbon", valid_from=NOW - 30 * DAY)
    await put(user_id="ada", key="home", text="Porto", valid_from=NOW - 10 * DAY)
    await put(user_id="ada", text="on leave", valid_from=NOW - 20 * DAY, expires_at=NOW - 5 * DAY)
    await put(user_id="ada", text="next year", valid_from=NOW + 300 * DAY)
    await put(id="wrong", user_id="ada", text="wrong", valid_from=NOW - 10 * DAY)
    await alone.client.change_fact("wrong", status="rejected")
    await put(user_id="bob", text="Bob's", valid_from=NOW - 10 * DAY)
    return partial(FactItems, alone.service.store.database)


async def keys(alone: RunningMemory, sql: str) -> list[tuple[object, ...]]:
    return await alone.service.store.database.read(lambda connection: connection.execute(sql).fetchall())


async def test_only_what_holds_at_the_moment_is_recalled(alone: RunningMemory, items: At) -> None:
    everything = [int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts")]
    for days, wanted in ((0, ["Porto"]), (7, ["Porto", "on leave"]), (15, ["Lisbon", "on leave"]), (40, [])):
        moment = NOW - days * DAY
        found = await items(moment).recalled(ADA, everything)
        assert sorted(each.fact.text for each in found.values()) == wanted
        newest = await items(moment).newest(ADA, since=None, until=None, part=None, limit=10)
        assert sorted(each.fact.text for each in newest) == wanted
        over = {key for _, key in await items(moment).passed_over(ADA)}
        active = {int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts WHERE status = 'active'")}
        ours = active & {int(str(row[0])) for row in await keys(alone, "SELECT id FROM facts WHERE user_id = 'ada'")}
        assert ours - over == found.keys()


async def test_the_newest_are_those_of_the_window(items: At) -> None:
    moment = NOW - 7 * DAY

    newest = await items(moment).newest(ADA, since=None, until=None, part=None, limit=1)
    assert [each.fact.text for each in newest] == ["Porto"]
    before = await items(moment).newest(ADA, since=NOW - 25 * DAY, until=NOW - 15 * DAY, part=None, limit=9)
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
async def test_a_scope_of_another_or_narrower_than_a_user_has_none(items: At, scope: Scope) -> None:
    assert await items(NOW).recalled(scope, list(range(100))) == {}
    assert await items(NOW).newest(scope, since=None, until=None, part=None, limit=10) == []
    assert await items(NOW).passed_over(scope) == frozenset()


async def test_an_index_reads_active_facts_with_their_owner_and_their_time(alone: RunningMemory, items: At) -> None:
    source = SOURCES["fact"]
    columns = f"{source.owner}, {source.position}, {source.role}, {source.name}, {source.text}, {source.created_at}"
    found = await keys(alone, f"SELECT {columns}, {source.metadata} FROM {source.rows} ORDER BY {source.id}")

    assert [row[7] for row in found] == ["Lisbon", "Porto", "on leave", "next year", "Bob's"]
    assert found[4][:7] == ("default", "bob", None, None, None, "", None)
    assert (datetime.fromisoformat(str(found[4][8])), found[4][9]) == (NOW - 10 * DAY, "{}")
    assert await items(NOW).passed_over(ADA) == {("fact", 1), ("fact", 3), ("fact", 4)}


@pytest.mark.usefixtures("items")
async def test_facts_are_recalled_beside_turns_as_they_held(alone: RunningMemory) -> None:
    await alone.client.append("s", [{"role": "user", "content": "Lisbon and Porto are in Portugal"}], user_id="ada")

    now = (await alone.client.recall("Lisbon Porto", user_id="ada")).items
    then = (await alone.client.recall("Lisbon Porto", user_id="ada", as_of=NOW - 15 * DAY)).items
    newest = (await alone.client.recall(user_id="ada", kinds=["fact"])).items
    in_session = (await alone.client.recall("Lisbon Porto", session_id="s")).items

    assert sorted((each.kind, each.text) for each in now) == [
        ("fact", "Porto"),
        ("turn", "Lisbon and Porto are in Portugal"),
    ]
    assert [(each.kind, each.text, each.valid_from) for each in then] == [("fact", "Lisbon", NOW - 30 * DAY)]
    assert [(each.text, each.key, each.session_id) for each in newest] == [("Porto", "home", None)]
    assert [each.kind for each in in_session] == ["turn"]


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
