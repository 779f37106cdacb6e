"""Answers of the real service keep to their budgets on both channels, whatever is remembered and however tight they are."""

import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from mcp.types import CallToolResult

from shared.fact_messages import FactIn
from shared.mcp.budget import CHARACTERS_MAX
from shared.memory_messages import AppendRequest, FactKind, TurnIn
from shared.tokens import estimate_tokens
from tests.agents import Agent, agent_at, text_of
from tests.harness import RunningMemory, running_memory

WORDS = (
    ["queue", "deploy", "vault", "Lisbon", "the", "of", "4711", "/srv/app.log"],
    ["記憶", "会議は", "金曜日", "です。", "東京"],
    ["🦊", "🏡", "👩‍🚀", "e\u0301", "ß", "İ"],
    ['"quoted"', "\\path\\to", "\n", "\n> - x", "\u2028", "\x07", "</document>", "```"],
)


@pytest.fixture(scope="module", params=[1, 2, 3])
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)  # noqa: S311 - the same in every run


@pytest.fixture
async def filled(tmp_path: Path, chance: random.Random) -> AsyncIterator[RunningMemory]:
    async with running_memory(tmp_path) as running:
        service = running.service
        for number in range(60):
            kind = chance.choice(get_args(FactKind))
            fact = FactIn(
                user_id="local", text=f"{number} {words(chance, 60)}"[:4096], kind=kind, pinned=number % 9 == 0
            )
            await service.facts.put("default", fact)
        for session in ("a", "b", 'c "' + "界" * 200):
            turns = [TurnIn(role="user", content=words(chance, 120), name=words(chance, 3)[:256]) for _ in range(60)]
            await service.append("default", session, AppendRequest(user_id="local", turns=turns))
            await running.client.compact(session, tail_tokens_keep=1000)
        yield running


def words(chance: random.Random, most: int) -> str:
    chosen = chance.choice(WORDS)
    return " ".join(chance.choice(chosen) for _ in range(chance.randint(1, most if chance.random() < 0.95 else 4000)))


def tokens_of(result: CallToolResult) -> int:
    """Of the larger channel, as compact JSON."""
    encoded = msgspec.json.encode(result.structured_content).decode()
    assert max(len(encoded), len(text_of(result))) <= CHARACTERS_MAX
    return max(estimate_tokens(text_of(result)), estimate_tokens(encoded))


async def test_no_answer_is_larger_than_its_budget(
    filled: RunningMemory, chance: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    async with agent_at(filled.url) as agent:
        used = [await _used(agent, tool, chance) for tool in ("get_context", "search_memories", "get_session") * 20]
    assert all(tokens <= budget for _, tokens, budget in used)
    shares = {tool: sorted(tokens / budget for each, tokens, budget in used if each == tool) for tool, *_ in used}
    with capsys.disabled():
        for tool, found in shares.items():
            sys.stdout.write(
                f"\n{tool}: {found[len(found) // 2]:.2f} of its budget at the median, {found[-1]:.2f} at most"
            )


async def _used(agent: Agent, tool: str, chance: random.Random) -> tuple[str, int, int]:
    budget = int(chance.choice([500, 600, 1000, 2000, 8000]))
    session_id = chance.choice(["a", "b", 'c "' + "界" * 200])
    if tool == "get_context":
        budget = int(chance.choice([200, 300, budget]))
        result = await agent.call(tool, task=words(chance, 20)[:2000], session_id=session_id, max_tokens=budget)
    elif tool == "search_memories":
        kinds = chance.choice([None, ["message", "summary"], ["instruction"], ["summary"]])
        detail = chance.choice(["concise", "detailed"])
        result = await agent.call(
            tool, query=words(chance, 20)[:2000], kinds=kinds, detail=detail, limit=50, max_tokens=budget
        )
    else:
        result = await agent.call(tool, session_id=session_id, max_tokens=budget)
    assert not result.is_error, text_of(result)
    return tool, tokens_of(result), budget
