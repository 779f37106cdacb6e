"""A key that belongs to a user reaches that user's memory and nothing else, on every route that there is."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from diptych import MemoryClient
from memory.handlers import ROUTES
from retrieval.handlers import ROUTES as RETRIEVAL_ROUTES
from shared.errors import Forbidden, NotFound
from shared.keys import SCOPES, KeyFile
from shared.memory_messages import SessionSpec
from shared.routes import Route
from shared.users import not_for_users, of_the_tenant
from tests.harness import make_key, running_memory
from tests.shared.probe import ask

# Words of bob's and of nobody's memory: none of them may be in any answer to ada.
SECRETS = ("zanzibar", "marmalade", "b-title", "n-title")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What ada's key asks for, and how it is refused; or it is answered (2xx), and then with nothing of anybody else's."""

    status: int
    body: Mapping[str, Any] | None = None
    query: str = ""
    # Ids for the path; by default bob's.
    path: Mapping[str, str] = field(default_factory=dict)


# What is nobody's is tried as well as what is bob's.
NOBODYS = {"session": "nobodys"}
BOBS = {"session_id": "bobs", "id": "b1"}
ATTEMPTS: Mapping[str, list[Attempt]] = {
    "info": [Attempt(200)],
    "check": [Attempt(403)],
    "create_snapshot": [Attempt(403)],
    "list_snapshots": [Attempt(403)],
    "delete_snapshot": [Attempt(403)],
    "put_session": [
        Attempt(404, {"title": "mine now"}),
        Attempt(403, {"user_id": "bob"}),
        Attempt(404, {}, path=NOBODYS),
        Attempt(404, {}, path={"session": "empty"}),
        Attempt(403, {"user_id": "bob"}, path={"session": "new"}),
    ],
    "list_sessions": [
        Attempt(403, query="?user_id=bob"),
        Attempt(200, query="?agent_id=planner"),
        Attempt(200, query=""),
    ],
    "get_session": [Attempt(404), Attempt(404, path=NOBODYS)],
    "delete_session": [Attempt(404), Attempt(404, path=NOBODYS)],
    "forget": [
        Attempt(403, {"user_id": "bob", "dry_run": False}),
        Attempt(404, {"session_id": "bobs", "dry_run": False}),
        Attempt(404, {"session_id": "nobodys", "dry_run": False}),
        Attempt(200, {"ids": ["b-fact"], "dry_run": False}),
        Attempt(404, {"session_id": "bobs", "ids": ["b1"], "dry_run": False}),
        Attempt(200, {"before": "2000-01-01T00:00:00Z", "dry_run": False}),
        Attempt(422, {"dry_run": False}),
    ],
    "list_audit": [Attempt(403), Attempt(403, query="?user_id=ada")],
    "get_retention": [Attempt(403)],
    "put_retention": [Attempt(403, {"days_max": 1})],
    "append_turns": [
        Attempt(404, {"turns": [{"role": "user", "content": "hello"}]}),
        Attempt(403, {"user_id": "bob", "turns": [{"role": "user", "content": "hello"}]}),
        Attempt(404, {"turns": [{"role": "user", "content": "hello"}]}, path=NOBODYS),
        Attempt(404, {"turns": [{"role": "user", "content": "hello"}]}, path={"session": "empty"}),
    ],
    "list_turns": [Attempt(404), Attempt(404, path=NOBODYS)],
    "list_spans": [Attempt(404), Attempt(404, path=NOBODYS)],
    "list_span_turns": [Attempt(404)],
    "compact": [Attempt(404, {"tail_tokens_keep": 0}), Attempt(404, {"tail_tokens_keep": 0}, path=NOBODYS)],
    "put_fact": [
        Attempt(403, {"user_id": "bob", "text": "Bob is nice."}),
        Attempt(409, {"user_id": "ada", "id": "b-fact", "text": "It is mine."}),
        Attempt(404, {"user_id": "ada", "text": "So.", "sources": [{"session_id": "bobs", "turn_id": "b1"}]}),
        Attempt(404, {"user_id": "ada", "text": "So.", "sources": [{"session_id": "nobodys", "turn_id": "n1"}]}),
    ],
    "list_facts": [
        Attempt(403, query="?user_id=bob"),
        Attempt(200),
        Attempt(200, query="?status=pending"),
        Attempt(403, query="?user_id=bob&status=pending"),
    ],
    "get_fact": [Attempt(404)],
    "change_fact": [
        Attempt(404, {"pinned": True}),
        Attempt(404, {"status": "rejected"}),
        Attempt(404, {"text": "No."}),
    ],
    "delete_fact": [Attempt(404)],
    "extract_facts": [Attempt(404, {}), Attempt(404, {}, path=NOBODYS)],
    "recall": [
        Attempt(403, {"user_id": "bob", "query": "zanzibar"}),
        Attempt(404, {"session_id": "bobs"}),
        Attempt(404, {"session_id": "nobodys", "query": "marmalade"}),
        Attempt(200, {"agent_id": "planner", "query": "island", "kinds": ["turn", "span", "fact"]}),
        Attempt(200, {"query": "island", "kinds": ["turn", "span", "fact"], "limit": 1000}),
    ],
    "context": [
        Attempt(403, {"user_id": "bob"}),
        Attempt(404, {"session_id": "bobs"}),
        Attempt(404, {"session_id": "nobodys"}),
        Attempt(200, {"query": "island", "max_tokens": 100000}),
    ],
    "export_memory": [Attempt(403, query="?user_id=bob"), Attempt(403, query="?everything=true"), Attempt(200)],
    "import_memory": [Attempt(403)],
    "add_feedback": [
        Attempt(403, {"user_id": "bob", "query": "where?", "judgments": [{**BOBS, "relevance": 1}]}),
        Attempt(422, {"query": "where?", "judgments": [{**BOBS, "relevance": 1}]}),
        Attempt(422, {"agent_id": "planner", "query": "where?", "judgments": [{**BOBS, "relevance": 1}]}),
        Attempt(422, {"query": "where?", "judgments": [{"kind": "fact", "id": "b-fact", "relevance": 1}]}),
        Attempt(404, {"session_id": "bobs", "query": "where?", "judgments": [{"id": "b1", "relevance": 1}]}),
        Attempt(404, {"session_id": "nobodys", "query": "where?", "judgments": [{"id": "n1", "relevance": 1}]}),
    ],
    "list_feedback": [
        Attempt(403, query="?user_id=bob"),
        Attempt(404, query="?session_id=bobs"),
        Attempt(404, query="?session_id=nobodys"),
        Attempt(422, query="?everything=true"),
        Attempt(200, query="?agent_id=planner"),
        Attempt(200),
    ],
    "delete_feedback": [Attempt(404)],
}


