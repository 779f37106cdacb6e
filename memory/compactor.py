"""Folds the tails of sessions into spans, and spans into higher ones, off the write path.

A summary is made outside any transaction, from a snapshot, and stored only if what it was made from still stands there
(compare-and-swap): appends never wait for it, and no summary ever covers what it has not seen. What a crash interrupts is
begun again at the next start: nothing but the truth says what is due.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final, get_args
from weakref import WeakValueDictionary

import structlog
from prometheus_client import CollectorRegistry, Counter

from memory.folding import Piece, plan_fold, plan_roll_up
from memory.records import SessionRow
from memory.settings import MemorySettings
from memory.spans import NewSpan, Spans, StoredSpan
from memory.summaries import Summaries
from shared.memory_messages import Summarizer

log = structlog.get_logger()

# Looked for again at once, as long as there are so many.
_DUE_AT_ONCE: Final = 100
# After an error that nobody expected.
_RETRY_S: Final = 15.0
# Less says nothing.
_SPAN_TOKENS_MIN: Final = 64
# What rolls up shrinks by this: spans of all levels together then grow with the square root of the session.
_ROLLED_SHARE: Final = 2


class Compactor:
    """One task for each summarizer; a session is compacted by one at a time, in the background or on demand."""

    def __init__(
        self, spans: Spans, summaries: Summaries, settings: MemorySettings, *, registry: CollectorRegistry
    ) -> None:
        self._spans = spans
        self._summaries = summaries
        self._settings = settings
        # A slow model must not hold up those sessions that need none.
        self._woken: dict[Summarizer, asyncio.Event] = {name: asyncio.Event() for name in get_args(Summarizer)}
        self._tasks: list[asyncio.Task[None]] = []
        self._turns: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._created = Counter("diptych_spans", "Spans made.", ["summarizer"], registry=registry)

    async def start(self) -> None:
        self.wake()
        self._tasks = [asyncio.create_task(self._work(name), name=f"compact-{name}") for name in self._woken]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def wake(self) -> None:
        """Tells that a tail has grown beyond its policy."""
        for woken in self._woken.values():
            woken.set()

    async def compact(self, row: SessionRow, *, tokens_max: int, tokens_keep: int) -> tuple[int, int]:
        """Folds a tail of more than `tokens_max` down to about `tokens_keep`. How many spans were made and turns folded."""
        lock = self._turns.setdefault(row.id, asyncio.Lock())
        async with lock:
            created, folded = await self._fold(row, tokens_max=tokens_max, tokens_keep=tokens_keep)
            return created + await self._roll_up(row), folded

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
        policy = row.policy
        await self.compact(row, tokens_max=policy.tail_tokens_max, tokens_keep=policy.tail_tokens_keep)

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
                if not await self._spans.fold(row.id, made):
                    break  # the session has changed meanwhile: look again
                self._created.labels(made.summarizer).inc()
                created += 1
                folded += made.turns
            else:
                return created, folded

    async def _made(self, row: SessionRow, piece: Piece) -> NewSpan:
        source = await self._spans.source(row.id, piece)
        share = int(piece.tokens * self._settings.span_tokens_share)
        composed, summarizer = await self._summaries.of_turns(
            source.lines, max(share, _SPAN_TOKENS_MIN), row.policy.summarizer
        )
        times = [line.created_at for line in source.lines]
        return NewSpan(
            level=0,
            first_seq=piece.first_seq,
            last_seq=piece.last_seq,
            turns=len(source.lines),
            since=min(times),
            until=max(times),
            composed=composed,
            source_tokens=piece.tokens,
            summarizer=summarizer,
            source_hash=source.hash,
        )

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
        tokens_max = sum(span.tokens for span in spans) // _ROLLED_SHARE
        composed, summarizer = await self._summaries.of_spans(spans, max(tokens_max, _SPAN_TOKENS_MIN))
        return NewSpan(
            level=spans[0].level + 1,
            first_seq=spans[0].first_seq,
            last_seq=spans[-1].last_seq,
            turns=sum(child.turns for child in children),
            since=min(span.since for span in spans),
            until=max(span.until for span in spans),
            composed=composed,
            source_tokens=sum(span.source_tokens for span in spans),
            summarizer=summarizer,
            source_hash=hashlib.sha256(b"".join(child.source_hash for child in children)).digest(),
            children=[child.id for child in children],
        )
