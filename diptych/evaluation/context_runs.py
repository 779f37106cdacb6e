"""What of the evidence an assembled context holds, by budget, before and after all that was said is folded.

A turn counts that is named as a source and whose whole text is there; a span that tells of it does not.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.progress import Progress

from diptych.evaluation.conversations import Conversation, MemoryDataset, Question
from diptych.evaluation.memory_runs import Owner, until_embedded
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from diptych.memory_client import MemoryClient
from shared.errors import SettingsError, Unavailable
from shared.memory_messages import ContextAnswer, TurnSource

BUDGETS: Final = (1000, 2000, 4000)
State = Literal["unfolded", "folded"]
STATES: Final[tuple[State, ...]] = ("unfolded", "folded")


@dataclass(frozen=True, slots=True)
class _Asked:
    share: float
    tokens: int
    latency_ms: float


def context_metrics(budgets: Sequence[int], states: Sequence[State] = STATES) -> list[str]:
    """`share@2000 folded` is the mean share of a question's evidence turns in a context of 2,000 tokens."""
    return [_metric(budget, state) for state in states for budget in budgets]


async def evaluate_contexts(
    client: MemoryClient,
    dataset: MemoryDataset,
    *,
    owner: Owner,
    label: str = "",
    budgets: Sequence[int] = BUDGETS,
    states: Sequence[State] = STATES,
    is_within: bool = False,
    bar: Progress,
) -> Result:
    """Of memories that are filled; with the state `folded` they are folded when it ends. `is_within` asks in the conversation's
    last session, whose own turns then have the first say in the budget. Tokens and latencies are those of the first budget and
    state. Raises SettingsError where the unfolded state is asked for and an earlier run has folded."""
    if "unfolded" in states and (session := await folded_session(client, dataset, owner)):
        raise SettingsError(
            f"session {session} is folded by an earlier run; ask only after folding (--state folded), or fill another "
            "memory (--user)"
        )
    asked: dict[str, dict[str, _Asked]] = {}
    for state in states:
        if state == "folded":
            await fold(client, dataset, owner, bar)
        for budget in budgets:
            name = _metric(budget, state)
            asked[name] = await _ask_all(client, dataset, owner, budget, name, bar, is_within=is_within)
    first = asked[_metric(budgets[0], states[0])]
    return make_result(
        kind="context",
        label=label or ("contexts in the last session" if is_within else "contexts"),
        dataset=DatasetInfo(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts),
        settings={"budgets": list(budgets), "states": list(states), "in_session": is_within},
        services=[await client.info()],
        queries=[
            QueryResult(
                id=question.id,
                category=question.category,
                scores={name: found[question.id].share for name, found in asked.items()},
                tokens=first[question.id].tokens,
                latency_ms=first[question.id].latency_ms,
            )
            for _, question in dataset.questions
        ],
    )


async def fold(client: MemoryClient, dataset: MemoryDataset, owner: Owner, bar: Progress) -> None:
    """Every session, down to its last turn. Returns when spans can be found by meaning too."""
    task = bar.add_task(f"Folding {dataset.name}", total=dataset.counts["sessions"])
    for conversation in dataset.conversations:
        for session in conversation.sessions:
            await client.compact(owner.session(conversation, session), tail_tokens_keep=0)
            bar.advance(task)
        await until_embedded(client, owner.user(conversation))


async def folded_session(client: MemoryClient, dataset: MemoryDataset, owner: Owner) -> str | None:
    """A session that an earlier run has folded, if there is one: its tail is empty, as no policy would leave it by itself."""
    for conversation in dataset.conversations:
        session = owner.session(conversation, next(iter(conversation.sessions)))
        if (await client.session(session)).tail_tokens == 0:
            return session
    return None


async def _ask_all(
    client: MemoryClient,
    dataset: MemoryDataset,
    owner: Owner,
    budget: int,
    name: str,
    bar: Progress,
    *,
    is_within: bool,
) -> dict[str, _Asked]:
    task = bar.add_task(name, total=len(dataset.questions))
    found = {}
    for conversation, question in dataset.questions:
        last = list(conversation.sessions)[-1]
        started = time.perf_counter()
        answer = await client.context(
            question.text,
            user_id=owner.user(conversation),
            session_id=owner.session(conversation, last) if is_within else None,
            max_tokens=budget,
            as_of=conversation.moment(question),
        )
        latency_ms = 1000.0 * (time.perf_counter() - started)
        if answer.degraded or answer.tokens > budget:
            raise Unavailable(
                f"a context was degraded ({answer.degraded}), or over its budget ({answer.tokens} tokens)"
            )
        found[question.id] = _Asked(_share(answer, conversation, question), answer.tokens, latency_ms)
        bar.advance(task)
    return found


def _share(answer: ContextAnswer, conversation: Conversation, question: Question) -> float:
    """A turn of several lines stands indented, as a quotation."""
    said = {turn.id: turn.content for turn in conversation.turns}
    held = {
        source.turn_id
        for part in answer.parts
        for source in part.sources
        if isinstance(source, TurnSource) and said[source.turn_id] in part.text.replace("\n> ", "\n")
    }
    return len(question.evidence & held) / len(question.evidence)


def _metric(budget: int, state: State) -> str:
    return f"share@{budget}" if state == "unfolded" else f"share@{budget} folded"
