"""Forgetting through the service: what goes with a turn, what stays, and that the bytes are gone from every file."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from diptych import Retention, SessionSpec
from memory.forgetting.retention import Retentions
from shared.errors import Forbidden, InvalidFields, NotFound
from tests.harness import RunningMemory, make_key, running_memory, running_retrieval, until


def said(word: str, number: int, *, day: int = 1, filler: int = 20) -> dict[str, Any]:
    text = f"{word}{number:04d} " + " ".join(f"{word}{number:04d}x{place:02d}" for place in range(filler))
    return {
        "id": f"{word}-{number}",
        "role": "assistant" if number % 2 else "user",
        "content": text,
        "created_at": f"2026-03-{day:02}T12:00:00Z",
    }


async def fill(running: RunningMemory, session: str, word: str, count: int, *, user: str, **more: Any) -> None:
    await running.client.append(session, [said(word, number, **more) for number in range(count)], user_id=user)


def found_in_files(folder: Path, *words: str) -> list[str]:
    """Which of the words are in which file, on the disk."""
    return [
        f"{word} in {path.name}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for raw in [path.read_bytes()]
        for word in words
        if word.encode() in raw
    ]


async def contents(running: RunningMemory, session: str) -> list[str]:
    return [turn.id for turn in (await running.client.turns(session, limit=1000)).items]


def execute(running: RunningMemory, statement: str, *values: object) -> Any:
    return running.service.store.database.write(lambda connection: connection.execute(statement, values).fetchall())


def delete_carelessly(path: Path, turn_id: str) -> None:
    """The newest turn, leaving its bytes where they are."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM turns WHERE turn_id = ?", (turn_id,))
        connection.execute("UPDATE sessions SET last_seq = last_seq - 1, tail_tokens = (SELECT sum(tokens) FROM turns)")


async def test_a_dry_run_counts_and_erases_nothing(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 6, user="ada")
        report = await running.client.forget(user_id="ada")

        assert (report.turns, report.sessions, report.dry_run, report.verified) == (6, 1, True, False)
        assert len(await contents(running, "s")) == 6
        assert (await running.client.audit()).items == []


async def test_a_user_is_forgotten_and_the_others_are_not(tmp_path: Path) -> None:
    async with (
        running_retrieval(tmp_path) as retrieval,
        running_memory(tmp_path, retrieval_url=retrieval.url) as running,
    ):
        await fill(running, "a1", "rose", 6, user="theuser")
        await fill(running, "a2", "lily", 6, user="theuser")
        await fill(running, "g", "oak", 6, user="grace")
        await running.client.compact("a1", tail_tokens_keep=0)
        await running.client.recall("rose0001", user_id="theuser")

        async def is_embedded() -> bool:
            return (await running.client.check()).checked["pending"] == 0

        await until(is_embedded)
        report = await running.client.forget(user_id="theuser", dry_run=False)

        # A vector for each turn, and one for the span.
        assert (report.turns, report.sessions, report.vectors, report.verified) == (12, 2, 13, True)
        assert (await running.client.recall("rose0001", user_id="theuser")).items == []
        assert (await running.client.sessions(user_id="theuser")).items == []
        assert len(await contents(running, "g")) == 6
        assert (await running.client.check()).clean
        memory = tmp_path / "memory"
        assert await asyncio.to_thread(found_in_files, memory, "rose", "lily", "theuser") == []
        assert await asyncio.to_thread(found_in_files, memory, "oak0003") != []


async def test_the_words_of_single_turns_are_gone_from_every_file_and_from_every_span(tmp_path: Path) -> None:
    async with running_memory(tmp_path, span_source_tokens_max=256) as running:
        for batch in range(10):
            turns = [said("rose", number) for number in range(8 * batch, 8 * batch + 8)]
            await running.client.append("s", turns, user_id="ada")
            await running.client.compact("s", tail_tokens_keep=100)
        await running.client.recall("rose0033", user_id="ada")
        gone = [0, 1, 2, 3, 33, 34, 50, 79]
        report = await running.client.forget(session_id="s", ids=[f"rose-{n}" for n in gone], dry_run=False)

        assert (report.turns, report.sessions, report.verified) == (8, 0, True)
        assert report.spans_remade > 2
        assert await asyncio.to_thread(found_in_files, tmp_path / "memory", *(f"rose{n:04d}" for n in gone)) == []
        assert await contents(running, "s") == [f"rose-{n}" for n in range(80) if n not in gone]
        assert (await running.client.session("s")).turns == 72
        spans = (await running.client.spans("s", limit=1000)).items
        assert max(span.level for span in spans) >= 1
        assert not [span for span in spans for n in gone if f"rose{n:04d}" in span.text]
        assert (await running.client.check()).clean
        # And it goes on from there.
        await fill(running, "s", "lily", 8, user="ada")
        await running.client.compact("s", tail_tokens_keep=0)
        assert (await running.client.check()).clean


