"""Golden sets out of feedback: folders that `diptych eval` reads, written through the clients.

Searches become BEIR's layout: corpus.jsonl, queries.jsonl and qrels.tsv. Recalls become turns.jsonl and questions.jsonl, a
conversation for each user, or for each session or agent that belongs to nobody. A query is in the set if something was judged
to answer it: where everything is wrong there is nothing to find. Turns are named SESSION#SEQ, since their own ids may come again
in another session. The files of a set appear together, when all of it is written.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, Self

import msgspec

from diptych.memory_client import MemoryClient
from shared.errors import NotFound
from shared.feedback_messages import JudgedDocument, RecallFeedback, SearchFeedback
from shared.memory_messages import Session, Turn
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import Document

_PAGE: Final = 1000
# Documents read at once: enough to hide the round trip, and no burden to a service that others use.
_READ_AT_ONCE: Final = 8
# Two of them fit into one id, with something before them.
_NAME_MAX: Final = 100
_HEADER: Final = "query-id\tcorpus-id\tscore\n"

# Told of every document or turn.
Progress = Callable[[], object]


class SetFiles:
    """The files of a set under names that nobody reads, until it is whole. Blocking, like everything about files here."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._names = tuple(names)
        self._stack = ExitStack()
        self._files: dict[str, IO[str]] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in self._names:
            path = self._part(name)
            self._files[name] = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        for name in self._names:
            if kind is None:
                self._part(name).replace(self._folder / name)
            else:
                self._part(name).unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        self._files[name].write(text)

    def write_line(self, name: str, record: Mapping[str, Any]) -> None:
        self.write(name, msgspec.json.encode(record).decode() + "\n")

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.part"


def grades_of(judgments: Iterable[JudgedDocument]) -> dict[str, int]:
    """A document is as relevant as the best of its chunks, unless it was judged itself."""
    whole: dict[str, int] = {}
    best: dict[str, int] = {}
    for each in judgments:
        if each.chunk_id is None:
            whole[each.document_id] = each.relevance
        else:
            best[each.document_id] = max(best.get(each.document_id, 0), each.relevance)
    return best | whole


async def write_search_set(
    client: RetrievalClient, collection: str, folder: Path, *, judged_only: bool = False, progress: Progress = int
) -> dict[str, int]:
    """How much of what was written; `left_out` are queries that nothing answers. Raises NotFound."""
    asked = [each async for each in _searches(client, collection)]
    judged = list(dict.fromkeys(name for each in asked for name in grades_of(each.judgments)))
    known: set[str] = set()
    counts = {"documents": 0, "queries": 0, "judgments": 0, "left_out": 0}
    with SetFiles(folder, ("corpus.jsonl", "queries.jsonl", "qrels.tsv")) as files:
        async for document in _documents(client, collection, judged if judged_only else None):
            files.write_line("corpus.jsonl", _corpus_line(document))
            known.add(document.id)
            progress()
        files.write("qrels.tsv", _HEADER)
        for each in asked:
            # What was deleted since the feedback was read is in no corpus.
            grades = {name: grade for name, grade in grades_of(each.judgments).items() if name in known}
            if not any(grades.values()):
                counts["left_out"] += 1
                continue
            counts["queries"] += 1
            counts["judgments"] += len(grades)
            files.write_line("queries.jsonl", _query_line(each))
            for name, grade in grades.items():
                files.write("qrels.tsv", f"{each.id}\t{name}\t{grade}\n")
    return counts | {"documents": len(known)}


async def write_recall_set(
    client: MemoryClient, whose: Mapping[str, Any], folder: Path, *, progress: Progress = int
) -> dict[str, int]:
    """As `write_search_set`. `whose` are fields of RecallFeedbackQuery."""
    conversations: dict[str, list[RecallFeedback]] = {}
    async for each in _recalls(client, whose):
        conversations.setdefault(_conversation(each), []).append(each)
    counts = {"conversations": 0, "turns": 0, "questions": 0, "left_out": 0}
    with SetFiles(folder, ("turns.jsonl", "questions.jsonl")) as files:
        for conversation, asked in conversations.items():
            known: set[str] = set()
            async for session_id, turn in _turns(client, asked[0]):
                files.write_line("turns.jsonl", _turn_line(conversation, session_id, turn))
                known.add(_turn_name(session_id, turn.seq))
                progress()
            for each in asked:
                line = _question_line(conversation, each, await _evidence(client, each), known)
                if not line["evidence_turns"]:
                    counts["left_out"] += 1
                    continue
                counts["questions"] += 1
                files.write_line("questions.jsonl", line)
            counts["conversations"] += 1
            counts["turns"] += len(known)
    return counts


def _corpus_line(document: Document) -> dict[str, Any]:
    return {"_id": document.id, "title": document.title, "text": document.text, "metadata": document.metadata}


def _query_line(asked: SearchFeedback) -> dict[str, Any]:
    metadata = {"filter": asked.filter, "comment": asked.comment}
    return {
        "_id": asked.id,
        "text": asked.query,
        "metadata": {name: value for name, value in metadata.items() if value},
    }


