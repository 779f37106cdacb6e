"""Changing a collection's model while it is searched and written to: the job that builds the new one beside, and the flip.

The job fills in what is missing, a step at a time, through the model's queue as documents, so that queries go first; each
step is durable, so a kill costs the one in hand. Then it opens the second index, measures how much the two agree, and flips
if it was asked to. A flip is one UPDATE. Both indexes are open and both models loaded before it, so no search waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import structlog

from retrieval.chunks.preparing import TokenStarts, embed_text
from retrieval.indexes.dense import DenseIndex
from retrieval.indexes.indexes import CollectionIndexes
from retrieval.indexes.projections import Projections
from retrieval.jobs.backpressure import retry_delay_s
from retrieval.jobs.feed import Progress
from retrieval.jobs.items import RunningJob
from retrieval.models.embedder import Embedder
from retrieval.models.models import Models
from retrieval.reindexing.overlap import DEPTH, overlap_at_10
from retrieval.reindexing.reindexes import Gap, Reindexes
from retrieval.truth.records import CollectionRow
from retrieval.truth.store import Store
from shared.errors import NotFound, Overloaded, SettingsError, Unavailable, invalid
from shared.tasks import ended
from shared.threads import run_in
from shared.vectors import Float32Array

log = structlog.get_logger()

# One durable step: a few batches of the model, so that writing costs next to nothing, and what a kill costs at most.
_STEP_CHUNKS: Final = 64
# Enough for a mean that moves by less than .03, few enough to take a second or two.
_SAMPLE_CHUNKS: Final = 100
# A question is as long as this; a whole chunk would ask for its neighbours only.
_QUERY_WORDS: Final = 32
# About one batch of the model.
_QUERIES_TOGETHER: Final = 8


class Reindexer:
    def __init__(
        self,
        store: Store,
        reindexes: Reindexes,
        projections: Projections,
        models: Models,
        *,
        threads: ThreadPoolExecutor,
        attempts_max: int,
        retry_s: float,
    ) -> None:
        self._store = store
        self._threads = threads
        self._reindexes = reindexes
        self._projections = projections
        self._models = models
        self._attempts_max = attempts_max
        self._retry_s = retry_s
        self._deleting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Goes on deleting what a stop or a crash left over."""
        self._delete_discarded()

    async def close(self) -> None:
        await ended(self._deleting)

    async def accept(self, row: CollectionRow, model: str, *, flip: bool) -> RunningJob:
        """A durable job, to be run. Loads the model. Raises InvalidFields for one that cannot stand beside the serving
        one, and Conflict where another does."""
        new = await self._models.wanted(model, "$.model")
        serving = await self._models.embedder(row.model)
        longest = min(row.chunking.max_tokens, serving.tokens_max)
        if new.tokens_max < longest:
            raise invalid(
                "$.model",
                f"{model!r} reads {new.tokens_max} tokens, and chunks of {row.name!r} have up to {longest}: "
                f"make another collection with chunking.max_tokens of at most {new.tokens_max}, and ingest again",
            )
        return await self._reindexes.accept(row, model, flip=flip)

    async def run(self, job: RunningJob, progress: Progress) -> None:
        """Returns when the job has ended, or is no longer ours. Raises what may pass, while the database cannot be
        written; what the model does not get over fails the job after a few attempts in a row."""
        model, failures, done = await self._reindexes.model_of(job), 0, -1
        filling = _Filling(self._store, self._reindexes, self._models, job, model, self._threads)
        while True:
            try:
                await self._run(job, model, filling, progress)
            except (Unavailable, Overloaded, SettingsError) as error:
                failures = failures + 1 if filling.filled == done else 1
                done = filling.filled
                log.warning("reindex_put_off", job_id=job.id, attempt=failures, error=str(error))
                if failures >= self._attempts_max:
                    await self._reindexes.fail(job, f"{error} (given up after attempt {failures})")
                    await self.tidy(job.collection, model)
                    return
                await asyncio.sleep(retry_delay_s(failures, self._retry_s))
                continue
            return

    async def tidy(self, row: CollectionRow, model: str) -> None:
        """After a job that has not come to its end: an index that new chunks are missing in is of no use."""
        try:
            row = await self._store.current(row)
        except NotFound:
            return
        if model not in row.whole_models:
            await self._projections.close_beside(row, model)

    async def _run(self, job: RunningJob, model: str, filling: "_Filling", progress: Progress) -> None:
        row = await self._reindexes.standing(job)
        if row is None:
            return
        if row.beside is not None and row.beside.status == "building":
            # An index of an earlier attempt would not know what was filled in since.
            await self._projections.close_beside(row, model)
            if not await filling.run(row, progress):
                return
        indexes = await self._projections.open_beside(row, model)
        progress.touch()
        overlap = await self._overlap(indexes, row, model)
        if (row := await self._reindexes.finish(job, overlap)) is not None:
            self._projections.follow_row(row)
            log.info("reindexed", collection_id=row.id, serving=row.model, overlap_at_10=overlap)

    async def flip(self, row: CollectionRow) -> CollectionRow:
        """Raises Conflict where no model is ready."""
        async with self._projections.using(row) as indexes:  # opens both, where it was closed
            for model in indexes.legs:
                await self._models.embedder(model)
            row = await self._reindexes.flip(row)
            self._projections.follow_row(row)
            log.info("flipped", collection_id=row.id, serving=row.model)
            return row

    async def discard(self, row: CollectionRow, stop: Callable[[str], Awaitable[object]]) -> CollectionRow:
        """Lets go of the model that stands beside; `stop` ends the work on a job. The collection then."""
        model, ended = await self._reindexes.discard(row)
        for job_id in ended:
            await stop(job_id)
        if model is not None:
            await self.tidy(row, model)
            self._delete_discarded()
        return await self._store.current(row)

    def _delete_discarded(self) -> None:
        """In the background, after what is being deleted already."""
        before = self._deleting

        async def delete() -> None:
            if before is not None:
                await asyncio.gather(before, return_exceptions=True)
            try:
                await self._reindexes.delete_discarded()
            except Unavailable:  # the next start goes on
                log.warning("discarded_vectors_left")

        self._deleting = asyncio.create_task(delete(), name="delete-discarded")

    async def _overlap(self, indexes: CollectionIndexes, row: CollectionRow, model: str) -> float | None:
        """Of what both models find for the beginnings of some chunks, these chunks themselves left out."""
        sample = await self._reindexes.sample(row.id, _SAMPLE_CHUNKS)
        queries = [" ".join(text.split()[:_QUERY_WORDS]) for text in sample.values()]
        if not queries:
            return None
        other = row.beside.model if model == row.model and row.beside else row.model
        answers = []
        for leg in (indexes.legs[model], indexes.legs[other]):
            vectors = await self._embedded(leg.model, queries)
            answers.append(await run_in(self._threads, _neighbours, leg.index, list(sample), vectors))
        return overlap_at_10(zip(*answers, strict=True))

    async def _embedded(self, model: str, queries: Sequence[str]) -> Float32Array:
        """A few at a time: queries go first, and somebody's own must not stand behind all of these."""
        batcher = self._models.of(model)
        return np.concatenate(
            [
                await batcher.embed(queries[start : start + _QUERIES_TOGETHER], "query", bounded=False)
                for start in range(0, len(queries), _QUERIES_TOGETHER)
            ]
        )


