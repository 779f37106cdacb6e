"""Folds the tails of sessions into spans, and spans into higher ones, off the write path.

A summary is made outside any transaction, from a snapshot, and stored only if what it was made from still stands there
(compare-and-swap): appends never wait for it, and no summary ever covers what it has not seen. What a crash interrupts is
begun again at the next start: nothing but the truth says what is due.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, get_args
from weakref import WeakValueDictionary

import structlog
from prometheus_client import CollectorRegistry, Counter

from memory.compaction.folding import Piece, plan_fold, plan_roll_up
from memory.compaction.span_making import span_of_spans, span_of_turns, tokens_of_spans, tokens_of_turns
from memory.compaction.spans import NewSpan, Spans, StoredSpan
from memory.compaction.summaries import Summaries
from memory.settings import MemorySettings
from memory.truth.records import SessionRow
from shared.memory_messages import Summarizer
from shared.tasks import ended

log = structlog.get_logger()

# Looked for again at once, as long as there are so many.
_DUE_AT_ONCE: Final = 100
# After an error that nobody expected.
_RETRY_S: Final = 15.0


class Compactor:
    """One task for each summarizer; a session is compacted by one at a time, in the background or on demand."""

    def __init__(
        self,
        spans: Spans,
        summaries: Summaries,
        settings: MemorySettings,
        *,
        on_spans: Callable[[], None],
        registry: CollectorRegistry,
    ) -> None:
        """`on_spans` hears of new spans, which have no vectors yet."""
        self._spans = spans
        self._summaries = summaries
        self._settings = settings
        self._on_spans = on_spans
        # A slow model must not hold up those sessions that need none.
        self._woken: dict[Summarizer, asyncio.Event] = {name: asyncio.Event() for name in get_args(Summarizer)}
        self._tasks: list[asyncio.Task[None]] = []
        # Sessions that broke their compaction lately.
        self._resting: set[int] = set()
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._created = Counter("diptych_spans", "Spans made.", ["summarizer"], registry=registry)

    async def start(self) -> None:
        self.wake()
        self._tasks = [asyncio.create_task(self._work(name), name=f"compact-{name}") for name in self._woken]

    async def close(self) -> None:
        await ended(*self._tasks)

    def wake(self) -> None:
        """Tells that a tail has grown beyond its policy."""
        for woken in self._woken.values():
            woken.set()

    async def compact(self, row: SessionRow, *, tokens_max: int, tokens_keep: int) -> tuple[int, int]:
        """Folds a tail of more than `tokens_max` down to about `tokens_keep`. How many spans were made and turns folded."""
        lock = self._turns.setdefault(row.id, asyncio.Lock())
        async with lock:
            created, folded = await self._fold(row, tokens_max=tokens_max, tokens_keep=tokens_keep)
            created += await self._roll_up(row)
        if created:
            self._on_spans()
        return created, folded

    async def _work(self, summarizer: Summarizer) -> None:
        woken = self._woken[summarizer]
        while True:
            await woken.wait()
            woken.clear()
            try:
                await self._compact_due(summarizer)
            except Exception:  # a worker's loop: the truth is safe, and what is due stays due
                log.exception("compaction_failed")
                await asyncio.sleep(_RETRY_S)
                woken.set()

    async def _compact_due(self, summarizer: Summarizer) -> None:
        after = 0
        while due := await self._spans.overfull(summarizer, after=after, limit=_DUE_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for row in due:
                    group.create_task(self._compact_by_policy(row))
            after = due[-1].id

    async def _compact_by_policy(self, row: SessionRow) -> None:
        if row.id in self._resting:
            return
        policy = row.policy
        try:
            await self.compact(row, tokens_max=policy.tail_tokens_max, tokens_keep=policy.tail_tokens_keep)
        except Exception:  # one session must not hold up those of others; its truth is safe, and what is due stays due
            log.exception("session_not_compacted", session_id=row.session_id)
            self._resting.add(row.id)
            asyncio.get_running_loop().call_later(_RETRY_S, self._try_again, row.id)

    def _try_again(self, row_id: int) -> None:
        self._resting.discard(row_id)
        self.wake()

    async def _fold(self, row: SessionRow, *, tokens_max: int, tokens_keep: int) -> tuple[int, int]:
        created = folded = 0
        while True:
            pieces = plan_fold(
                await self._spans.tail(row.id),
                tokens_max=tokens_max,
                tokens_keep=tokens_keep,
                piece_tokens_max=self._settings.span_source_tokens_max,
            )
            for piece in pieces:
                made = await self._made(row, piece)
                if made is None or not await self._spans.fold(row.id, made):
                    break  # the session has changed meanwhile: look again
                self._created.labels(made.summarizer).inc()
                created += 1
                folded += made.turns
            else:
                return created, folded

    async def _made(self, row: SessionRow, piece: Piece) -> NewSpan | None:
        """None where all of its turns are gone meanwhile."""
        source = await self._spans.source(row.id, piece)
        if not source.lines:
            return None
        tokens_max = tokens_of_turns(piece.tokens, self._settings.span_tokens_share)
        return span_of_turns(source, *await self._summaries.of_turns(source.lines, tokens_max, row.policy.summarizer))

    async def _roll_up(self, row: SessionRow) -> int:
        created = level = 0
        while unrolled := await self._spans.unrolled(row.id, level):
            children = plan_roll_up(unrolled)
            if not children:
                level += 1
            elif await self._spans.roll_up(row.id, made := await self._rolled(children)):
                self._created.labels(made.summarizer).inc()
                created += 1
        return created

    async def _rolled(self, children: Sequence[StoredSpan]) -> NewSpan:
        spans = [child.span for child in children]
        return span_of_spans(children, *await self._summaries.of_spans(spans, tokens_of_spans(children)))
