"""Hours in minutes: `python -m benchmarks.soak --minutes 10`. Ingest, deletes and searches mixed, as fast as they go.

Writers each own a set of ids and remember what they were told: after the last write the service must hold exactly that,
word for word, and `check` must find every projection equal to the truth. The ids are used again and again, so what is
stored stays the same size, and memory that grows is memory that leaks: the slope of the resident memory over the second
half is printed. Exits with 1 for any error, difference or finding.
"""

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import SEED, data_option, read_documents, unseen_queries
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, running_pair, until_jobs_ended
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    err,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import DocumentIn, RetrievalClient
from diptych.console import command
from shared.errors import DiptychError, Overloaded

_COLLECTION: Final = "soak"
_WRITERS: Final = 3
_SEARCHERS: Final = 4
_IDS_PER_WRITER: Final = 150
_BATCH_DOCUMENTS: Final = 8
_DELETE_SHARE: Final = 0.3
# Whole abstracts would make it a test of the model.
_DOCUMENT_CHARACTERS: Final = 500
_SAMPLE_S: Final = 2.0
_CALL_TIMEOUT_S: Final = 120.0
_END_TIMEOUT_S: Final = 600.0


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """`resident_mib` is of the retrieval process, first, highest and last; the slope is over the second half."""

    machine: Machine
    minutes: float
    documents_written: int
    documents_deleted: int
    searches: int
    search_ms: Percentiles
    write_ms: Percentiles
    refused: int
    resident_mib: list[float]
    resident_mib_per_minute: float
    errors: list[str]
    differences: list[str]
    findings: list[str]

    @property
    def is_clean(self) -> bool:
        return not (self.errors or self.differences or self.findings)


