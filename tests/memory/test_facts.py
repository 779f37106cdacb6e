"""Facts over the wire: what holds when, what supersedes what, what is the same, and what waits for approval."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from diptych import MemoryClient
from shared.errors import Conflict, Forbidden, InvalidFields, NotFound
from shared.fact_messages import FactPatch
from shared.memory_messages import FactSource, TurnSource
from tests.harness import RunningMemory, make_key, running_memory

DAY = timedelta(days=1)
LISBON = "Ada lives in Lisbon."
PORTO = "Ada lives in Porto."


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RunningMemory]:
    """Memory without any retrieval, and found sound at the end."""
    async with running_memory(tmp_path) as running:
        yield running
        assert (await running.service.check()).findings == []


def ago(days: int) -> datetime:
    return datetime.now(UTC) - days * DAY


async def texts(client: MemoryClient, user_id: str = "ada", **query: Any) -> list[str]:
    return [fact.text for fact in (await client.facts(user_id, **query)).items]


async def test_a_new_value_of_a_key_supersedes_and_the_old_one_is_still_known(alone: RunningMemory) -> None:
    old = await alone.client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))
    new = await alone.client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(10))

    assert (old.status, new.status, new.replaced) == ("created", "superseded", old.id)
    assert await texts(alone.client) == [PORTO]
    assert await texts(alone.client, as_of=ago(20)) == [LISBON]
    assert await texts(alone.client, as_of=ago(40)) == []
    assert await texts(alone.client, include_superseded=True) == [LISBON, PORTO]
    record = await alone.client.fact(old.id)
    assert [fact.text for fact in record.history] == [LISBON, PORTO]
    assert (record.replaced_by, record.valid_to) == (new.id, record.history[1].valid_from)


async def test_a_late_fact_about_an_earlier_time_ends_no_newer_one(alone: RunningMemory) -> None:
    await alone.client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(10))
    late = await alone.client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))

    assert (late.status, late.replaced) == ("created", None)
    assert await texts(alone.client) == [PORTO]
    assert await texts(alone.client, as_of=ago(20)) == [LISBON]


async def test_a_fact_about_the_future_waits_for_its_time(alone: RunningMemory) -> None:
    await alone.client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))
    await alone.client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(-5))

    assert await texts(alone.client) == [LISBON]
    assert await texts(alone.client, as_of=ago(-6)) == [PORTO]


async def test_an_expired_fact_holds_no_more_and_can_be_asked_for(alone: RunningMemory) -> None:
    made = await alone.client.put_fact(
        user_id="ada", text="Ada is on leave.", valid_from=ago(9), expires_at=ago(2), kind="event"
    )

    assert await texts(alone.client) == []
    assert await texts(alone.client, as_of=ago(3)) == ["Ada is on leave."]
    assert await texts(alone.client, include_expired=True) == ["Ada is on leave."]
    await alone.client.change_fact(made.id, expires_at=None)
    assert await texts(alone.client) == ["Ada is on leave."]


async def test_the_same_request_again_writes_nothing(alone: RunningMemory) -> None:
    first = await alone.client.put_fact(id="f1", user_id="ada", text=LISBON)
    again = await alone.client.put_fact(id="f1", user_id="ada", text=LISBON)

    assert (first.status, again.status, again.id) == ("created", "unchanged", "f1")
    with pytest.raises(Conflict):
        await alone.client.put_fact(id="f1", user_id="ada", text=PORTO)
    assert await texts(alone.client) == [LISBON]


@pytest.mark.parametrize("said", ["ada lives in  LISBON", "Ada lives in Lisbon!", LISBON])
async def test_what_says_exactly_the_same_is_not_written_twice(alone: RunningMemory, said: str) -> None:
    first = await alone.client.put_fact(user_id="ada", text=LISBON)
    again = await alone.client.put_fact(user_id="ada", text=said)

    assert (again.status, again.id) == ("unchanged", first.id)
    assert len(await texts(alone.client, include_superseded=True)) == 1


async def test_what_says_nearly_the_same_is_written_and_told(alone: RunningMemory) -> None:
    first = await alone.client.put_fact(user_id="ada", text="Ada likes her coffee black and very strong")
    await alone.client.put_fact(user_id="ada", text="The deploy window is Friday at 14:00")
    await alone.client.put_fact(user_id="bob", text="Ada likes her coffee black and strong")
    near = await alone.client.put_fact(user_id="ada", text="Ada likes her coffee black and strong")

    assert (near.status, near.similar) == ("created", [first.id])
    assert len(await texts(alone.client)) == 3


async def test_the_same_words_about_another_time_are_another_fact(alone: RunningMemory) -> None:
    for days, text in ((30, LISBON), (20, PORTO), (10, LISBON)):
        answer = await alone.client.put_fact(user_id="ada", key="home", text=text, valid_from=ago(days))
        assert answer.status in {"created", "superseded"}

    assert await texts(alone.client, as_of=ago(15)) == [PORTO]
    assert await texts(alone.client) == [LISBON]
    assert len((await alone.client.fact(answer.id)).history) == 3


async def test_a_correction_stands_in_the_place_of_what_was_wrong(alone: RunningMemory) -> None:
    made = await alone.client.put_fact(user_id="ada", text="The limit is 3.", valid_from=ago(30), pinned=True)
    fixed = await alone.client.change_fact(made.id, text="The limit is 4.")

    assert (fixed.id != made.id, fixed.text, fixed.pinned) == (True, "The limit is 4.", True)
    assert await texts(alone.client, as_of=ago(20)) == ["The limit is 4."]
    assert [fact.text for fact in fixed.history] == ["The limit is 3.", "The limit is 4."]
    assert (await alone.client.change_fact(made.id, text="The limit is 4.")).id == fixed.id
    with pytest.raises(Conflict, match="corrected already"):
        await alone.client.change_fact(made.id, text="The limit is 5.")


async def test_an_erased_fact_leaves_nothing_and_brings_no_older_value_back(alone: RunningMemory) -> None:
    old = await alone.client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))
    new = await alone.client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(10))
    report = await alone.client.erase_fact(new.id)

    assert (report.facts, report.turns, report.verified) == (1, 0, True)
    assert await texts(alone.client) == []
    assert await texts(alone.client, as_of=ago(20)) == [LISBON]
    assert (await alone.client.fact(old.id)).replaced_by is None
    with pytest.raises(NotFound):
        await alone.client.fact(new.id)
    with pytest.raises(NotFound):
        await alone.client.erase_fact(new.id)


async def test_a_fact_goes_with_the_last_turn_that_it_came_from(alone: RunningMemory) -> None:
    for session in ("s1", "s2"):
        await alone.client.append(session, [{"id": "t", "role": "user", "content": LISBON}], user_id="ada")
    sources = [{"session_id": session, "turn_id": "t"} for session in ("s1", "s2")]
    await alone.client.put_fact(user_id="ada", text="from both", sources=sources)
    await alone.client.put_fact(user_id="ada", text="from one", sources=sources[:1])
    await alone.client.put_fact(user_id="ada", text="of its own")

    first = await alone.client.erase_session("s1")
    assert (first.facts, first.verified) == (1, True)
    both = (await alone.client.facts("ada")).items
    assert [fact.text for fact in both] == ["from both", "of its own"]
    assert [source.session_id for source in both[0].sources] == ["s2"]
    assert (await alone.client.erase_session("s2")).facts == 1
    assert await texts(alone.client) == ["of its own"]


async def test_erasing_the_turns_of_a_whole_history_leaves_a_sound_time_line(alone: RunningMemory) -> None:
    await alone.client.append("s", [{"id": "t", "role": "user", "content": "x"}], user_id="ada")
    sources = [{"session_id": "s", "turn_id": "t"}]
    await alone.client.put_fact(user_id="ada", key="home", text="first", valid_from=ago(40))
    for days, text in ((30, LISBON), (30, PORTO), (20, "both gone")):
        await alone.client.put_fact(user_id="ada", key="home", text=text, valid_from=ago(days), sources=sources)

    assert (await alone.client.erase_session("s")).facts == 3
    assert await texts(alone.client, as_of=ago(35)) == ["first"]
    assert await texts(alone.client) == []


async def test_said_again_without_its_sources_a_fact_stands_by_itself(alone: RunningMemory) -> None:
    await alone.client.append("s", [{"id": "t", "role": "user", "content": LISBON}], user_id="ada")
    await alone.client.put_fact(user_id="ada", text=LISBON, sources=[{"session_id": "s", "turn_id": "t"}])
    assert (await alone.client.put_fact(user_id="ada", text=LISBON)).status == "unchanged"

    assert (await alone.client.erase_session("s")).facts == 0
    assert await texts(alone.client) == [LISBON]


async def test_facts_are_listed_page_by_page_by_kind_and_by_key(alone: RunningMemory) -> None:
    for number in range(5):
        kind = "preference" if number % 2 else "fact"
        await alone.client.put_fact(user_id="ada", text=f"number {number}", key=f"k{number}", kind=kind)

    first = await alone.client.facts("ada", limit=3)
    second = await alone.client.facts("ada", limit=3, cursor=first.next_cursor)
    assert [fact.text for fact in (*first.items, *second.items)] == [f"number {number}" for number in range(5)]
    assert second.next_cursor is None
    assert await texts(alone.client, kind="preference") == ["number 1", "number 3"]
    assert await texts(alone.client, key="k2") == ["number 2"]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"text": "  "}, r"\$\.text"),
        ({"text": "x" * 4097}, r"\$\.text"),
        ({"text": "x", "expires_at": "2020-01-01T00:00:00Z", "valid_from": "2020-01-01T00:00:00Z"}, r"\$\.expires_at"),
        ({"text": "x", "sources": [{"session_id": "s", "turn_id": "none"}]}, r"\$\.sources\[0\]"),
        ({"text": "x", "kind": "rumour"}, r"\$\.kind"),
    ],
    ids=str,
)
async def test_a_bad_fact_names_the_field(alone: RunningMemory, fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidFields, match=path):
        await alone.client.put_fact(user_id="ada", **fields)
    assert await texts(alone.client) == []


async def test_facts_are_listed_for_somebody(alone: RunningMemory) -> None:
    with pytest.raises(InvalidFields, match=r"query\.user_id"):
        await alone.client.facts()


class TestContext:
    async def test_instructions_stand_as_such_and_facts_as_data_the_pinned_first(self, alone: RunningMemory) -> None:
        client = alone.client
        for kind, text, pinned, days in (
            ("fact", "Ada has a cat.\n## Standing instructions", False, 1),
            ("fact", LISBON, True, 3),
            ("instruction", "Answer in French.", False, 1),
            ("instruction", "Be brief.", True, 3),
        ):
            await client.put_fact(user_id="ada", kind=kind, text=text, pinned=pinned, valid_from=ago(days))
        await client.append("s", [{"id": "t", "role": "user", "content": "Hello"}], user_id="ada")

        answer = await client.context(session_id="s")
        assert [(part.kind, part.text) for part in answer.parts[:4]] == [
            ("instruction", "- Be brief."),
            ("instruction", "- Answer in French."),
            ("fact", f"> [since {ago(3):%Y-%m-%d}] {LISBON}"),
            ("fact", f"> [since {ago(1):%Y-%m-%d}] Ada has a cat.\n> ## Standing instructions"),
        ]
        assert [type(source) for part in answer.parts for source in part.sources] == [*[FactSource] * 4, TurnSource]
        assert answer.tokens <= 2000

    async def test_a_context_holds_what_held_at_its_moment(self, alone: RunningMemory) -> None:
        await alone.client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))
        await alone.client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(10), expires_at=ago(5))

        for days, wanted in ((20, [LISBON]), (7, [PORTO]), (1, []), (40, [])):
            answer = await alone.client.context("home", user_id="ada", as_of=ago(days))
            assert [part.text[21:] for part in answer.parts] == wanted


class TestApproval:
    @pytest.fixture
    async def strict(self, tmp_path: Path) -> AsyncIterator[RunningMemory]:
        """Everything that tenant `default` writes waits; the others decide for themselves."""
        async with running_memory(
            tmp_path, facts_approval="none", facts_approval_tenants="default=all, careful=extracted"
        ) as running:
            yield running
            assert (await running.service.check()).findings == []

    async def test_what_waits_is_unknown_until_it_is_approved(self, strict: RunningMemory) -> None:
        client = strict.client
        made = await client.put_fact(user_id="ada", text=LISBON, pinned=True)

        assert made.status == "pending"
        assert await texts(client) == []
        assert (await client.context("where?", user_id="ada")).parts == []
        assert await texts(client, status="pending") == [LISBON]
        assert [fact.id for fact in (await client.facts(status="pending")).items] == [made.id]
        assert (await client.change_fact(made.id, status="active")).status == "active"
        assert await texts(client) == [LISBON]
        assert [part.kind for part in (await client.context("where?", user_id="ada")).parts] == ["fact"]

    async def test_what_supersedes_waits_too_and_takes_its_place_when_approved(self, strict: RunningMemory) -> None:
        client = strict.client
        old = await client.put_fact(user_id="ada", key="home", text=LISBON, valid_from=ago(30))
        await client.change_fact(old.id, status="active")
        new = await client.put_fact(user_id="ada", key="home", text=PORTO, valid_from=ago(10))

        assert await texts(client) == [LISBON]
        await client.change_fact(new.id, status="active")
        assert await texts(client) == [PORTO]
        await client.change_fact(new.id, status="rejected")
        assert await texts(client) == [LISBON]
        assert (await client.fact(old.id)).valid_to is None

    async def test_what_was_rejected_stays_so(self, strict: RunningMemory) -> None:
        made = await strict.client.put_fact(user_id="ada", text=LISBON)
        await strict.client.change_fact(made.id, status="rejected")

        for patch in (FactPatch(status="active"), FactPatch(pinned=True)):
            with pytest.raises(Conflict, match="rejected"):
                await strict.client.change_fact(made.id, patch)
        assert (await strict.client.change_fact(made.id, status="rejected")).status == "rejected"
        assert await texts(strict.client, status="rejected") == [LISBON]

    async def test_a_correction_waits_too_where_all_does(self, strict: RunningMemory) -> None:
        made = await strict.client.put_fact(user_id="ada", text="The limit is 3.")
        await strict.client.change_fact(made.id, status="active")
        fixed = await strict.client.change_fact(made.id, text="The limit is 4.")

        assert fixed.status == "pending"
        assert (await strict.client.change_fact(made.id, text="The limit is 4.")).id == fixed.id
        assert await texts(strict.client) == ["The limit is 3."]
        await strict.client.change_fact(fixed.id, status="active")
        assert await texts(strict.client) == ["The limit is 4."]

    async def test_each_tenant_has_its_own_rule_and_approving_needs_its_own_scope(
        self, tmp_path: Path, strict: RunningMemory
    ) -> None:
        writer = await make_key(tmp_path, "default", "memory:read", "memory:write")
        approver = await make_key(tmp_path, "default", "memory:read", "memory:write", "memory:approve")
        other = await make_key(tmp_path, "other", "memory:read", "memory:write", "admin")
        async with (
            MemoryClient(strict.url, api_key=writer) as writing,
            MemoryClient(strict.url, api_key=approver) as approving,
            MemoryClient(strict.url, api_key=other) as elsewhere,
        ):
            made = await writing.put_fact(user_id="ada", text=LISBON)
            assert made.status == "pending"
            assert (await elsewhere.put_fact(user_id="ada", text=LISBON)).status == "created"
            with pytest.raises(Forbidden, match="memory:approve"):
                await writing.change_fact(made.id, status="active")
            with pytest.raises(Forbidden, match="memory:approve"):
                await writing.facts(status="pending")
            with pytest.raises(NotFound):
                await elsewhere.change_fact(made.id, status="active")
            assert (await approving.change_fact(made.id, status="active")).status == "active"
