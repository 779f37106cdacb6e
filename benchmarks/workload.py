"""The calls whose latency is measured, each with the texts that it needs.

Every answer is looked at, because a fast wrong one is no latency: `Internal` is raised where a hit, a turn or a document
is missing, or where memory answered without vectors.
"""

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Final

from benchmarks.data import Conversation
from benchmarks.measuring import Operation, Side
from diptych import RetrievalClient, TurnIn
from shared.errors import Internal
from shared.retrieval_messages import SearchAnswer

COLLECTION: Final = "scifact"
_WRITER: Final = "writer"
_HITS: Final = 10
_CONTEXT_TOKENS: Final = 2000
_EMBED_TEXTS: Final = 32
_TURNS_PER_APPEND: Final = 2
# Few enough to be asked again and again, enough not to measure the luck of one query.
_REPEATED_QUERIES: Final = 20


class Workload:
    """Where an encoding may be given the other's texts, it is: only unseen queries must differ."""

    def __init__(self, conversation: Conversation, unseen: Iterator[str]) -> None:
        self._user = conversation.user_id
        self._session = list(conversation.sessions)[-1]
        self._turns = conversation.turns
        self._unseen = unseen
        self._repeated = list(islice(unseen, _REPEATED_QUERIES))

    @property
    def operations(self) -> dict[str, Operation]:
        return {
            "append 2 turns": self._append,
            "recall": self._recall,
            "search, unseen query": self._search_unseen,
            "search, repeated query": self._search_repeated,
            "embed 32 texts": self._embed,
            "context, 2,000 tokens": self._context,
        }

    def unseen(self, count: int) -> list[str]:
        """Each costs one run of the model."""
        return list(islice(self._unseen, count))

    def repeated(self, count: int) -> list[str]:
        """Their vectors are in retrieval's cache, once `fill_cache` has asked them."""
        return list(islice(cycle(self._repeated), count))

    async def fill_cache(self, client: RetrievalClient) -> None:
        for query in self._repeated:
            await search(client, query)

    async def _append(self, side: Side, number: int) -> None:
        """To a user of its own, so that the memory that is recalled stays as it is."""
        turns = [
            TurnIn(id=f"{side.name[0]}-{number}-{part}", role=turn.role, name=turn.name, content=turn.content)
            for part, turn in enumerate(self._some_turns(number, _TURNS_PER_APPEND))
        ]
        answer = await side.memory.append(_WRITER, turns, user_id=_WRITER)
        expect(all(turn.status == "stored" for turn in answer.turns), "append")

    async def _recall(self, side: Side, _number: int) -> None:
        answer = await side.memory.recall(next(self._unseen), user_id=self._user, limit=_HITS)
        expect(len(answer.items) == _HITS and not answer.degraded, "recall")

    async def _search_unseen(self, side: Side, _number: int) -> None:
        await search(side.retrieval, next(self._unseen))

    async def _search_repeated(self, side: Side, number: int) -> None:
        await search(side.retrieval, self._repeated[number % len(self._repeated)])

    async def _embed(self, side: Side, number: int) -> None:
        """As documents, whose vectors are not cached."""
        texts = [turn.content for turn in self._some_turns(number, _EMBED_TEXTS)]
        answer = await side.retrieval.embed(texts, kind="document")
        expect(answer.vectors.array.shape[0] == _EMBED_TEXTS, "embed")

    async def _context(self, side: Side, _number: int) -> None:
        answer = await side.memory.context(
            next(self._unseen),
            session_id=self._session,
            user_id=self._user,
            collections=[COLLECTION],
            max_tokens=_CONTEXT_TOKENS,
        )
        kinds = {part.kind for part in answer.parts}
        expect(not answer.degraded and kinds >= {"turn", "recalled", "document"}, "context")

    def _some_turns(self, number: int, count: int) -> list[TurnIn]:
        """Other ones each round, from the start again when all were used."""
        return [self._turns[(number * count + part) % len(self._turns)] for part in range(count)]


async def search(client: RetrievalClient, query: str, *, explain: bool = False) -> SearchAnswer:
    """Hybrid, ten hits."""
    answer = await client.search(query, collection=COLLECTION, limit=_HITS, explain=explain)
    expect(len(answer.hits) == _HITS, "search")
    return answer


def expect(is_right: bool, operation: str) -> None:  # noqa: FBT001 - reads as the sentence it is
    if not is_right:
        raise Internal(f"{operation} gave an answer that this benchmark cannot count")
