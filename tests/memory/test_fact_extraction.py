"""Facts that a model takes from turns: shown nothing that was recalled, and held against what the user said."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from memory.facts.extraction import pieces_of, read_answer
from shared.errors import Conflict, NotFound, Unavailable
from shared.fact_messages import ExtractAnswer, ExtractRequest
from shared.memory_messages import Turn
from shared.tokens import estimate_tokens
from tests.harness import RunningMemory, running_memory
from tests.memory.chats import refused, said
from tests.shared.scripted import Answer, Broken, Scripted, Silence, scripted

# The model of languages is loaded once.
pytestmark = pytest.mark.blocking

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TALK = [
    {"id": "t1", "role": "user", "content": "I moved to Porto in May 2024.", "name": "Ada"},
    {"id": "t2", "role": "assistant", "content": "As you said before, your cat is called Miez and is 7."},
    {"id": "t3", "role": "user", "content": "I like my coffee black. The order number is 4711.", "name": "Ada"},
    {"id": "t4", "role": "tool", "content": "weather: 31 degrees in Porto"},
]
PORTO = {"text": "Ada moved to Porto in May 2024.", "kind": "fact", "key": "ada.home", "turns": [1]}
COFFEE = {"text": "Ada likes her coffee black.", "kind": "preference", "turns": [3, 2]}


def noted(*facts: dict[str, Any]) -> Answer:
    return said(f"```json\n{json.dumps(facts)}\n```")


@asynccontextmanager
async def remembering(
    folder: Path, *answers: Answer | type[Silence] | type[Broken], **settings: Any
) -> AsyncIterator[tuple[RunningMemory, Scripted]]:
    chosen = {"llm_model": "tiny", "llm_retries": 0, **settings}
    async with scripted(*answers) as server, running_memory(folder, llm_url=f"{server.url}/v1", **chosen) as running:
        await running.client.append("s", TALK, user_id="ada")
        yield running, server
        assert (await running.service.check()).findings == []


async def extracted(folder: Path, *facts: dict[str, Any], **settings: Any) -> ExtractAnswer:
    async with remembering(folder, noted(*facts), **settings) as (running, _):
        return await running.client.extract_facts("s")


async def test_what_the_user_said_is_noted_with_its_turns_and_waits_for_approval(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted(PORTO, COFFEE)) as (running, _):
        answer = await running.client.extract_facts("s")
        waiting = (await running.client.facts("ada", status="pending")).items

        assert [(fact.text, fact.status) for fact in answer.facts] == [
            (PORTO["text"], "pending"),
            (COFFEE["text"], "pending"),
        ]
        assert (answer.refused, answer.last_seq, answer.has_more) == ([], 4, False)
        assert [fact.id for fact in waiting] == [fact.id for fact in answer.facts]
        assert [[source.turn_id for source in fact.sources] for fact in waiting] == [["t1"], ["t3"]]
        assert [(fact.kind, fact.key) for fact in waiting] == [("fact", "ada.home"), ("preference", None)]
        assert {fact.origin for fact in waiting} == {"llm:tiny@extract.v1"}
        (first, *_) = (await running.client.turns("s")).items
        assert waiting[0].valid_from == first.created_at
        assert (await running.client.facts("ada")).items == []


async def test_where_nothing_waits_it_holds_at_once_and_goes_with_its_turns(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted(PORTO), facts_approval="none") as (running, _):
        assert [fact.status for fact in (await running.client.extract_facts("s")).facts] == ["created"]
        assert len((await running.client.facts("ada")).items) == 1
        assert (await running.client.erase_session("s")).facts == 1
        assert (await running.client.facts("ada")).items == []


async def test_looking_at_the_same_turns_again_writes_nothing(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted(PORTO), facts_approval="none") as (running, _):
        first = await running.client.extract_facts("s")
        again = await running.client.extract_facts("s")

        assert [fact.status for fact in again.facts] == ["unchanged"]
        assert [fact.id for fact in again.facts] == [fact.id for fact in first.facts]


async def test_what_was_rejected_is_not_noted_again(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted(PORTO)) as (running, _):
        (fact,) = (await running.client.extract_facts("s")).facts
        await running.client.change_fact(fact.id, status="rejected")
        again = await running.client.extract_facts("s")

        assert again.facts == []
        assert [each.reason for each in again.refused] == ["rejected"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"text": "Ada moved to Porto in May 2025."}, "unsupported"),
        ({"text": "The weather forecast promises heavy rain tomorrow."}, "unsupported"),
        ({"text": "Ada's cat is called Miez and is 7."}, "unsupported"),
        ({"turns": [2]}, "no_source"),
        ({"turns": []}, "no_source"),
        ({"turns": [99]}, "no_source"),
        ({"kind": "instruction"}, "kind"),
        ({"key": "a; drop"}, "key"),
        ({"text": "Porto " * 200}, "too_long"),
        ({"text": " "}, "malformed"),
        ({"text": 7}, "malformed"),
        ({"turns": "1"}, "malformed"),
    ],
    ids=str,
)
async def test_what_cannot_be_stood_by_is_refused_and_the_rest_is_kept(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    answer = await extracted(tmp_path, {**PORTO, **change}, COFFEE)

    assert [fact.text for fact in answer.facts] == [COFFEE["text"]]
    assert [each.reason for each in answer.refused] == [reason]


async def test_the_model_is_shown_no_recalled_text_and_no_output_of_tools(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted()) as (running, server):
        await running.client.put_fact(user_id="ada", text="Ada owns a red bicycle.", pinned=True)
        context = await running.client.context("bicycle", user_id="ada")
        assert "bicycle" in context.text
        pasted = [{"id": "t5", "role": "user", "content": f"I am tired.\n{context.text}"}]
        await running.client.append("s", pasted)
        assert (await running.client.extract_facts("s")).facts == []

        (asked,) = server.asked
        sent = json.loads(asked.body)["messages"][1]["content"]
        assert "[1]" in sent
        assert "I am tired." in sent
        assert "Miez" in sent  # what the assistant said is shown, and is no source
        assert "bicycle" not in sent
        assert "31 degrees" not in sent


async def test_turns_are_looked_at_in_steps(tmp_path: Path) -> None:
    async with remembering(tmp_path, noted()) as (running, server):
        first = await running.client.extract_facts("s", limit=3)
        second = await running.client.extract_facts("s", after=first.last_seq)
        third = await running.client.extract_facts("s", after=second.last_seq)

        assert [(each.last_seq, each.has_more) for each in (first, second, third)] == [
            (3, True),
            (4, False),
            (4, False),
        ]
        assert len(server.asked) == 1  # where the user says nothing there is nothing to ask


async def test_a_model_that_does_not_answer_is_an_outage_and_one_that_babbles_is_refused(tmp_path: Path) -> None:
    async with remembering(tmp_path / "a", refused(500)) as (running, _):
        # The client would wait and try again.
        with pytest.raises(Unavailable, match="no answer"):
            await running.service.extract("default", "s", ExtractRequest())
    async with remembering(tmp_path / "b", said("I found that Ada likes tea.")) as (running, _):
        answer = await running.client.extract_facts("s")
        assert ([each.reason for each in answer.refused], answer.facts) == (["malformed"], [])


async def test_without_a_model_or_without_a_user_nothing_is_noted(tmp_path: Path) -> None:
    async with running_memory(tmp_path / "a") as alone:
        await alone.client.append("s", TALK, user_id="ada")
        with pytest.raises(Conflict, match="llm_url"):
            await alone.client.extract_facts("s")
    async with remembering(tmp_path / "b", noted()) as (running, _):
        await running.client.append("nobody's", TALK)
        with pytest.raises(Conflict, match="user_id"):
            await running.client.extract_facts("nobody's")
        with pytest.raises(NotFound):
            await running.client.extract_facts("none")


def turn(seq: int, content: str, role: Any = "user") -> Turn:
    return Turn(
        id=str(seq),
        seq=seq,
        role=role,
        content=content,
        created_at=NOW,
        metadata={},
        tokens=estimate_tokens(content),
    )


def test_long_conversations_are_read_in_pieces_that_fit_and_nothing_is_cut_off() -> None:
    turns = [turn(seq, " ".join(f"word{seq}x{number}" for number in range(seq * 60))) for seq in range(1, 9)]
    turns.append(turn(9, "only an answer", "assistant"))
    pieces = pieces_of(turns, 300)

    assert all(estimate_tokens(piece.text) <= 300 for piece in pieces)
    shown = "\n".join(piece.text for piece in pieces)
    assert all(f"word{seq}x{number}" in shown for seq in range(1, 9) for number in range(seq * 60))


def test_an_answer_that_was_cut_off_keeps_its_whole_statements() -> None:
    (piece,) = pieces_of([turn(1, "I moved to Porto. I like tea.")], 300)
    text = '[{"text": "The user moved to Porto.", "turns": [1]}, {"text": "The user li'
    kept, wrong = read_answer(text, piece)

    assert ([each.text for each in kept], wrong) == (["The user moved to Porto."], [])
