"""What the spans say that sessions are folded into: of what questions need, or beside summaries that people wrote.

Sessions are folded whole by the service with its own settings. A span is read as it reaches a context: its text and ledger.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.progress import Progress

from diptych.evaluation.context_runs import fold
from diptych.evaluation.conversations import Conversation, MemoryDataset, Question
from diptych.evaluation.dialogues import DialogueDataset
from diptych.evaluation.kept import (
    ROUGE_METRICS,
    content_words,
    identifiers,
    kept_identifiers,
    kept_words,
    rouge_scores,
)
from diptych.evaluation.memory_runs import Owner
from diptych.evaluation.results import DatasetInfo, QueryResult, Result, make_result
from diptych.memory_client import MemoryClient
from shared.errors import Unavailable
from shared.memory_messages import Span, TurnIn

# Of an answer's words those that its evidence has; identifiers and words of that evidence; and the tokens that are saved.
CONVERSATION_METRICS: Final = ("answers", "identifiers", "evidence", "saved")
DIALOGUE_METRICS: Final = (*ROUGE_METRICS, "saved")


async def evaluate_spans(
    client: MemoryClient, dataset: MemoryDataset, *, owner: Owner, label: str = "", bar: Progress
) -> Result:
    """Of memories that are filled, which are folded when it ends. For each question, of the spans that stand for the turns
    that answer it: the share that they keep. A question whose answer shares no word with its evidence has no `answers`."""
    await fold(client, dataset, owner, bar)
    task = bar.add_task("Reading spans", total=len(dataset.conversations))
    queries = []
    for conversation in dataset.conversations:
        spans = await _spans_by_turn(client, conversation, owner)
        queries += [_kept(conversation, question, spans) for question in conversation.questions]
        bar.advance(task)
    return make_result(
        kind="summaries",
        label=label or "spans",
        dataset=DatasetInfo(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts),
        settings={},
        services=[await client.info()],
        queries=queries,
        metrics=CONVERSATION_METRICS,
    )


async def evaluate_dialogues(
    client: MemoryClient, dataset: DialogueDataset, *, owner: Owner, label: str = "", bar: Progress
) -> Result:
    """Each dialogue is a session of its own, folded and compared with its reference."""
    task = bar.add_task(f"Folding {dataset.name}", total=len(dataset.dialogues))
    queries = []
    for dialogue in dataset.dialogues:
        session = f"{owner.prefix}{dialogue.id}"
        first_speaker = dialogue.turns[0][0]
        turns = [
            TurnIn(
                id=str(number),
                role="user" if speaker == first_speaker else "assistant",
                name=speaker or None,
                content=text,
            )
            for number, (speaker, text) in enumerate(dialogue.turns)
        ]
        await client.append(session, turns, user_id=session)
        await client.compact(session, tail_tokens_keep=0)
        spans = await _spans(client, session)
        text = "\n".join(map(_text, spans))
        queries.append(
            QueryResult(
                id=dialogue.id,
                scores={**rouge_scores(dialogue.reference, text), "saved": _saved(spans)},
                tokens=sum(span.tokens for span in spans),
            )
        )
        bar.advance(task)
    return make_result(
        kind="summaries",
        label=label or "spans",
        dataset=DatasetInfo(name=dataset.name, sha256=dataset.sha256, counts=dataset.counts),
        settings={},
        services=[await client.info()],
        queries=queries,
    )


async def _spans_by_turn(client: MemoryClient, conversation: Conversation, owner: Owner) -> dict[str, Span]:
    """The span that was made from each turn."""
    found: dict[str, Span] = {}
    for name in conversation.sessions:
        session = owner.session(conversation, name)
        spans = await _spans(client, session)
        cursor, more = None, True
        while more:
            page = await client.turns(session, cursor=cursor, limit=1000)
            for turn in page.items:
                for span in spans:
                    if span.first_seq <= turn.seq <= span.last_seq:
                        found[turn.id] = span
            cursor, more = page.next_cursor, page.next_cursor is not None
    return found


async def _spans(client: MemoryClient, session: str) -> list[Span]:
    """Those that were made from turns. Raises Unavailable where folding left none."""
    found: list[Span] = []
    cursor, more = None, True
    while more:
        page = await client.spans(session, level=0, cursor=cursor, limit=1000)
        found += page.items
        cursor, more = page.next_cursor, page.next_cursor is not None
    if not found:
        raise Unavailable(f"session {session} was folded and has no span")
    return found


def _kept(conversation: Conversation, question: Question, spans: Mapping[str, Span]) -> QueryResult:
    said = " \n".join(turn.content for turn in conversation.turns if turn.id in question.evidence)
    covering = list({spans[turn].id: spans[turn] for turn in sorted(question.evidence) if turn in spans}.values())
    text = "\n".join(map(_text, covering))
    words = content_words(said)
    scores = {
        "answers": kept_words(content_words(question.answer) & words, text),
        "identifiers": kept_identifiers(identifiers(said), text),
        "evidence": kept_words(words, text),
        "saved": _saved(covering),
    }
    return QueryResult(
        id=question.id,
        category=question.category,
        scores={metric: score for metric, score in scores.items() if score is not None},
        tokens=sum(span.tokens for span in covering),
    )


def _saved(spans: Sequence[Span]) -> float:
    """How much shorter they are than what they stand for: that less is kept in less is no wonder."""
    return 1.0 - sum(span.tokens for span in spans) / max(1, sum(span.source_tokens for span in spans))


def _text(span: Span) -> str:
    return "\n".join([span.text, *(item.text for item in span.ledger)])
