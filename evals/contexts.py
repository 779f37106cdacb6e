"""What of the evidence a context of 2,000 tokens holds, before and after all that was said is folded.

Each question is asked for the user's memory alone, and once more in the user's last session, whose own turns then have the
first say in the budget. A turn counts that is named as a source and whose whole text is there; a span that tells of it does not.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.pair import until_vectors_filled
from diptych import MemoryClient
from evals.conversations import Conversation, Question
from shared.errors import Unavailable
from shared.memory_messages import ContextAnswer, TurnSource

BUDGET: Final = 2000
_TIMEOUT_S: Final = 3600.0
# By name: whether it is asked within the last session.
_WHERE: Final = {"the user's memory": False, "in the last session": True}


class ContextScores(msgspec.Struct, frozen=True, kw_only=True):
    """`share` is the mean share of a question's evidence turns, by category too. Times in milliseconds over HTTP, with questions
    whose vectors are known; `tokens` are the mean, `tokens_max` the most."""

    share: float
    categories: dict[str, float]
    tokens: float
    tokens_max: int
    ms: dict[str, float]


async def measure(
    memory: MemoryClient, memory_url: str, name: str, conversations: Sequence[Conversation], bar: Progress
) -> dict[str, ContextScores]:
    """By name. Leaves every session folded."""
    scores = {}
    for state in ("", ", all folded"):
        if state:
            await _fold(memory, memory_url, name, conversations, bar)
        for where, is_within in _WHERE.items():
            scores[where + state] = await _ask_all(
                memory, f"{name}: {where}{state}", conversations, bar, is_within=is_within
            )
    return scores


async def _fold(
    memory: MemoryClient, memory_url: str, name: str, conversations: Sequence[Conversation], bar: Progress
) -> None:
    sessions = [session for each in conversations for session in each.sessions]
    task = bar.add_task(f"{name}: folding", total=len(sessions))
    for session in sessions:
        await memory.compact(session, tail_tokens_keep=0)
        bar.advance(task)
    await until_vectors_filled(memory_url, _TIMEOUT_S)


async def _ask_all(
    memory: MemoryClient, label: str, conversations: Sequence[Conversation], bar: Progress, *, is_within: bool
) -> ContextScores:
    asked = [(each, question) for each in conversations for question in each.questions]
    task = bar.add_task(label, total=len(asked))
    shares: list[float] = []
    tokens: list[int] = []
    spent: list[float] = []
    for conversation, question in asked:
        started = time.perf_counter()
        answer = await memory.context(
            question.text,
            user_id=conversation.user_id,
            session_id=list(conversation.sessions)[-1] if is_within else None,
            max_tokens=BUDGET,
            as_of=conversation.ended_at,
        )
        spent.append(1000.0 * (time.perf_counter() - started))
        if answer.degraded or answer.tokens > BUDGET:
            raise Unavailable(
                f"a context was degraded ({answer.degraded}), or over its budget ({answer.tokens} tokens)"
            )
        shares.append(_share(answer, conversation, question))
        tokens.append(answer.tokens)
        bar.advance(task)
    categories = dict.fromkeys(question.category for _, question in asked)
    return ContextScores(
        share=_mean(shares),
        categories={
            each: _mean(
                [share for share, (_, question) in zip(shares, asked, strict=True) if question.category == each]
            )
            for each in categories
        },
        tokens=round(float(np.mean(tokens)), 1),
        tokens_max=max(tokens),
        ms={f"p{part}": round(float(np.percentile(spent, part)), 2) for part in (50, 95, 99)},
    )


def _share(answer: ContextAnswer, conversation: Conversation, question: Question) -> float:
    said = {turn.id: turn.content for turns in conversation.sessions.values() for turn in turns}
    held = {
        source.turn_id
        for part in answer.parts
        for source in part.sources
        if isinstance(source, TurnSource) and said[source.turn_id] in part.text.replace("\n> ", "\n")
    }
    return len(question.evidence & held) / len(question.evidence)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