@dataclass(frozen=True, slots=True)
class House:
    """A service with memory of ada, of bob and of nobody. `path` is what bob's things are called."""

    url: str
    tenant: MemoryClient
    ada: MemoryClient
    token: str
    path: Mapping[str, str]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    tenant_key = await make_key(tmp_path, "acme", "memory:read", "memory:write", "memory:approve", "admin")
    file = await asyncio.to_thread(KeyFile, tmp_path / "keys.db")
    # Every scope that there is, and still nothing beyond the user.
    _, token = await asyncio.to_thread(file.create, tenant="acme", name="", scopes=SCOPES, user_id="ada")
    async with (
        running_memory(tmp_path, key=tenant_key) as running,
        MemoryClient(running.url, api_key=token) as ada,
    ):
        tenant = running.client
        long = "The island is Zanzibar, and we go there in May. " * 20
        for session, user, word in (
            ("bobs", "bob", long),
            ("nobodys", None, "marmalade island"),
            ("adas", "ada", "an island"),
        ):
            turns = [{"id": f"{session[0]}{number}", "role": "user", "content": word} for number in range(1, 9)]
            await tenant.put_session(
                session, SessionSpec(user_id=user, agent_id="planner", title=f"{session[0]}-title")
            )
            await tenant.append(session, turns)
        await tenant.put_session("empty", SessionSpec(user_id="bob", title="b-title"))
        await tenant.compact("bobs", tail_tokens_keep=0)
        await tenant.put_fact(id="b-fact", user_id="bob", text="Bob lives on the island of Zanzibar.")
        await tenant.put_fact(id="a-fact", user_id="ada", text="Ada lives on an island.")
        span = (await tenant.spans("bobs")).items[0].id
        judged = await tenant.add_feedback("zanzibar?", [{**BOBS, "relevance": 1}], user_id="bob", agent_id="planner")
        path = {"session": "bobs", "span": span, "fact": "b-fact", "snapshot": "none", "feedback": judged.id}
        yield House(running.url, tenant, ada, token, path)


async def everything(client: MemoryClient) -> bytes:
    return b"".join([part async for part in client.export_bytes(everything=True)])


