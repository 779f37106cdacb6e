"""What each part of a recall is worth: what a request can choose through the client, the rest from memory's own pure parts.

The turns and vectors of the latter are the service's own, exported through the client. With every part in place both must find the same,
and how often they do is reported (`agreement`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import Final

import numpy as np
from rich.progress import Progress

from diptych.evaluation.context_runs import fold
from diptych.evaluation.conversations import Conversation, MemoryDataset
from diptych.evaluation.memory_runs import Owner, RecallSettings, evaluate_memory
from diptych.evaluation.metrics import Scores, score_evidence
from diptych.evaluation.services import Services
from diptych.memory_client import MemoryClient
from evals.ablations import DEFAULT, Measurement
from evals.recall_parts import Asked, Parts, TurnRanker
from memory.embeddings import embed_text
from memory.truth.records import IndexedItem, speaker_of
from shared.errors import Unavailable
from shared.memory_messages import Recalled, RecallKind
from shared.memory_records import ExportedTurn
from shared.retrieval_client import RetrievalClient
from shared.tokens import estimate_tokens
from shared.vectors import Float32Array

METRIC: Final = "share@10"
SHOWN: Final = ("any@10", "share@10", "all@10")
_LIMIT: Final = 10
_EMBED_TEXTS: Final = 64
# Scores of a run are kept with six digits.
_ROUNDED: Final = 1e-5
_WITH_SPANS: Final[tuple[RecallKind, ...]] = ("turn", "span", "fact")
# By part: how many turns, and how many of those on each side of every one.
_SHOWN: Final = {
    "20 turns, not 10": (20, 0),
    "10 turns with 1 `neighbours` on each side": (10, 1),
    "10 turns with 2 `neighbours` on each side": (10, 2),
}
_SHOWN_MAX: Final = max(limit * (1 + 2 * beside) for limit, beside in _SHOWN.values())
_MODES: Final = {
    ("", DEFAULT): RecallSettings(),
    ("legs", "meaning alone"): RecallSettings(mode="dense"),
    ("legs", "words alone"): RecallSettings(mode="lexical"),
}
# By group and part; what is left out, the others in place.
PARTS: Final[dict[tuple[str, str], Parts]] = {
    ("fusion", "`rrf`, k 60"): Parts(fusion="rrf"),
    ("fusion", "`relative` (minimum to maximum)"): Parts(fusion="relative"),
    ("fusion", "`dbsf`"): Parts(fusion="dbsf"),
    ("what words are looked for in", "without the date"): Parts(date_in_words=False),
    ("what words are looked for in", "without the speaker"): Parts(speaker_in_words=False),
    ("what words are looked for in", "without the turns before and after"): Parts(words_beside=False),
    ("what words are looked for in", "words that make a question one count fully"): Parts(
        question_words_count_less=False
    ),
    ("what moves a turn", "without company (the best turn near it)"): Parts(company=False),
    ("what moves a turn", "without recency"): Parts(recency=False),
    ("what moves a turn", "without time expressions"): Parts(times=False),
    ("what moves a turn", "without speakers named, `I` and `you`"): Parts(speakers_named=False),
    ("all together", "without any of these seven"): Parts(
        date_in_words=False,
        words_beside=False,
        question_words_count_less=False,
        company=False,
        recency=False,
        times=False,
        speakers_named=False,
    ),
}


@dataclass(frozen=True, slots=True)
class Found:
    """`agreement` is the share of questions for which the parts put together here find as much evidence as the service."""

    measured: list[Measurement]
    agreement: float


@dataclass(frozen=True, slots=True)
class _Memory:
    """One conversation as it is stored. Items are numbered from 0, in the order of `turn_ids`."""

    conversation: Conversation
    items: list[IndexedItem]
    turn_ids: list[str]


async def measure_memory(
    services: Services, dataset: MemoryDataset, owner: Owner, *, is_embedding: bool, bar: Progress
) -> Found:
    """Of memories that are filled. Leaves them folded. `is_embedding` also asks what the speaker's name in the vector is worth,
    for which every turn is embedded again."""
    measured = [
        await _by_service(services.memory, dataset, owner, *named, settings, bar) for named, settings in _MODES.items()
    ]
    memories = [await _exported(services.memory, owner, each) for each in dataset.conversations]
    vectors = await _query_vectors(services.retrieval, dataset)
    whole = _by_parts(dataset, memories, vectors, Parts(), bar)
    as_it_is = measured[0].scores
    same = [isclose(whole[question][METRIC], scores[METRIC], abs_tol=_ROUNDED) for question, scores in as_it_is.items()]
    for (group, part), parts in PARTS.items():
        found = _by_parts(dataset, memories, vectors, parts, bar)
        measured.append(Measurement(group=group, part=part, scores=found))
    if is_embedding:
        nameless = [await _without_names(services.retrieval, memory, bar) for memory in memories]
        found = _by_parts(dataset, nameless, vectors, Parts(), bar)
        measured.append(Measurement(group="what the model reads", part="without the speaker", scores=found))
    measured += await _shown_more(services.memory, dataset, owner, bar)
    await fold(services.memory, dataset, owner, bar)
    measured += await _with_spans(services.memory, dataset, owner, bar)
    return Found(measured, sum(same) / len(same))


async def _by_service(
    client: MemoryClient,
    dataset: MemoryDataset,
    owner: Owner,
    group: str,
    part: str,
    settings: RecallSettings,
    bar: Progress,
) -> Measurement:
    label = f"{dataset.name}: {part}"
    result = await evaluate_memory(
        client, dataset, owner=owner, label=label, settings=settings, depths=(_LIMIT,), is_timed=False, bar=bar
    )
    return Measurement(
        group=group,
        part=part,
        scores={query.id: query.scores for query in result.queries},
        tokens=result.tokens.mean if result.tokens else None,
    )


async def _exported(client: MemoryClient, owner: Owner, conversation: Conversation) -> _Memory:
    sessions: dict[str, int] = {}
    items: list[IndexedItem] = []
    turn_ids: list[str] = []
    async for record in client.export_records(user_id=owner.user(conversation), vectors=True):
        if isinstance(record, ExportedTurn):
            session = sessions.setdefault(record.session_id, len(sessions))
            items.append(_item(record, len(items), session))
            turn_ids.append(record.id)
    return _Memory(conversation, items, turn_ids)


def _item(turn: ExportedTurn, number: int, session: int) -> IndexedItem:
    vector = None if turn.vector is None else np.asarray(turn.vector.array, dtype="<f4").tobytes()
    return IndexedItem(
        kind="turn",
        id=number,
        session=session,
        position=turn.seq,
        role=turn.role,
        speaker=speaker_of(turn.role, turn.name),
        text=turn.content,
        created_at=turn.created_at,
        metadata="{}",
        vector=vector,
    )


async def _without_names(client: RetrievalClient, memory: _Memory, bar: Progress) -> _Memory:
    items: list[IndexedItem] = []
    task = bar.add_task(f"{memory.conversation.id}: embedding", total=len(memory.items))
    for first in range(0, len(memory.items), _EMBED_TEXTS):
        batch = memory.items[first : first + _EMBED_TEXTS]
        texts = [embed_text(replace(item, speaker="")) for item in batch]
        vectors = (await client.embed(texts, kind="document")).vectors.array
        items += [
            replace(item, vector=vector.astype("<f4").tobytes()) for item, vector in zip(batch, vectors, strict=True)
        ]
        bar.advance(task, len(batch))
    return _Memory(memory.conversation, items, memory.turn_ids)


async def _query_vectors(client: RetrievalClient, dataset: MemoryDataset) -> dict[str, Float32Array]:
    questions = [question for _, question in dataset.questions]
    found: dict[str, Float32Array] = {}
    for first in range(0, len(questions), _EMBED_TEXTS):
        batch = questions[first : first + _EMBED_TEXTS]
        answer = await client.embed([question.text for question in batch], kind="query")
        found |= {question.id: vector for question, vector in zip(batch, answer.vectors.array, strict=True)}
    return found


def _by_parts(
    dataset: MemoryDataset, memories: Sequence[_Memory], vectors: dict[str, Float32Array], parts: Parts, bar: Progress
) -> Scores:
    task = bar.add_task(f"{dataset.name}: parts", total=len(dataset.questions))
    rankings: dict[str, list[str]] = {}
    for memory in memories:
        ranker = TurnRanker(memory.items, parts)
        last = max(item.created_at for item in memory.items)
        for question in memory.conversation.questions:
            asked = Asked(question.text, vectors[question.id], memory.conversation.moment(question) or last)
            rankings[question.id] = [memory.turn_ids[number] for number in ranker.ids(asked, _LIMIT)]
            bar.advance(task)
    return score_evidence(rankings, _evidence(dataset), (_LIMIT,))


async def _shown_more(client: MemoryClient, dataset: MemoryDataset, owner: Owner, bar: Progress) -> list[Measurement]:
    """More turns, or the same ten with what stands around them, and what either costs to read."""
    measured = []
    for part, (limit, neighbours) in _SHOWN.items():
        answers = await _recall_all(client, dataset, owner, bar, limit=limit, neighbours=neighbours)
        rankings = {question: list(shown(items)) for question, items in answers.items()}
        scores = score_evidence(rankings, _evidence(dataset), (_SHOWN_MAX,))
        measured.append(
            Measurement(
                group="what is shown",
                part=part,
                scores={question: _as_at_ten(found) for question, found in scores.items()},
                tokens=_mean([sum(map(estimate_tokens, shown(items).values())) for items in answers.values()]),
            )
        )
    return measured


async def _with_spans(client: MemoryClient, dataset: MemoryDataset, owner: Owner, bar: Progress) -> list[Measurement]:
    """Spans take places among the ten. Whether one answers a question cannot be told from labels of turns: both extremes."""
    answers = await _recall_all(client, dataset, owner, bar, kinds=_WITH_SPANS)
    tokens = _mean([sum(estimate_tokens(item.text) for item in items) for items in answers.values()])
    strict = {question: [f"{item.kind} {item.id}" for item in items] for question, items in answers.items()}
    evidence = _evidence(dataset)
    by_turns = score_evidence(
        strict, {question: {f"turn {turn}" for turn in turns} for question, turns in evidence.items()}, (_LIMIT,)
    )
    covered = {
        question.id: [turn for item in answers[question.id] for turn in stood_for(item, conversation, owner)]
        for conversation, question in dataset.questions
    }
    depth = max(1, *map(len, covered.values()))
    by_sources = {
        question: _as_at_ten(scores) for question, scores in score_evidence(covered, evidence, (depth,)).items()
    }
    part = "spans among the ten, after compaction"
    return [
        Measurement(group="what is shown", part=part, scores=by_turns, tokens=tokens),
        Measurement(
            group="what is shown", part=f"{part}; a span counts as its turns", scores=by_sources, tokens=tokens
        ),
    ]


def shown(items: Sequence[Recalled]) -> dict[str, str]:
    """Texts by turn, each once: what was recalled with what stands around it."""
    found: dict[str, str] = {}
    for item in items:
        for turn in item.before or ():
            found.setdefault(turn.id, turn.content)
        found.setdefault(item.id, item.text)
        for turn in item.after or ():
            found.setdefault(turn.id, turn.content)
    return found


def stood_for(item: Recalled, conversation: Conversation, owner: Owner) -> list[str]:
    """The turns that a recalled item is, or was made from."""
    if item.kind == "turn":
        return [item.id]
    if item.kind != "span" or item.first_seq is None or item.last_seq is None:
        return []
    turns = next(
        turns
        for session, turns in conversation.sessions.items()
        if owner.session(conversation, session) == item.session_id
    )
    return [turn.id for turn in turns[item.first_seq - 1 : item.last_seq] if turn.id is not None]


async def _recall_all(
    client: MemoryClient,
    dataset: MemoryDataset,
    owner: Owner,
    bar: Progress,
    *,
    limit: int = _LIMIT,
    neighbours: int = 0,
    kinds: tuple[RecallKind, ...] = RecallSettings().kinds,
) -> dict[str, list[Recalled]]:
    task = bar.add_task(f"{dataset.name}: recalls", total=len(dataset.questions))
    found: dict[str, list[Recalled]] = {}
    for conversation, question in dataset.questions:
        answer = await client.recall(
            question.text,
            user_id=owner.user(conversation),
            as_of=conversation.moment(question),
            kinds=kinds,
            limit=limit,
            neighbours=neighbours,
        )
        if answer.degraded:
            raise Unavailable("a recall was degraded: the numbers would be those of words alone")
        found[question.id] = answer.items
        bar.advance(task)
    return found


def _evidence(dataset: MemoryDataset) -> dict[str, frozenset[str]]:
    return {question.id: question.evidence for _, question in dataset.questions}


def _as_at_ten(scores: Mapping[str, float]) -> dict[str, float]:
    """Of the ten and what is shown with them, by the names of the other rows."""
    return {f"{name.partition('@')[0]}@{_LIMIT}": value for name, value in scores.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
