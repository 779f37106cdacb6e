"""Conversations are appended to a memory, questions are asked of it, and the turns that come back are scored.

Each conversation is one user's, under a prefix of the run's own, and each question is asked as of the moment of its last turn.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from rich.progress import Progress

from diptych.evaluation.conversations import Conversation, MemoryDataset, Question
from diptych.evaluation.metrics import Ranking, Scores, evidence_names, score_evidence
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from diptych.memory_client import MemoryClient
from shared.errors import SettingsError, Unavailable
from shared.memory_messages import TURNS_PER_REQUEST_MAX, Recalled, RecallKind
from shared.retrieval_messages import SearchMode
from shared.tokens import estimate_tokens

DEPTHS: Final = (5, 10, 20)
_SESSIONS: Final = 10
SESSIONS_METRIC: Final = f"sessions@{_SESSIONS}"
# Enough turns to name ten sessions.
_LIMIT: Final = 200
# What a recall gives where nobody says how many.
_LIMIT_USUAL: Final = 10
_TIMED_MAX: Final = 200
_TIMED_SEED: Final = 20_240
_POLL_S: Final = 0.2
# A batch of long turns takes a busy machine seconds.
_STALLED_S: Final = 300.0


class RecallSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How each question is asked; what is left out is as the service has it by default."""

    mode: SearchMode = "hybrid"
    kinds: tuple[RecallKind, ...] = ("turn", "fact")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose memories a run fills: users and sessions begin with `prefix`."""

    prefix: str = ""

    def user(self, conversation: Conversation) -> str:
        return f"{self.prefix}{conversation.id}"

    def session(self, conversation: Conversation, session: str) -> str:
        return f"{self.prefix}{conversation.id}/{session}"


def metrics_of(depths: Sequence[int]) -> list[str]:
    return [*evidence_names(depths), SESSIONS_METRIC]


async def fill_memory(client: MemoryClient, dataset: MemoryDataset, owner: Owner, bar: Progress) -> None:
    """Returns when every turn can be found by meaning. Turns that are there already are stored once. Raises Unavailable where
    retrieval is away: then only words would be compared."""
    task = bar.add_task(f"Appending {dataset.name}", total=dataset.counts["turns"])
    for conversation in dataset.conversations:
        user_id = owner.user(conversation)
        for session, turns in conversation.sessions.items():
            for first in range(0, len(turns), TURNS_PER_REQUEST_MAX):
                batch = turns[first : first + TURNS_PER_REQUEST_MAX]
                await client.append(owner.session(conversation, session), batch, user_id=user_id)
                bar.advance(task, len(batch))
    task = bar.add_task("Embedding", total=len(dataset.conversations))
    for conversation in dataset.conversations:
        await until_embedded(client, owner.user(conversation))
        bar.advance(task)


async def until_embedded(client: MemoryClient, user_id: str) -> None:
    """Until nothing of the user's waits for its vector. Raises Unavailable where retrieval is away, or embeds nothing more."""
    waiting, moved_at = None, time.monotonic()
    while True:
        answer = await client.recall("hello", user_id=user_id, limit=1, explain=True)
        if answer.degraded:
            raise Unavailable("memory cannot reach retrieval: only words would be compared")
        if answer.plan is None or answer.plan.without_vector == 0:
            return
        if answer.plan.without_vector != waiting:
            waiting, moved_at = answer.plan.without_vector, time.monotonic()
        elif time.monotonic() - moved_at > _STALLED_S:
            raise Unavailable(
                f"{waiting} turns of {user_id} have waited {_STALLED_S:g} s for a vector, and none was made"
            )
        await asyncio.sleep(_POLL_S)


async def check_memory(client: MemoryClient, dataset: MemoryDataset, owner: Owner) -> None:
    """For a memory that was filled before. Raises SettingsError where a conversation is not wholly there."""
    for conversation in dataset.conversations:
        stored, cursor, more = 0, None, True
        while more:
            page = await client.sessions(user_id=owner.user(conversation), cursor=cursor)
            stored += sum(session.turns for session in page.items)
            cursor, more = page.next_cursor, page.next_cursor is not None
        if stored < len(conversation.session_of):
            raise SettingsError(
                f"user {owner.user(conversation)} has {stored} turns, and the conversation "
                f"{len(conversation.session_of)}: leave out --reuse to append them"
            )


