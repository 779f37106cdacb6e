"""Judging recalls through the service: what may be judged in a scope, and what goes with what is forgotten."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from diptych import MemoryClient
from memory.truth.schema import migrations
from shared.errors import Conflict, Forbidden, InvalidFields, NotFound
from tests.harness import RunningMemory, make_key, running_memory, until
from tests.memory.test_forgetting import execute, fill, found_in_files

THEN = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 6, 1, tzinfo=UTC)


def turn(name: str, session: str = "s", relevance: object = "right") -> dict[str, Any]:
    return {"id": name, "session_id": session, "relevance": relevance}


def fact(name: str, relevance: object = "right") -> dict[str, Any]:
    return {"kind": "fact", "id": name, "relevance": relevance}


async def queries(client: MemoryClient, **whose: Any) -> list[str]:
    return [each.query for each in (await client.feedback(**(whose or {"everything": True}))).items]


async def test_what_a_recall_found_is_judged_and_listed(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 3, user="ada")
        await running.client.put_fact(id="f", user_id="ada", text="rose0002 is red")
        found = (await running.client.recall("rose0002", user_id="ada")).items
        answer = await running.client.add_feedback(
            "rose0002",
            [
                {
                    "kind": each.kind,
                    "id": each.id,
                    "session_id": each.session_id,
                    "relevance": 2 if each.kind == "fact" else 0,
                }
                for each in found
                if each.kind == "fact" or each.seq == 3
            ],
            user_id="ada",
            comment="the fact says it",
        )
        (kept,) = (await running.client.feedback(user_id="ada")).items

        assert (answer.status, answer.judged, kept.id) == ("created", 2, answer.id)
        assert (kept.user_id, kept.session_id, kept.query, kept.comment) == (
            "ada",
            None,
            "rose0002",
            "the fact says it",
        )
        assert [(each.kind, each.id, each.session_id, each.seq, each.relevance) for each in kept.judgments] == [
            ("turn", "rose-2", "s", 3, 0),
            ("fact", "f", None, None, 2),
        ]
        report = await running.client.check()
        assert (report.clean, report.checked["feedback"]) == (True, 1)


async def test_judging_again_replaces_and_an_older_judgment_does_not(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 3, user="ada")

        async def judge(relevance: object, day: int, name: str = "rose-0", **more: Any) -> tuple[str, int]:
            whose = {"user_id": "ada", **more}
            moment = THEN + timedelta(days=day)
            answer = await running.client.add_feedback(
                "q", [turn(name, relevance=relevance)], judged_at=moment, **whose
            )
            return answer.status, answer.judged

        assert await judge("right", 1) == ("created", 1)
        assert await judge("right", 1) == ("unchanged", 1)
        assert await judge("wrong", 3) == ("changed", 1)
        assert await judge(3, 2) == ("unchanged", 1)
        assert await judge(1, 0, "rose-1") == ("changed", 2)
        # A session's own memory is another question, however it is named, and so is an earlier time.
        assert await judge("right", 1, user_id=None, session_id="s") == ("created", 1)
        assert await judge("right", 1, session_id="s") == ("unchanged", 1)
        assert await judge("right", 1, as_of=LATER) == ("created", 1)
        of_user = (await running.client.feedback(user_id="ada")).items
        assert [(each.session_id, each.as_of) for each in of_user] == [(None, None), ("s", None), (None, LATER)]
        assert [each.relevance for each in of_user[0].judgments] == [0, 1]


async def test_only_what_can_be_recalled_in_the_scope_can_be_judged(tmp_path: Path) -> None:
    async with running_memory(tmp_path, facts_approval="none") as running:
        client = running.client
        await fill(running, "s", "rose", 2, user="ada")
        await fill(running, "g", "oak", 2, user="grace")
        await client.put_fact(id="fa", user_id="ada", text="a")
        await client.put_fact(id="fg", user_id="grace", text="g")

        async def paths(*judged: dict[str, Any], **whose: Any) -> list[str]:
            with pytest.raises(InvalidFields) as caught:
                await client.add_feedback("q", judged, **whose)
            assert await queries(client) == []
            return [error.path for error in caught.value.errors]

        assert await paths(turn("rose-0"), turn("oak-0", "g"), turn("no"), fact("fg"), user_id="ada") == [
            f"$.judgments[{place}].id" for place in (1, 2, 3)
        ]
        assert await paths(turn("oak-0", "g"), session_id="s") == ["$.judgments[0].id"]
        assert await paths(fact("fa"), session_id="s") == ["$.judgments[0].id"]
        assert await paths(turn("rose-0"), agent_id="x") == ["$.judgments[0].id"]
        assert await paths({"id": "rose-0", "relevance": 1}, user_id="ada") == ["$.judgments[0].session_id"]
        assert await paths({**fact("fa"), "session_id": "s"}, user_id="ada") == ["$.judgments[0].session_id"]
        assert await paths(turn("rose-0"), turn("rose-0"), user_id="ada") == ["$.judgments[1]"]
        assert await paths(turn("rose-0"), user_id="ada", as_of=datetime(2020, 1, 1, tzinfo=UTC)) == [
            "$.judgments[0].id"
        ]
        assert await paths(turn("rose-0")) == ["$.user_id"]
        with pytest.raises(InvalidFields, match="kind"):
            await client.add_feedback("q", [{"kind": "span", "id": "x", "relevance": 1}], user_id="ada")
        with pytest.raises(NotFound, match="no session"):
            await client.add_feedback("q", [turn("oak-0", "g")], user_id="ada", session_id="g")
        answer = await client.add_feedback("q", [{"id": "rose-0", "relevance": 1}], session_id="s")
        assert answer.judged == 1


async def test_another_users_and_a_missing_item_are_told_in_the_same_words(tmp_path: Path) -> None:
    mine, other = [await make_key(tmp_path, name, "memory:read", "memory:write") for name in ("mine", "other")]
    async with running_memory(tmp_path, key=mine) as running, MemoryClient(running.url, api_key=other) as stranger:
        await fill(running, "s", "rose", 2, user="ada")
        await fill(running, "g", "oak", 2, user="grace")
        kept = await running.client.add_feedback("q", [turn("rose-0")], user_id="ada")

        errors: list[str] = []
        for client, judged in (
            (running.client, turn("oak-0", "g")),
            (running.client, turn("oak-0", "nowhere")),
            (stranger, turn("rose-0")),
        ):
            with pytest.raises(InvalidFields) as caught:
                await client.add_feedback("q", [judged], user_id="ada")
            errors.append(str(caught.value).replace(judged["id"], "?"))
        assert len(set(errors)) == 1
        assert await queries(stranger, user_id="ada") == []
        with pytest.raises(NotFound, match="there is no feedback"):
            await stranger.erase_feedback(kept.id)
        with pytest.raises(NotFound, match="there is no session"):
            await stranger.feedback(session_id="s")
        with pytest.raises(Forbidden, match="admin"):
            await running.client.feedback(everything=True)
        with pytest.raises(InvalidFields, match="everything"):
            await running.client.feedback()
        assert await queries(running.client, user_id="grace") == []
        assert await queries(running.client, user_id="ada") == ["q"]


async def test_who_may_recall_may_judge_and_only_who_may_write_may_erase(tmp_path: Path) -> None:
    writer = await make_key(tmp_path, "t", "memory:read", "memory:write")
    reader = await make_key(tmp_path, "t", "memory:read")
    async with running_memory(tmp_path, key=writer) as running, MemoryClient(running.url, api_key=reader) as client:
        await fill(running, "s", "rose", 1, user="ada")
        answer = await client.add_feedback("q", [turn("rose-0")], user_id="ada")
        with pytest.raises(Forbidden, match="memory:write"):
            await client.erase_feedback(answer.id)
        (kept,) = (await client.feedback(user_id="ada")).items
        assert kept.judgments[0].key_id == reader.split("_")[1]
        report = await running.client.erase_feedback(answer.id)
        assert (report.feedback, report.turns, report.verified, report.dry_run) == (1, 0, True, False)


async def test_pages_go_through_all_and_times_narrow_them(tmp_path: Path) -> None:
    async with running_memory(tmp_path, feedback_max=5) as running:
        await fill(running, "s", "rose", 1, user="ada")
        for number in range(5):
            moment = THEN + timedelta(days=number)
            await running.client.add_feedback(f"q{number}", [turn("rose-0")], user_id="ada", judged_at=moment)
        first = await running.client.feedback(user_id="ada", limit=3)
        rest = await running.client.feedback(user_id="ada", limit=3, cursor=first.next_cursor)
        assert [each.query for each in (*first.items, *rest.items)] == [f"q{number}" for number in range(5)]
        within = {"since": THEN + timedelta(days=1), "until": THEN + timedelta(days=3)}
        assert await queries(running.client, user_id="ada", **within) == ["q1", "q2", "q3"]
        with pytest.raises(Conflict, match="feedback_max"):
            await running.client.add_feedback("q5", [turn("rose-0")], user_id="ada")
        with pytest.raises(InvalidFields, match="cursor"):
            await running.client.feedback(user_id="ada", cursor="x")


class TestForgetting:
    async def test_a_query_goes_with_what_answered_it_and_a_wrong_judgment_alone(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            client = running.client
            await fill(running, "s", "rose", 4, user="ada")
            await client.put_fact(id="f", user_id="ada", text="a fact")
            await client.add_feedback("goes whole", [turn("rose-0"), turn("rose-1")], user_id="ada")
            await client.add_feedback("loses one", [turn("rose-0", relevance="wrong"), turn("rose-1")], user_id="ada")
            await client.add_feedback("goes last", [turn("rose-0", relevance="wrong")], user_id="ada")
            await client.add_feedback("stays", [turn("rose-1")], user_id="ada")
            await client.add_feedback("a fact too", [fact("f"), turn("rose-2", relevance=0)], user_id="ada")
            await client.add_feedback("not the fact", [fact("f", "wrong")], user_id="ada")

            dry = await client.forget(session_id="s", ids=["rose-0"])
            report = await client.forget(session_id="s", ids=["rose-0"], dry_run=False)
            assert (dry.feedback, report.feedback, report.turns, report.verified) == (2, 2, 1, True)
            left = (await client.feedback(user_id="ada")).items
            assert [each.query for each in left] == ["loses one", "stays", "a fact too", "not the fact"]
            assert [each.id for each in left[0].judgments] == ["rose-1"]

            report = await client.forget(ids=["f"], dry_run=False)
            assert (report.feedback, report.facts, report.verified) == (2, 1, True)
            assert await queries(client) == ["loses one", "stays"]
            assert (await client.check()).clean

    async def test_nothing_of_a_forgotten_user_is_left_in_the_files(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            client = running.client
            for user, session, word in (("ada", "s", "rose"), ("grace", "g", "oak")):
                await client.append(
                    session,
                    [{"id": f"{word}-{number}", "role": "user", "content": word} for number in range(40)],
                    user_id=user,
                    agent_id="planner",
                )
                for number in range(40):
                    words = f"{word}query{number:03d} " * 4
                    comment = f"{word}comment{number:03d} " * 3
                    judged = [turn(f"{word}-{number}", session)]
                    await client.add_feedback(words, judged, user_id=user, comment=comment)
            # Asked of the agent, answered by both: about both.
            both = [turn("rose-1"), turn("oak-1", "g")]
            await client.add_feedback("rosequery of the agent", both, agent_id="planner")
            await client.add_feedback(
                "oakquery of the agent", [turn("oak-2", "g"), turn("rose-1", "s", 0)], agent_id="planner"
            )

            report = await client.forget(user_id="ada", dry_run=False)

            assert (report.turns, report.feedback, report.verified) == (40, 41, True)
            memory = tmp_path / "memory"
            assert await asyncio.to_thread(found_in_files, memory, "rosequery", "rosecomment") == []
            assert await asyncio.to_thread(found_in_files, memory, "oakquery039", "oakcomment039") != []
            assert len(await queries(client, user_id="grace")) == 40
            (of_agent,) = (await client.feedback(agent_id="planner")).items
            assert [each.id for each in of_agent.judgments] == ["oak-2"]
            assert (await client.check()).clean

    async def test_bytes_that_sqlite_left_behind_are_found_too(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            await fill(running, "s", "elm", 1, user="ada")
            kept = []
            for number in range(60):
                words = f"rosequery{number:04d} " * (1 + number % 7)
                kept.append((await running.client.add_feedback(words, [turn("elm-0")], user_id="ada")).id)
            await execute(running, "PRAGMA secure_delete = OFF")
            for number in range(0, 60, 2):
                assert (await running.client.erase_feedback(kept[number])).verified
            gone = [f"rosequery{number:04d}" for number in range(0, 60, 2)]
            assert await asyncio.to_thread(found_in_files, tmp_path / "memory", *gone) == []
            assert len(await queries(running.client)) == 30

    async def test_a_session_takes_its_own_and_a_time_what_was_judged_before_it(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            client = running.client
            await fill(running, "s", "rose", 2, user="ada")
            await fill(running, "t", "lily", 2, user="ada", day=20)
            await client.put_fact(id="f", user_id="ada", text="a fact")
            await client.add_feedback("of s", [{"id": "rose-0", "relevance": 0}], session_id="s", judged_at=LATER)
            await client.add_feedback("of t", [{"id": "lily-0", "relevance": 1}], session_id="t", judged_at=LATER)
            await client.add_feedback("old", [fact("f")], user_id="ada", judged_at=THEN)
            await client.add_feedback("new", [fact("f")], user_id="ada", judged_at=LATER)

            assert (await client.erase_session("s")).feedback == 1
            assert await queries(client) == ["of t", "old", "new"]
            report = await client.forget(user_id="ada", before=THEN + timedelta(days=10), dry_run=False)
            assert (report.turns, report.feedback, report.facts) == (0, 1, 0)
            assert await queries(client) == ["of t", "new"]
            assert (await client.forget(user_id="grace", dry_run=False)).feedback == 0
            assert [entry.report.feedback for entry in (await client.audit()).items] == [1, 1, 0]

    async def test_a_limit_of_age_ends_feedback_that_has_no_turns(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            client = running.client
            await client.put_fact(id="f", user_id="ada", text="a fact")
            await client.add_feedback("old", [fact("f")], user_id="ada", judged_at=THEN)
            await client.add_feedback("new", [fact("f")], user_id="ada")
            await client.put_retention(days_max=30)

            async def is_done() -> bool:
                return await queries(client) == ["new"]

            await until(is_done)
            assert [entry.action for entry in (await client.audit()).items] == ["retain"]
            assert (await client.check()).clean


async def test_a_check_finds_what_should_not_be(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 2, user="ada")
        await fill(running, "g", "oak", 2, user="grace")
        for query in ("empty", "foreign"):
            await running.client.add_feedback(query, [turn("rose-0")], user_id="ada")
        await execute(running, "DELETE FROM judgments WHERE feedback = 1")
        await execute(running, "UPDATE judgments SET turn = (SELECT id FROM turns WHERE turn_id = 'oak-0')")
        problems = [finding.problem for finding in (await running.client.check()).findings]
        assert [problem.split(" ", 2)[2] for problem in problems] == [
            "judges nothing",
            "judges a turn outside of what was asked",
        ]


def audited(running: RunningMemory) -> Any:
    return execute(running, "SELECT report FROM audit")


async def test_audits_from_before_there_was_feedback_can_be_read(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 1, user="ada")
        await running.client.forget(user_id="ada", dry_run=False)
        await execute(running, "UPDATE audit SET report = json_remove(report, '$.feedback')")
        assert "feedback" not in (await audited(running))[0][0]
        assert [entry.report.feedback for entry in (await running.client.audit()).items] == [0]


@pytest.mark.blocking
def test_a_memory_from_before_there_was_feedback_takes_it_along(tmp_path: Path) -> None:
    for rows in (0, 1):
        database = sqlite_utils.Database(sqlite3.connect(tmp_path / f"{rows}.db"))
        migrations.apply(database, stop_before="m002_spans")
        for _ in range(rows):
            database.execute(
                "INSERT INTO sessions (tenant, session_id, user_id, title, policy, metadata, created_at, updated_at) "
                "VALUES ('t', 's', 'u', '', '{}', '{}', '', '')"
            )
        migrations.apply(database)
        assert database.execute("SELECT count(*) FROM judgments").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM sessions").fetchone() == (rows,)
        database.close()