def _conversation(asked: RecallFeedback) -> str:
    """Whose memory it is: prefixed, because a user, a session and an agent may have the same name."""
    if asked.user_id is not None:
        return f"user:{_fitting(asked.user_id)}"
    if asked.session_id is not None:
        return f"session:{_fitting(asked.session_id)}"
    return f"agent:{_fitting(asked.agent_id or '')}"


def _turn_line(conversation: str, session_id: str, turn: Turn) -> dict[str, Any]:
    return {
        "conv_id": conversation,
        "session_id": _fitting(session_id),
        "turn_id": _turn_name(session_id, turn.seq),
        "speaker": turn.name or turn.role,
        "role": turn.role,
        "time": turn.created_at,
        "text": turn.content,
    }


def _question_line(
    conversation: str, asked: RecallFeedback, evidence: Mapping[str, int], known: set[str]
) -> dict[str, Any]:
    """`evidence` are grades by name of turn."""
    right = {name: grade for name, grade in evidence.items() if grade and name in known}
    return {
        "question_id": asked.id,
        "conv_id": conversation,
        "question": asked.query,
        "answer": "",
        "category": "feedback",
        "evidence_turns": list(right),
        "grades": right,
        "wrong_turns": [name for name, grade in evidence.items() if not grade and name in known],
        "session_id": None if asked.session_id is None else _fitting(asked.session_id),
        "as_of": asked.as_of,
        "comment": asked.comment,
    }


def _turn_name(session_id: str, seq: int) -> str:
    return f"{_fitting(session_id)}#{seq}"


def _fitting(name: str) -> str:
    """Or a digest of it: who evaluates the set makes ids of its names, of 256 characters at most, and puts others before them."""
    return name if len(name) <= _NAME_MAX else hashlib.sha256(name.encode()).hexdigest()


async def _evidence(client: MemoryClient, asked: RecallFeedback) -> dict[str, int]:
    """Turns with their grades. A fact stands for the turns that it came from, unless these were judged themselves."""
    own: dict[str, int] = {}
    through_facts: dict[str, int] = {}
    for each in asked.judgments:
        if each.session_id is not None and each.seq is not None:
            own[_turn_name(each.session_id, each.seq)] = each.relevance
            continue
        try:
            sources = (await client.fact(each.id)).sources
        except NotFound:  # forgotten since the feedback was read
            continue
        for source in sources:
            name = _turn_name(source.session_id, source.seq)
            through_facts[name] = max(through_facts.get(name, 0), each.relevance)
    return through_facts | own


async def _searches(client: RetrievalClient, collection: str) -> AsyncIterator[SearchFeedback]:
    cursor: str | None = None
    while True:
        page = await client.feedback(collection, cursor=cursor, limit=_PAGE)
        for each in page.items:
            yield each
        if (cursor := page.next_cursor) is None:
            return


async def _recalls(client: MemoryClient, whose: Mapping[str, Any]) -> AsyncIterator[RecallFeedback]:
    cursor: str | None = None
    while True:
        page = await client.feedback(**whose, cursor=cursor, limit=_PAGE)
        for each in page.items:
            yield each
        if (cursor := page.next_cursor) is None:
            return


async def _documents(client: RetrievalClient, collection: str, names: Sequence[str] | None) -> AsyncIterator[Document]:
    """The named ones, or all of the collection. What is deleted meanwhile is left out."""

    async def read(some: Sequence[str]) -> list[Document]:
        found = await asyncio.gather(*(client.document(collection, name) for name in some), return_exceptions=True)
        if error := next((each for each in found if isinstance(each, BaseException) and not _is_gone(each)), None):
            raise error
        return [each for each in found if not isinstance(each, BaseException)]

    async for page in _names(client, collection, names):
        for start in range(0, len(page), _READ_AT_ONCE):
            for document in await read(page[start : start + _READ_AT_ONCE]):
                yield document


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, NotFound)


async def _names(client: RetrievalClient, collection: str, names: Sequence[str] | None) -> AsyncIterator[Sequence[str]]:
    if names is not None:
        yield names
        return
    cursor: str | None = None
    while True:
        page = await client.documents(collection, cursor=cursor, limit=_PAGE)
        yield [each.id for each in page.items]
        if (cursor := page.next_cursor) is None:
            return


async def _turns(client: MemoryClient, asked: RecallFeedback) -> AsyncIterator[tuple[str, Turn]]:
    """All that the conversation holds, session by session as they began."""
    for session in sorted(await _sessions(client, asked), key=lambda each: (each.created_at, each.id)):
        cursor: str | None = None
        while True:
            page = await client.turns(session.id, cursor=cursor, limit=_PAGE)
            for turn in page.items:
                yield session.id, turn
            if (cursor := page.next_cursor) is None:
                break


async def _sessions(client: MemoryClient, asked: RecallFeedback) -> list[Session]:
    if asked.user_id is None and asked.session_id is not None:
        return [await client.session(asked.session_id)]
    whose = {"user_id": asked.user_id} if asked.user_id is not None else {"agent_id": asked.agent_id}
    found: list[Session] = []
    cursor: str | None = None
    while True:
        page = await client.sessions(**whose, cursor=cursor, limit=_PAGE)
        found += page.items
        if (cursor := page.next_cursor) is None:
            return found
