"""Compaction through the service: folded in the background or on demand, opened again, and nothing lost on the way."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from diptych import Policy, SessionSpec
from memory.compaction import compactor
from memory.compaction.compactor import Compactor
from memory.compaction.folding import Piece
from memory.compaction.spans import OVERFULL, NewSpan
from memory.truth.records import SessionRow
from memory.truth.schema import migrations
from shared.database import Database
from shared.errors import InvalidFields, NotFound
from shared.memory_messages import Span
from tests.harness import RunningMemory, make_key, running_memory, until

SMALL = SessionSpec(user_id="u", policy=Policy(tail_tokens_max=400, tail_tokens_keep=200))


def exchange(number: int, words: int = 30) -> list[dict[str, Any]]:
    """A question, a call, its result and an answer, with words of their own."""
    filler = " ".join(f"w{number}x{place}" for place in range(words // 4))
    return [
        {"id": f"{number}-{part}", "role": role, "content": f"{part} of {number}: {filler}"}
        for part, role in (("question", "user"), ("call", "assistant"), ("result", "tool"), ("answer", "assistant"))
    ]


async def fill(running: RunningMemory, count: int, *, session: str = "s", first: int = 0) -> None:
    for number in range(first, first + count):
        await running.client.append(session, exchange(number))


async def spans_of(running: RunningMemory, session: str = "s") -> list[Span]:
    return (await running.client.spans(session, limit=1000)).items


async def compacted(running: RunningMemory, session: str = "s") -> None:
    """Waits for the background."""

    async def is_small() -> bool:
        found = await running.client.session(session)
        return found.tail_tokens <= found.policy.tail_tokens_max

    await until(is_small)


async def opened(running: RunningMemory, span: Span) -> list[int]:
    """The turns of a span, by page."""
    found, cursor = [], None
    while True:
        page = await running.client.span_turns(span.id, cursor=cursor, limit=3)
        found += [turn.seq for turn in page.items]
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


async def test_the_look_for_full_tails_reads_no_other_session(tmp_path: Path) -> None:
    database = await asyncio.to_thread(Database.open, tmp_path / "memory.db", migrations, readers=1)
    plan = await database.read(
        lambda connection: connection.execute(f"EXPLAIN QUERY PLAN {OVERFULL}", ("extractive", 0, 10)).fetchall()
    )
    await asyncio.to_thread(database.close)

    assert [row[3] for row in plan] == ["SEARCH sessions USING INDEX sessions_overfull (<expr>=? AND id>?)"]


async def test_a_tail_that_outgrows_its_policy_is_folded_in_the_background(tmp_path: Path) -> None:
    async with running_memory(tmp_path, span_source_tokens_max=256) as running:
        await running.client.put_session("s", SMALL)
        answers = [await running.client.append("s", exchange(number)) for number in range(12)]
        await compacted(running)
        session, spans = await running.client.session("s"), await spans_of(running)
        lowest = [span for span in spans if span.level == 0]

        assert answers[0].compaction == "none"
        assert "queued" in {answer.compaction for answer in answers}
        assert session.tail_tokens <= 400
        assert [seq for span in lowest for seq in await opened(running, span)] == list(
            range(1, lowest[-1].last_seq + 1)
        )
        assert all(span.tokens <= max(64, 0.2 * span.source_tokens) for span in lowest)
        assert {span.session_id for span in spans} == {"s"}
        assert (await running.client.check()).clean


async def test_every_turn_is_still_read_and_recalled_after_all_is_folded(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.put_session("s", SessionSpec(user_id="u"))
        await fill(running, 5)
        before = (await running.client.turns("s")).items
        answer = await running.client.compact("s", tail_tokens_keep=0)

        assert (answer.turns_folded, answer.tail_tokens) == (20, 0)
        assert (await running.client.turns("s")).items == before
        found = await running.client.recall("w3x2", user_id="u", limit=4)
        assert {item.seq for item in found.items} == {13, 14, 15, 16}


async def test_compacting_again_changes_nothing(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.put_session("s", SMALL)
        await fill(running, 8)
        await running.client.compact("s")
        spans = await spans_of(running)

        answer = await running.client.compact("s")

        assert (answer.spans_created, answer.turns_folded) == (0, 0)
        assert await spans_of(running) == spans
        assert spans


async def test_spans_pile_up_into_higher_ones_and_each_opens_to_all_of_its_turns(tmp_path: Path) -> None:
    async with running_memory(tmp_path, span_source_tokens_max=256) as running:
        await running.client.put_session("s", SMALL)
        for number in range(60):
            await running.client.append("s", exchange(number, words=100))
            if number % 5 == 4:
                await running.client.compact("s")
        spans = await spans_of(running)
        by_id = {span.id: span for span in spans}

        assert max(span.level for span in spans) >= 2
        for span in spans:
            assert await opened(running, span) == list(range(span.first_seq, span.last_seq + 1))
            if span.parent_id is not None:
                above = by_id[span.parent_id]
                assert above.level == span.level + 1
                assert above.first_seq <= span.first_seq <= span.last_seq <= above.last_seq
        assert (await running.client.check()).clean
        levels = {span.level for span in spans}
        assert {span.level for span in (await running.client.spans("s", level=1)).items} == {1} <= levels


async def test_a_context_reads_spans_for_what_is_folded_and_says_how_they_open(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.put_session("s", SessionSpec(user_id="u"))
        await fill(running, 6)
        await running.client.compact("s", tail_tokens_keep=120)
        spans = await spans_of(running)
        answer = await running.client.context("unrelated", session_id="s", max_tokens=1000)

        kinds = [part.kind for part in answer.parts]
        assert {"summary", "turn"} <= set(kinds)
        assert kinds.index("summary") < kinds.index("turn")
        summaries = [part for part in answer.parts if part.kind == "summary"]
        assert [part.sources[0].span_id for part in summaries] == [span.id for span in spans]  # type: ignore[union-attr]
        assert all(f"span {span.id}]" in answer.text for span in spans)
        seqs = [part.sources[0].seq for part in answer.parts if part.kind == "turn"]  # type: ignore[union-attr]
        assert seqs == list(range(spans[-1].last_seq + 1, 25))


async def test_a_context_of_an_earlier_moment_knows_no_later_span(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        turns = [
            {
                "id": str(day),
                "role": "user",
                "content": f"said on day {day}",
                "created_at": f"2026-03-{day:02}T12:00:00Z",
            }
            for day in range(1, 11)
        ]
        await running.client.append("s", turns[:4], user_id="u")
        await running.client.compact("s", tail_tokens_keep=0)
        await running.client.append("s", turns[4:])
        await running.client.compact("s", tail_tokens_keep=0)

        answer = await running.client.context(session_id="s", as_of=datetime(2026, 3, 6, 13, tzinfo=UTC))

        assert [part.kind for part in answer.parts if part.kind != "recalled"] == ["summary", "turn", "turn"]
        assert "day 6" in answer.text
        assert "day 7" not in answer.text


async def test_a_restart_goes_on_with_what_is_due(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await running.client.put_session("s", SessionSpec(user_id="u"))
        await fill(running, 10)
        # Nothing tells the compactor of a policy: the next append or the next start finds what it makes due.
        await running.client.put_session("s", SMALL)
        assert await spans_of(running) == []
    async with running_memory(tmp_path) as running:
        await compacted(running)
        assert await spans_of(running)
        assert (await running.client.check()).clean


async def test_a_session_that_cannot_be_compacted_holds_up_no_other_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, broken = Compactor._made, {"bad"}

    async def made(self: Compactor, row: SessionRow, piece: Piece) -> NewSpan | None:
        if row.session_id in broken:
            raise ArithmeticError("a session that breaks its summarizer")
        return await make(self, row, piece)

    monkeypatch.setattr(Compactor, "_made", made)
    monkeypatch.setattr(compactor, "_RETRY_S", 0.2)
    async with running_memory(tmp_path) as running:
        for session in ("bad", "good"):
            await running.client.put_session(session, SMALL)
            await fill(running, 12, session=session)

        await compacted(running, "good")

        assert await spans_of(running, "good")
        assert (await running.client.session("bad")).tail_tokens > 400
        assert not await spans_of(running, "bad")

        broken.clear()

        await compacted(running, "bad")


async def test_appends_and_compactions_at_once_lose_and_repeat_nothing(tmp_path: Path) -> None:
    async with running_memory(tmp_path, span_source_tokens_max=256) as running:
        await running.client.put_session("s", SMALL)

        async def compacting() -> None:
            for _ in range(8):
                await running.client.compact("s", tail_tokens_keep=100)

        await asyncio.gather(*(fill(running, 8, first=8 * writer) for writer in range(3)), compacting(), compacting())
        await compacted(running)

        turns = (await running.client.turns("s", limit=1000)).items
        assert [turn.seq for turn in turns] == list(range(1, 97))
        assert (await running.client.check()).clean


async def test_spans_belong_to_their_tenant(tmp_path: Path) -> None:
    mine = await make_key(tmp_path, "mine", "memory:read", "memory:write")
    other = await make_key(tmp_path, "other", "memory:read", "memory:write")
    async with running_memory(tmp_path, key=mine) as running:
        await fill(running, 2)
        await running.client.compact("s", tail_tokens_keep=0)
        (span,) = await spans_of(running)
        async with type(running.client)(running.url, api_key=other) as stranger:
            with pytest.raises(NotFound, match="no span"):
                await stranger.span_turns(span.id)
            with pytest.raises(NotFound, match="no session"):
                await stranger.spans("s")
            with pytest.raises(NotFound, match="no session"):
                await stranger.compact("s")


async def test_an_erased_session_takes_its_spans_along(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        await fill(running, 2)
        await running.client.compact("s", tail_tokens_keep=0)
        (span,) = await spans_of(running)
        report = await running.client.erase_session("s")

        assert report.verified
        with pytest.raises(NotFound, match="no span"):
            await running.client.span_turns(span.id)
        assert (await running.client.check()).clean


async def test_a_policy_that_keeps_more_than_it_allows_is_refused(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        with pytest.raises(InvalidFields, match="tail_tokens_keep"):
            await running.client.put_session("s", SessionSpec(policy=Policy(tail_tokens_max=300, tail_tokens_keep=301)))