class _Filling:
    """Of one job. `filled` counts what was stored by it."""

    def __init__(
        self,
        store: Store,
        reindexes: Reindexes,
        models: Models,
        job: RunningJob,
        model: str,
        threads: ThreadPoolExecutor,
    ) -> None:
        self.filled = 0
        self._store = store
        self._reindexes = reindexes
        self._models = models
        self._job = job
        self._model = model
        self._threads = threads

    async def run(self, row: CollectionRow, progress: Progress) -> bool:
        """Until every chunk has a vector. False where the job is no longer ours."""
        await self._reindexes.count(self._job, self._model)
        serving = await self._models.embedder(row.model)
        after = 0
        while True:
            gaps = await self._reindexes.gaps(row.id, self._model, after=after, limit=_STEP_CHUNKS)
            vectors = await self._vectors(row, gaps.chunks, serving)
            if not await self._reindexes.fill(self._job, self._model, vectors):
                return False
            self.filled += len(vectors)
            after = gaps.through
            progress.touch()
            if len(gaps.chunks) < _STEP_CHUNKS and await self._reindexes.close_gaps(
                self._job, self._model, after=after
            ):
                return True

    async def _vectors(self, row: CollectionRow, gaps: Sequence[Gap], serving: Embedder) -> dict[int, bytes]:
        """By chunk. The same text is embedded once in a collection."""
        known = await self._store.known_vectors(row.id, self._model, [gap.embed_hash for gap in gaps])
        new = {gap.embed_hash: gap for gap in gaps if gap.embed_hash not in known}
        if new:
            tokens_max = min(row.chunking.max_tokens, serving.tokens_max)
            texts = await run_in(self._threads, _texts, list(new.values()), tokens_max, serving.token_starts)
            embedded = await self._models.of(self._model).embed(texts, "document", bounded=False)
            known |= {digest: vector.astype("<f4").tobytes() for digest, vector in zip(new, embedded, strict=True)}
        return {gap.chunk_id: known[gap.embed_hash] for gap in gaps}


def _texts(gaps: Sequence[Gap], tokens_max: int, starts: TokenStarts) -> list[str]:
    """As the chunks were embedded when they were stored: cut by the serving model's tokens."""
    return [
        embed_text(gap.title, gap.headings, gap.context, gap.text, tokens_max=tokens_max, starts=starts) for gap in gaps
    ]


def _neighbours(index: DenseIndex, chunk_ids: Sequence[int], vectors: Float32Array) -> list[list[int]]:
    """The nearest others of each chunk."""
    return [
        [found for found in index.search(vector, DEPTH + 1) if found != chunk_id][:DEPTH]
        for chunk_id, vector in zip(chunk_ids, vectors, strict=True)
    ]