async def test_what_sqlite_left_behind_is_found_and_goes_too(tmp_path: Path) -> None:
    """Without secure_delete whole rows stay behind, as copies do here and there with it."""
    async with running_memory(tmp_path) as running:
        for number in range(60):
            await running.client.append("s", [said("rose", number, filler=1 + 3 * number)], user_id="ada")
        await execute(running, "PRAGMA secure_delete = OFF")
        report = await running.client.forget(
            session_id="s", ids=[f"rose-{number}" for number in range(0, 60, 2)], dry_run=False
        )

        assert (report.turns, report.verified) == (30, True)
        words = [f"rose{number:04d}" for number in range(0, 60, 2)]
        assert await asyncio.to_thread(found_in_files, tmp_path / "memory", *words) == []
        assert len(await contents(running, "s")) == 30
        assert (await running.client.check()).clean


async def test_what_was_said_before_a_time_goes_with_the_sessions_that_it_empties(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "old", "rose", 4, user="ada", day=1)
        await fill(running, "mixed", "lily", 4, user="ada", day=1)
        await fill(running, "mixed", "oak", 4, user="ada", day=20)
        await fill(running, "other", "elm", 4, user="grace", day=1)
        moment = datetime(2026, 3, 10, tzinfo=UTC)

        report = await running.client.forget(user_id="ada", before=moment, dry_run=False)

        assert (report.turns, report.sessions, report.verified) == (8, 1, True)
        with pytest.raises(NotFound):
            await running.client.session("old")
        assert await contents(running, "mixed") == [f"oak-{n}" for n in range(4)]
        assert len(await contents(running, "other")) == 4
        assert (await running.client.check()).clean


async def test_an_id_may_be_used_again_after_it_was_forgotten(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 2, user="ada")
        await running.client.forget(session_id="s", ids=["rose-1"], dry_run=False)
        (appended,) = (await running.client.append("s", [said("rose", 1)])).turns

        assert (appended.status, appended.seq) == ("stored", 3)
        assert [item.seq for item in (await running.client.recall("rose0001", user_id="ada")).items] == [3]
        assert (await running.client.check()).clean


async def test_a_fact_goes_with_the_last_turn_that_it_came_from(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 3, user="ada")
        for key, (name, derived) in enumerate([("one", 1), ("two", 1), ("own", 0)], start=1):
            await execute(
                running,
                "INSERT INTO facts (id, tenant, user_id, fact_id, kind, text, status, valid_from, origin, derived, "
                "content_hash, tokens, created_at, updated_at) "
                "VALUES (?, 'default', 'ada', ?, 'fact', ?, 'active', '', '', ?, x'', 1, '', '')",
                key,
                name,
                f"thefact{name} thefact{name}",
                derived,
            )
        for fact, turn in ((1, "rose-0"), (2, "rose-0"), (2, "rose-1"), (3, "rose-0")):
            statement = "INSERT INTO fact_sources (fact, turn) SELECT ?, id FROM turns WHERE turn_id = ? RETURNING fact"
            await execute(running, statement, fact, turn)

        report = await running.client.forget(session_id="s", ids=["rose-0"], dry_run=False)
        left = await execute(running, "SELECT fact_id FROM facts ORDER BY id")
        assert (report.facts, report.verified, left) == (1, True, [("two",), ("own",)])
        assert await asyncio.to_thread(found_in_files, tmp_path / "memory", "thefactone") == []

        assert (await running.client.forget(ids=["own"], dry_run=False)).facts == 1
        assert (await running.client.forget(user_id="ada", dry_run=False)).facts == 1


async def test_nothing_is_forgotten_by_default_nor_of_another_tenant_or_user(tmp_path: Path) -> None:
    mine = await make_key(tmp_path, "mine", "memory:read", "memory:write")
    other = await make_key(tmp_path, "other", "memory:read", "memory:write")
    async with running_memory(tmp_path, key=mine) as running:
        await fill(running, "s", "rose", 3, user="ada")
        with pytest.raises(InvalidFields, match="nothing is forgotten by default"):
            await running.client.forget(dry_run=False)
        with pytest.raises(InvalidFields, match="facts"):
            await running.client.forget(ids=["x"], before=datetime.now(UTC), dry_run=False)
        with pytest.raises(NotFound, match="no session"):
            await running.client.forget(session_id="s", user_id="grace", dry_run=False)
        with pytest.raises(Forbidden, match="admin"):
            await running.client.audit()
        async with type(running.client)(running.url, api_key=other) as stranger:
            with pytest.raises(NotFound, match="no session"):
                await stranger.forget(session_id="s", dry_run=False)
            for report in (
                await stranger.forget(user_id="ada", dry_run=False),
                await stranger.forget(before=datetime.now(UTC), dry_run=False),
            ):
                assert (report.turns, report.sessions) == (0, 0)
        assert len(await contents(running, "s")) == 3