@dataclass(slots=True)
class Seen:
    """What the workers did; `texts` is what must be stored, by id."""

    texts: dict[str, str] = field(default_factory=dict)
    written: int = 0
    deleted: int = 0
    refused: int = 0
    search_ms: list[float] = field(default_factory=list)
    write_ms: list[float] = field(default_factory=list)
    # (seconds since the start, MiB)
    resident: list[tuple[float, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Soak:
    pair: Pair
    texts: Sequence[DocumentIn]
    queries: Sequence[str]
    until: float
    seen: Seen

    async def run(self, progress: Progress) -> None:
        started = time.monotonic()
        task = progress.add_task("soak, seconds", total=round(self.until - started))
        workers = [asyncio.create_task(self._write(number)) for number in range(_WRITERS)]
        workers += [asyncio.create_task(self._search(number)) for number in range(_SEARCHERS)]
        while time.monotonic() < self.until:
            self.seen.resident.append((time.monotonic() - started, await _resident_mib(self.pair.pids["retrieval"])))
            progress.update(task, completed=round(time.monotonic() - started))
            await asyncio.sleep(_SAMPLE_S)
        await asyncio.gather(*workers)

    async def _write(self, number: int) -> None:
        chance = random.Random(SEED + number)  # noqa: S311 - a repeatable choice, no secret
        ids = [f"{number}-{index}" for index in range(_IDS_PER_WRITER)]
        async with self._client() as client:
            while time.monotonic() < self.until:
                chosen = chance.sample(ids, _BATCH_DOCUMENTS)
                started = time.perf_counter()
                try:
                    if chance.random() < _DELETE_SHARE:
                        await self._delete(client, chosen)
                    else:
                        await self._ingest(client, chosen, chance)
                except Overloaded as refusal:
                    self.seen.refused += 1
                    await asyncio.sleep(refusal.retry_after_s or 1.0)
                except DiptychError as error:
                    self.seen.errors.append(f"write: {error}")
                self.seen.write_ms.append((time.perf_counter() - started) * 1000.0)

    async def _delete(self, client: RetrievalClient, ids: Sequence[str]) -> None:
        expected = sum(each in self.seen.texts for each in ids)
        deleted = (await client.delete_documents(_COLLECTION, ids)).deleted
        if deleted != expected:
            self.seen.errors.append(f"delete: {deleted} documents were there, not {expected}")
        for each in ids:
            self.seen.texts.pop(each, None)
        self.seen.deleted += deleted

    async def _ingest(self, client: RetrievalClient, ids: Sequence[str], chance: random.Random) -> None:
        batch = {each: f"{(chance.choice(self.texts).text or '')[:_DOCUMENT_CHARACTERS]} ({each})" for each in ids}
        answer = await client.ingest(_COLLECTION, [DocumentIn(id=each, text=text) for each, text in batch.items()])
        if answer.job.failed or answer.results is None:
            self.seen.errors.append(f"ingest: {answer.job.status}, {answer.job.errors[:1]}")
        self.seen.texts.update(batch)
        self.seen.written += len(batch)

    async def _search(self, number: int) -> None:
        chance = random.Random(SEED - number - 1)  # noqa: S311 - as above
        async with self._client() as client:
            while time.monotonic() < self.until:
                started = time.perf_counter()
                try:
                    await client.search(chance.choice(self.queries), collection=_COLLECTION)
                except DiptychError as error:
                    self.seen.errors.append(f"search: {error}")
                self.seen.search_ms.append((time.perf_counter() - started) * 1000.0)

    def _client(self) -> RetrievalClient:
        return RetrievalClient(self.pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S, retries=False)


async def measure(data_dir: Path, minutes: float, progress: Progress) -> Results:
    other_work, seen = OtherWork(), Seen()
    texts, unseen = read_documents(data_dir, 1000), unseen_queries(data_dir)
    queries = [next(unseen) for _ in range(1000)]
    with tempfile.TemporaryDirectory(prefix="diptych-soak-") as scratch:
        async with running_pair(Path(scratch)) as pair:
            async with RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as client:
                await client.put_collection(_COLLECTION)
            await Soak(pair, texts, queries, time.monotonic() + 60 * minutes, seen).run(progress)
            async with RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as client:
                await until_jobs_ended(client, _END_TIMEOUT_S)
                differences = await _differences(client, seen.texts)
                findings = [f"{each.where}: {each.problem}" for each in (await client.check()).findings]
    sizes = [mib for _, mib in seen.resident]
    return Results(
        machine=this_machine(other_work),
        minutes=minutes,
        documents_written=seen.written,
        documents_deleted=seen.deleted,
        searches=len(seen.search_ms),
        search_ms=percentiles(seen.search_ms),
        write_ms=percentiles(seen.write_ms),
        refused=seen.refused,
        resident_mib=[sizes[0], max(sizes), sizes[-1]],
        resident_mib_per_minute=round(_slope(seen.resident[len(seen.resident) // 2 :]) * 60, 3),
        errors=seen.errors[:20],
        differences=differences,
        findings=findings,
    )


async def _differences(client: RetrievalClient, texts: dict[str, str]) -> list[str]:
    stored: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.documents(_COLLECTION, cursor=cursor, limit=1000)
        stored |= {each.id for each in page.items}
        cursor = page.next_cursor
        if cursor is None:
            break
    found = [f"{each} is missing" for each in sorted(texts.keys() - stored)]
    found += [f"{each} was deleted" for each in sorted(stored - texts.keys())]
    for each in sorted(texts.keys() & stored):
        if (await client.document(_COLLECTION, each)).text != texts[each]:
            found.append(f"{each} has another text")
    return found


async def _resident_mib(pid: int) -> float:
    status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text, encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(int(line.split()[1]) / 1024, 1)


def _slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through the points with the least squares, per second."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def table_of_results(results: Results) -> Table:
    first, highest, last = results.resident_mib
    rows = [
        ("documents written / deleted", f"{results.documents_written:,} / {results.documents_deleted:,}"),
        ("writes, p50 / p99 ms", f"{results.write_ms.p50:.1f} / {results.write_ms.p99:.1f}"),
        ("searches", f"{results.searches:,}"),
        ("searches, p50 / p99 ms", f"{results.search_ms.p50:.1f} / {results.search_ms.p99:.1f}"),
        ("refused for load (429)", str(results.refused)),
        ("errors", str(len(results.errors))),
        ("resident MiB: first / highest / last", f"{first:.0f} / {highest:.0f} / {last:.0f}"),
        ("resident MiB a minute, second half", f"{results.resident_mib_per_minute:+.2f}"),
        ("stored, but for what was told", str(len(results.differences))),
        ("check", "clean" if not results.findings else f"{len(results.findings)} findings"),
    ]
    return table_of(("what", "number"), rows)


@click.command(context_settings={"show_default": True})
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10.0, help="How long to go on.")
@output_options
@data_option
@command
async def main(minutes: float, output: Output, data_dir: Path) -> None:
    """Mix ingest, deletes and searches at full load. The results are also written to benchmarks/results/soak.json."""
    with progress_bar() as progress:
        results = await measure(data_dir, minutes, progress)
    title = f"{minutes:g} minutes of {_WRITERS} writers and {_SEARCHERS} searchers at full load"
    output.publish("soak", results, {title: table_of_results(results)})
    for problem in (*results.errors, *results.differences, *results.findings):
        err.print(problem, markup=False)
    if not results.is_clean:
        sys.exit(1)


if __name__ == "__main__":
    main()
