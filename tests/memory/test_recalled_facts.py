"""Facts are recalled as turns are: by words at once, by meaning a moment later, as of any moment, and by whoever they are of."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import InvalidFields
from shared.memory_messages import Recalled
from tests.harness import RunningMemory, until

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def texts(items: list[Recalled]) -> list[str]:
    return [item.text for item in items]


async def tell(memory: RunningMemory) -> None:
    put = memory.client.put_fact
    await put(id="old", user_id="ada", key="home", text="Ada lives in Lisbon", valid_from=NOW - 30 * DAY)
    await put(id="new", user_id="ada", key="home", text="Ada lives in Porto", valid_from=NOW - 10 * DAY)
    await put(id="tea", user_id="ada", text="Ada likes green tea", valid_from=NOW - 20 * DAY)
    await put(id="bob", user_id="bob", text="Bob lives in Porto", valid_from=NOW - 20 * DAY)
    turn = {"id": "t", "role": "user", "content": "Which trains go to Porto?"}
    await memory.client.append("s", [turn], user_id="ada", agent_id="guide")


async def all_embedded(memory: RunningMemory) -> bool:
    return (await memory.service.check()).checked["pending"] == 0


async def test_facts_are_found_beside_turns_and_only_those_that_hold(memory: RunningMemory) -> None:
    await tell(memory)
    await until(lambda: all_embedded(memory))
    recall = memory.client.recall

    found = await recall("lives in", user_id="ada", kinds=("fact",))
    assert [(item.kind, item.id, item.session_id, item.text) for item in found.items[:1]] == [
        ("fact", "new", None, "Ada lives in Porto")
    ]
    assert found.items[0].created_at == NOW - 10 * DAY
    assert found.items[0].scores.dense is not None
    assert sorted(item.id for item in found.items) == ["new", "tea"]
    both = await recall("Porto", user_id="ada", kinds=("turn", "fact"))
    assert {item.id for item in both.items} == {"t", "new", "tea"}
    then = await recall("lives in", user_id="ada", kinds=("fact",), as_of=NOW - 15 * DAY)
    assert sorted(item.id for item in then.items) == ["old", "tea"]
    newest = await recall(user_id="ada", kinds=("fact", "turn"), limit=2)
    assert [item.id for item in newest.items] == ["t", "new"]
    assert (await memory.service.check()).findings == []


async def test_facts_are_a_users_and_of_no_session_or_agent(memory: RunningMemory) -> None:
    await tell(memory)
    scopes: list[dict[str, Any]] = [
        {"session_id": "s"},
        {"agent_id": "guide"},
        {"user_id": "ada", "session_id": "s"},
        {"user_id": "x"},
    ]
    for scope in scopes:
        assert (await memory.client.recall("Porto", kinds=("fact",), **scope)).items == []
        assert (await memory.client.recall(kinds=("fact",), **scope)).items == []
    assert texts((await memory.client.recall("Porto", user_id="bob", kinds=("fact",))).items) == ["Bob lives in Porto"]


async def test_what_is_superseded_corrected_rejected_or_erased_is_gone_at_once(memory: RunningMemory) -> None:
    await tell(memory)
    client = memory.client

    async def found() -> list[str]:
        return sorted(texts((await client.recall("Ada", user_id="ada", kinds=("fact",), mode="lexical")).items))

    assert await found() == ["Ada likes green tea", "Ada lives in Porto"]
    await client.put_fact(user_id="ada", key="home", text="Ada lives in Faro")
    assert await found() == ["Ada likes green tea", "Ada lives in Faro"]
    await client.change_fact("tea", text="Ada likes black tea")
    assert await found() == ["Ada likes black tea", "Ada lives in Faro"]
    (faro,) = (await client.facts("ada", key="home")).items
    await client.change_fact(faro.id, status="rejected")
    assert await found() == ["Ada likes black tea", "Ada lives in Porto"]
    await client.erase_fact("new")
    assert await found() == ["Ada likes black tea"]
    assert (await memory.service.check()).findings == []


async def test_a_long_history_crowds_nothing_out(memory: RunningMemory) -> None:
    for number in range(30):
        text = f"The port of the server is {number}"
        since = NOW - (40 - number) * DAY
        await memory.client.put_fact(user_id="ada", key="port", text=text, valid_from=since)
    await memory.client.put_fact(user_id="ada", text="The server has a spare in Porto")

    found = await memory.client.recall("port of the server", user_id="ada", kinds=("fact",), limit=2)
    assert texts(found.items) == ["The port of the server is 29", "The server has a spare in Porto"]


async def test_facts_know_no_metadata_to_filter_by(memory: RunningMemory) -> None:
    await tell(memory)
    for query in ("Porto", None):
        answer = await memory.client.recall(query, user_id="ada", kinds=("fact",), filter={"team": "x"})
        assert answer.items == []
    with pytest.raises(InvalidFields):
        await memory.client.recall("x", user_id="ada", kinds=())


async def test_a_context_holds_the_facts_that_its_query_is_about(memory: RunningMemory) -> None:
    await memory.client.put_fact(user_id="ada", text="The passport of Ada ends in June", valid_from=NOW - 300 * DAY)
    for number in range(150):
        text = f"Errand {number} was done in shop {number} without any trouble"
        await memory.client.put_fact(user_id="ada", text=text, valid_from=NOW - 200 * DAY)

    answer = await memory.client.context("passport", user_id="ada", max_tokens=200)
    assert "passport" in answer.text
    assert {part.kind for part in answer.parts} == {"fact"}
    assert answer.tokens <= 200