async def evaluate_memory(
    client: MemoryClient,
    dataset: MemoryDataset,
    *,
    owner: Owner,
    label: str = "",
    settings: RecallSettings | None = None,
    depths: Sequence[int] = DEPTHS,
    is_timed: bool = True,
    bar: Progress,
) -> Result:
    """Of memories that are filled. Tokens are those of the first ten that come back."""
    settings = settings or RecallSettings()
    label = label or settings.mode
    latencies = await _time(client, dataset, owner, settings, label, bar) if is_timed else {}
    answers: dict[str, list[Recalled]] = {}
    task = bar.add_task(f"{label}: recalls", total=len(dataset.questions))
    for conversation, question in dataset.questions:
        answers[question.id] = await _recall(client, owner, settings, conversation, question, _LIMIT)
        bar.advance(task)
    rankings = {question: [item.id for item in items if item.kind == "turn"] for question, items in answers.items()}
    scores = score_turns(dataset, rankings, depths)
    return make_result(
        kind="memory",
        label=label,
        dataset=DatasetInfo(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts),
        settings={"recall": msgspec.to_builtins(settings), "depths": list(depths)},
        services=[await client.info()],
        queries=[
            QueryResult(
                id=question.id,
                category=question.category,
                scores=scores[question.id],
                tokens=sum(estimate_tokens(item.text) for item in answers[question.id][:_LIMIT_USUAL]),
                latency_ms=latencies.get(question.id),
            )
            for _, question in dataset.questions
        ],
    )


def score_turns(dataset: MemoryDataset, rankings: Mapping[str, Ranking], depths: Sequence[int]) -> Scores:
    """By question, from turn ids, best first. `sessions@10` is 1 where all sessions of the evidence are among the ten best,
    each by its best turn."""
    turns = {question.id: question.evidence for _, question in dataset.questions}
    sessions = {
        question.id: {conversation.session_of[turn] for turn in question.evidence}
        for conversation, question in dataset.questions
    }
    found = {
        question.id: [conversation.session_of[turn] for turn in rankings.get(question.id, ())]
        for conversation, question in dataset.questions
    }
    by_turn = score_evidence(rankings, turns, depths)
    by_session = score_evidence(found, sessions, (_SESSIONS,))
    names = evidence_names(depths)
    return {
        question: {
            **{name: scores[name] for name in names},
            SESSIONS_METRIC: by_session[question][f"all@{_SESSIONS}"],
        }
        for question, scores in by_turn.items()
    }


async def _time(
    client: MemoryClient, dataset: MemoryDataset, owner: Owner, settings: RecallSettings, label: str, bar: Progress
) -> dict[str, float]:
    """Milliseconds by question: as users ask, one at a time, and before anything else has asked the same."""
    asked = dataset.questions
    if len(asked) > _TIMED_MAX:
        asked = random.Random(_TIMED_SEED).sample(asked, _TIMED_MAX)  # noqa: S311 - a repeatable choice, no secret
    task = bar.add_task(f"{label}: latency", total=len(asked))
    for conversation in dataset.conversations:
        # An index is made when its memory is first asked: that is another number.
        await client.recall("hello", user_id=owner.user(conversation), mode="lexical")
    spent = {}
    for conversation, question in asked:
        started = time.perf_counter()
        await _recall(client, owner, settings, conversation, question, _LIMIT_USUAL)
        spent[question.id] = 1000.0 * (time.perf_counter() - started)
        bar.advance(task)
    return spent


async def _recall(
    client: MemoryClient,
    owner: Owner,
    settings: RecallSettings,
    conversation: Conversation,
    question: Question,
    limit: int,
) -> list[Recalled]:
    answer = await client.recall(
        question.text,
        user_id=owner.user(conversation),
        as_of=conversation.moment(question),
        mode=settings.mode,
        kinds=settings.kinds,
        limit=limit,
    )
    if answer.degraded:
        raise Unavailable("a recall was degraded: the numbers would be those of words alone")
    return answer.items
