"""Facts of one tenant or user are unknown to every other: over the wire, whatever is written, by whichever way it is read."""

import tempfile
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diptych import MemoryClient
from shared.errors import Conflict, NotFound, ServiceError
from tests.harness import make_key, running_memory

TENANTS = ("one", "two")
USERS = ("ada", "bob")
OWNERS = [(tenant, user) for tenant in TENANTS for user in USERS]

# Few ids, keys and words, so that owners meet in all of them. Each text names its owner.
writes = st.lists(
    st.fixed_dictionaries(
        {
            "owner": st.sampled_from(OWNERS),
            "id": st.sampled_from(["f1", "f2", "f3"]) | st.none(),
            "key": st.sampled_from(["k1", "k2"]) | st.none(),
            "word": st.sampled_from(["tea", "coffee"]),
            "kind": st.sampled_from(["fact", "instruction"]),
            "pinned": st.booleans(),
            "day": st.integers(1, 4),
            "end": st.sampled_from(["keep", "keep", "erase", "reject", "correct"]),
        }
    ),
    max_size=12,
)


async def write(client: MemoryClient, step: dict[str, Any]) -> None:
    tenant, user = step["owner"]
    given_fields = {name: step[name] for name in ("id", "key", "kind", "pinned")}
    try:
        since = datetime(2026, 1, step["day"], tzinfo=UTC)
        made = await client.put_fact(
            user_id=user, text=f"{tenant} {user} {step['word']}", valid_from=since, **given_fields
        )
        assert not {made.replaced, *(made.similar or ())} & await ids_of_others(client, user)
        match step["end"]:
            case "erase":
                await client.erase_fact(made.id)
            case "reject":
                await client.change_fact(made.id, status="rejected")
            case "correct":
                await client.change_fact(made.id, text=f"{tenant} {user} water")
    except Conflict:
        pass


async def ids_of_others(client: MemoryClient, user: str) -> set[str]:
    other = next(each for each in USERS if each != user)
    page = await client.facts(other, include_superseded=True)
    return {fact.id for fact in page.items}


async def read_of(client: MemoryClient, user: str) -> list[str]:
    """Every text that a user's memory answers with."""
    pages = [
        await client.facts(user, status=status, include_superseded=True, include_expired=True)
        for status in ("active", "pending", "rejected")
    ]
    facts = [fact for page in pages for fact in page.items]
    histories = [await client.fact(fact.id) for fact in facts]
    context = await client.context("tea coffee water", user_id=user, max_tokens=5000)
    return [
        *(fact.text for fact in facts),
        *(fact.text for record in histories for fact in record.history),
        *(part.text for part in context.parts),
    ]


# The folder is made and removed between examples, where nobody waits.
@pytest.mark.blocking
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(writes)
async def test_nothing_crosses_a_tenant_or_a_user(steps: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(running_memory(Path(folder)))
            clients = {
                tenant: await stack.enter_async_context(
                    MemoryClient(
                        running.url,
                        api_key=await make_key(Path(folder), tenant, "memory:read", "memory:write", "memory:approve"),
                    )
                )
                for tenant in TENANTS
            }
            for step in steps:
                await write(clients[step["owner"][0]], step)
            for tenant, user in OWNERS:
                for text in await read_of(clients[tenant], user):
                    assert f"{tenant} {user} " in text
            assert (await running.service.check()).findings == []


async def test_a_source_of_another_user_or_tenant_is_as_missing_as_one_that_does_not_exist(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        one, two = [await make_key(tmp_path, tenant) for tenant in TENANTS]
        async with MemoryClient(running.url, api_key=one) as first, MemoryClient(running.url, api_key=two) as second:
            await first.append("s", [{"id": "t", "role": "user", "content": "x"}], user_id="ada")
            refusals = []
            for client, user, turn in ((second, "ada", "t"), (first, "bob", "t"), (first, "ada", "none")):
                try:
                    await client.put_fact(user_id=user, text="x", sources=[{"session_id": "s", "turn_id": turn}])
                except ServiceError as error:
                    refusals.append((error.code, error.detail.replace("none", "t")))
            assert len(refusals) == 3
            assert len(set(refusals)) == 1

            made = await first.put_fact(user_id="ada", text="x", sources=[{"session_id": "s", "turn_id": "t"}])
            for call in (second.fact(made.id), second.erase_fact(made.id), second.change_fact(made.id, pinned=True)):
                try:
                    await call
                except NotFound:
                    continue
                raise AssertionError("another tenant's fact was found")
