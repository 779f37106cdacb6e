"""Sessions whose policy asks for a language model: its summary where it passes, an extract where it does not."""

from pathlib import Path
from typing import Any

import pytest

from diptych import Policy, SessionSpec
from shared.errors import InvalidFields
from tests.harness import running_memory
from tests.memory.chats import refused, said
from tests.memory.test_compaction import compacted, exchange, fill, spans_of
from tests.shared.scripted import Scripted, Silence, scripted

# The prompt is read once, when a service starts; tests start one each.
pytestmark = pytest.mark.blocking

BY_MODEL = SessionSpec(user_id="u", policy=Policy(tail_tokens_max=400, tail_tokens_keep=200, summarizer="llm"))
SUMMARY = "They went through the questions one by one, and each was answered after a call."


def named(server: Scripted) -> dict[str, Any]:
    return {"llm_url": f"{server.url}/v1", "llm_model": "tiny", "llm_retries": 0}


async def test_a_span_says_what_the_model_said_with_the_ledger_below_it(tmp_path: Path) -> None:
    async with scripted(said(SUMMARY)) as server, running_memory(tmp_path, **named(server)) as running:
        await running.client.put_session("s", BY_MODEL)
        await running.client.append("s", exchange(1))
        await running.client.append("s", [{"id": "path", "role": "user", "content": "It is in /srv/app/settings.toml"}])
        await running.client.compact("s", tail_tokens_keep=0)
        [span] = [span for span in await spans_of(running) if span.level == 0]

        assert span.summarizer == "llm:tiny@summarize.v1"
        assert span.text == SUMMARY
        assert "/srv/app/settings.toml" in [item.text for item in span.ledger]


async def test_without_an_answer_of_the_model_the_span_is_an_extract_and_nothing_waits(tmp_path: Path) -> None:
    async with scripted(refused(500)) as server, running_memory(tmp_path, **named(server)) as running:
        await running.client.put_session("s", BY_MODEL)
        await fill(running, 12)
        await compacted(running)

        assert {span.summarizer for span in await spans_of(running)} == {"extractive.1"}


async def test_a_session_without_the_model_does_not_wait_for_one_that_has_it(tmp_path: Path) -> None:
    async with scripted(Silence) as server, running_memory(tmp_path, **named(server)) as running:
        await running.client.put_session("slow", BY_MODEL)
        await fill(running, 12, session="slow")
        await running.client.put_session("s", SessionSpec(policy=Policy(tail_tokens_max=400, tail_tokens_keep=200)))
        await fill(running, 12)
        await compacted(running)

        assert await spans_of(running)
        assert not await spans_of(running, "slow")


async def test_a_policy_that_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    async with running_memory(tmp_path) as running:
        with pytest.raises(InvalidFields, match="llm_url") as raised:
            await running.client.put_session("s", BY_MODEL)

    assert [problem.path for problem in raised.value.errors] == ["$.policy.summarizer"]