async def test_the_audit_says_who_when_and_how_much_and_never_what(tmp_path: Path) -> None:
    key = await make_key(tmp_path, "mine", "admin")
    async with running_memory(tmp_path, key=key) as running:
        await fill(running, "thesession", "rose", 3, user="theuser")
        await fill(running, "g", "oak", 1, user="grace")
        await running.client.forget(session_id="thesession", ids=["rose-0"], dry_run=False)
        await running.client.forget(user_id="theuser", dry_run=False)
        entries = (await running.client.audit()).items

        assert [(entry.action, entry.report.turns, entry.report.verified) for entry in entries] == [
            ("forget", 1, True),
            ("forget", 2, True),
        ]
        assert {entry.key_id for entry in entries} == {key.split("_")[1]}
        assert entries[0].scope.ids == 1
        assert [entry.id for entry in (await running.client.audit(user_id="theuser")).items] == [entries[1].id]
        assert (await running.client.audit(session_id="g")).items == []
        first = await running.client.audit(limit=1)
        assert (await running.client.audit(cursor=first.next_cursor)).items == entries[1:]
    assert await asyncio.to_thread(found_in_files, tmp_path / "memory", "theuser", "thesession", "rose") == []


async def test_what_a_crash_kept_from_the_bytes_is_settled_at_the_next_start(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, "s", "rose", 50, user="ada")
        await running.client.forget(session_id="s", ids=["rose-1"], dry_run=False)
        # As if the process had been killed right after the transaction.
        await execute(running, "UPDATE audit SET settled = 0")
    await asyncio.to_thread(delete_carelessly, tmp_path / "memory/memory.db", "rose-49")
    assert await asyncio.to_thread(found_in_files, tmp_path / "memory", "rose0049") != []

    async with running_memory(tmp_path) as running:

        async def is_settled() -> bool:
            return not await execute(running, "SELECT id FROM audit WHERE NOT settled")

        await until(is_settled)
        assert await asyncio.to_thread(found_in_files, tmp_path / "memory", "rose0049") == []


class TestRetention:
    async def test_a_session_keeps_its_newest_turns_and_a_tenant_its_youngest(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            await running.client.put_session("few", SessionSpec(user_id="ada", retention=Retention(turns_max=3)))
            today = datetime.now(UTC).isoformat()
            for session in ("few", "all"):
                turns = [{**said("rose", number), "created_at": today} for number in range(6)]
                await running.client.append(session, turns, user_id="ada")
            await fill(running, "old", "lily", 4, user="ada")
            await running.client.put_retention(days_max=30)

            async def is_done() -> bool:
                return [len(await contents(running, name)) for name in ("few", "all", "old")] == [3, 6, 0]

            await until(is_done)
            assert await contents(running, "few") == ["rose-3", "rose-4", "rose-5"]
            assert (await running.client.session("few")).retention == Retention(turns_max=3)
            retention = await running.client.retention()
            assert (retention.days_max, retention.turns_max) == (30, None)
            assert {entry.action for entry in (await running.client.audit()).items} == {"retain"}
            assert (await running.client.check()).clean

    async def test_of_two_limits_the_stricter_holds(self, tmp_path: Path) -> None:
        async with running_memory(tmp_path) as running:
            retentions = Retentions(running.service.store.database)
            # Behind the job's back, so that only what is overdue is seen.
            await execute(running, "INSERT INTO retention VALUES ('default', 10, 5)")
            for name, days, turns in (("a", 2, None), ("b", None, 2), ("c", 20, 50), ("d", None, None)):
                await fill(running, name, "rose", 8, user="ada", day=5)
                await execute(
                    running,
                    "UPDATE sessions SET retain_days_max = ?, retain_turns_max = ? WHERE session_id = ?",
                    days,
                    turns,
                    name,
                )

            async def overdue(day: int) -> list[int]:
                found = await retentions.overdue(datetime(2026, 3, day, 13, tzinfo=UTC), 1000)
                keys = set(found.get("default", []))
                names = "SELECT s.session_id, t.id FROM turns t JOIN sessions s ON s.id = t.session"
                rows = await execute(running, names)
                return [sum(key in keys for session, key in rows if session == name) for name in "abcd"]

            assert await overdue(5) == [3, 6, 3, 3]
            assert await overdue(8) == [8, 6, 3, 3]
            assert await overdue(16) == [8, 8, 8, 8]