def test_every_route_of_both_services_says_what_a_users_key_may_do_with_it() -> None:
    silent = [(route.method, route.path) for route in (*ROUTES, *RETRIEVAL_ROUTES) if route.for_user is None]

    assert silent == []


def test_every_route_of_memory_is_tried_here_against_the_memory_of_another() -> None:
    assert {route.operation_id for route in ROUTES} == set(ATTEMPTS)
    # What a rule does not narrow, it refuses; of memory only the version is nobody's.
    assert [route.path for route in ROUTES if route.for_user is of_the_tenant] == ["/v1/info"]
    assert all(route.for_user is not_for_users for route in ROUTES if route.scope == "admin")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
async def test_a_users_key_neither_sees_nor_touches_the_memory_of_others(house: House, route: Route) -> None:
    before = await everything(house.tenant)

    for attempt in ATTEMPTS[route.operation_id]:
        target = route.path.format_map({**house.path, **attempt.path}) + attempt.query
        body = None if attempt.body is None else msgspec.json.encode(attempt.body)
        media = "application/x-ndjson" if route.takes_records else "application/json"
        answer = await ask(house.url, route.method, target, body, media=media, Authorization=f"Bearer {house.token}")

        said = answer.body.decode().lower()
        assert (attempt, answer.status) == (attempt, attempt.status), said
        assert [word for word in SECRETS if word in said and word not in target + str(attempt.body)] == []
        assert answer.status != 403 or "this key belongs to the user 'ada'" in said

    assert await everything(house.tenant) == before


async def test_a_users_key_does_everything_with_its_own(house: House) -> None:
    ada = house.ada
    await ada.put_session("notes", SessionSpec(title="Notes"))
    await ada.append("notes", [{"id": "t1", "role": "user", "content": "I moved to Porto."}])
    await ada.put_fact(
        id="home", user_id="ada", text="Ada lives in Porto.", sources=[{"session_id": "notes", "turn_id": "t1"}]
    )
    await ada.change_fact("home", pinned=True)

    assert (await ada.session("notes")).user_id == "ada"
    assert [session.id for session in (await ada.sessions()).items] == ["adas", "notes"]
    assert {fact.id for fact in (await ada.facts()).items} == {"a-fact", "home"}
    assert "Porto" in (await ada.context(query="Where do I live?")).text
    assert {item.session_id for item in (await ada.recall("Porto", kinds=["turn"])).items} <= {"adas", "notes"}
    assert (await ada.turns("notes")).items[0].content == "I moved to Porto."
    assert (await ada.compact("notes", tail_tokens_keep=0)).turns_folded == 1
    span = (await ada.spans("notes")).items[0]
    assert len((await ada.span_turns(span.id)).items) == 1
    judged = await ada.add_feedback("where?", [{"session_id": "notes", "id": "t1", "relevance": "right"}])
    assert [each.query for each in (await ada.feedback()).items] == ["where?"]
    assert (await ada.erase_feedback(judged.id)).feedback == 1
    assert (await ada.erase_session("notes")).turns == 1
    with pytest.raises(NotFound):
        await ada.fact("home")
    assert (await ada.forget(user_id="ada", dry_run=False)).sessions == 1
    assert (await ada.sessions()).items == []
    assert len((await house.tenant.sessions(user_id="bob")).items) == 2


async def test_an_export_without_a_name_is_of_the_keys_user(house: House) -> None:
    own = b"".join([part async for part in house.ada.export_bytes(user_id="ada")])
    answer = await ask(house.url, "GET", "/v1/export", Authorization=f"Bearer {house.token}")

    assert answer.body == own
    assert b'"user_id":"ada"' in own


async def test_ids_of_another_user_are_taken_and_no_more_is_said_of_them(house: House) -> None:
    with pytest.raises(NotFound) as caught:
        await house.ada.append("bobs", [{"role": "user", "content": "hello"}])

    assert caught.value.detail == "there is no session 'bobs' of the user 'ada', and the id is taken; use another"
    with pytest.raises(Forbidden, match="this key belongs to the user 'ada', not 'bob'; leave user_id out"):
        await house.ada.recall("hello", user_id="bob")


async def test_what_a_key_without_a_user_may_do_is_as_before(house: House) -> None:
    assert len((await house.tenant.turns("bobs")).items) == 8
    assert (await house.tenant.recall("island", user_id="bob")).items
    assert (await house.tenant.check()).clean
