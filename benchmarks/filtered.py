"""Filtered search against unfiltered: the same queries, one after the other, so that a drift of the machine hits all.

    python -m benchmarks.filtered --chunks 100000

A search with a `new` filter has one that the service has not seen, so its time includes resolving it; with a `known` one
an earlier search has asked for the same. Vectors are given with the queries, so no time is the model's.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import click
import msgspec
import numpy as np
from rich.progress import Progress
from rich.table import Table

from benchmarks.output import Output, output_options
from benchmarks.pair import running_pair
from benchmarks.report import (
    Machine,
    OtherWork,
    progress_bar,
    table_of,
    this_machine,
)
from benchmarks.synthetic import COLLECTION, PARTS, Synthetic, fill, make
from diptych import RetrievalClient, Vector
from diptych.console import command
from shared.retrieval_messages import SearchAnswer

_MODES: Final[tuple[Literal["dense", "lexical", "hybrid"], ...]] = ("dense", "lexical", "hybrid")
_MODEL: Final = "all-MiniLM-L6-v2"
_LIMIT: Final = 10
_WARM_UP_ROUNDS: Final = 5
_CALL_TIMEOUT_S: Final = 60.0


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of whole calls over HTTP. `filter_ms` is the median of what resolving took of them, `recall` the mean
    recall@10 of the dense mode against a plain scan."""

    mode: str
    keeps: str
    filter: Literal["none", "known", "new"]
    count: int
    p50: float
    p95: float
    p99: float
    filter_ms: float
    recall: float | None
    lexical: list[str]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    chunks: int
    rounds: int
    cases: list[Case]


class _Series:
    """What one case's calls took and found."""

    def __init__(
        self, mode: Literal["dense", "lexical", "hybrid"], keeps: str, kind: Literal["none", "known", "new"]
    ) -> None:
        self.mode, self.keeps, self.kind = mode, keeps, kind
        self.field = PARTS[keeps][0] if keeps in PARTS else None
        self.ms: list[float] = []
        self.filter_ms: list[float] = []
        self.recalls: list[float] = []
        self.lexical: set[str] = set()

    def conditions(self, part: int, unseen: Iterator[int]) -> dict[str, Any] | None:
        if self.field is None:
            return None
        # No document has a number below zero, so the value beside the part changes the filter and not what it keeps.
        return {self.field: {"$in": [part, -1 if self.kind == "known" else -next(unseen)]}}

    def take(self, answer: SearchAnswer, ms: float, wanted: set[int] | None) -> None:
        self.ms.append(ms)
        if answer.plan is not None:
            self.filter_ms.append(answer.plan.stages_ms.filter)
            self.lexical |= {each.filter.lexical for each in answer.plan.collections if each.filter}
        if wanted:
            self.recalls.append(len(wanted & {hit.chunk_id for hit in answer.hits}) / len(wanted))

    def case(self) -> Case:
        p50, p95, p99 = (round(float(each), 3) for each in np.percentile(self.ms, (50, 95, 99)))
        return Case(
            mode=self.mode,
            keeps=self.keeps,
            filter=self.kind,
            count=len(self.ms),
            p50=p50,
            p95=p95,
            p99=p99,
            filter_ms=round(float(np.median(self.filter_ms)), 3),
            recall=round(float(np.mean(self.recalls)), 4) if self.recalls else None,
            lexical=sorted(self.lexical),
        )


async def measure(chunks: int, rounds: int, progress: Progress) -> Results:
    other_work = OtherWork()
    with tempfile.TemporaryDirectory(prefix="diptych-filtered-") as folder:
        synthetic = await asyncio.to_thread(make, chunks)
        await asyncio.to_thread(fill, Path(folder) / "retrieval", synthetic, model=_MODEL)
        async with (
            running_pair(Path(folder)) as pair,
            RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as client,
        ):
            series = await _searches(client, synthetic, rounds, progress)
    machine = this_machine(other_work)
    return Results(machine=machine, chunks=chunks, rounds=rounds, cases=[each.case() for each in series])


async def _searches(client: RetrievalClient, synthetic: Synthetic, rounds: int, progress: Progress) -> list[_Series]:
    series = [_Series(mode, "all", "none") for mode in _MODES]
    series += [_Series(mode, keeps, kind) for mode in _MODES for keeps in PARTS for kind in ("known", "new")]
    unseen = itertools.count(2)
    for number in progress.track(range(_WARM_UP_ROUNDS + rounds), description="Searches"):
        query, vector = synthetic.query(number)
        for each in series:
            part = number % 3
            conditions = each.conditions(part, unseen)
            started = time.perf_counter()
            answer = await client.search(
                query,
                vector=Vector(vector),
                collection=COLLECTION,
                mode=each.mode,
                limit=_LIMIT,
                filter=conditions,
                explain=True,
            )
            spent_ms = (time.perf_counter() - started) * 1000.0
            if number >= _WARM_UP_ROUNDS:
                is_dense = each.mode == "dense" and each.kind != "known"
                wanted = synthetic.nearest(vector, each.field, part, _LIMIT) if is_dense else None
                each.take(answer, spent_ms, wanted)
    return series


def tables_of(results: Results) -> dict[str, Table]:
    columns = (
        "mode",
        "keeps",
        "filter",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "p95 of unfiltered",
        "filter ms",
        "recall@10",
        "lexical",
    )
    unfiltered = {case.mode: case.p95 for case in results.cases if case.filter == "none"}
    rows: Sequence[tuple[str, ...]] = [
        (
            case.mode,
            case.keeps,
            case.filter,
            *(f"{ms:.2f}" for ms in (case.p50, case.p95, case.p99)),
            f"{case.p95 / unfiltered[case.mode]:.2f}",
            f"{case.filter_ms:.2f}",
            "" if case.recall is None else f"{case.recall:.4f}",
            ", ".join(case.lexical),
        )
        for case in results.cases
    ]
    return {
        f"Search among {results.chunks:,} chunks, one call at a time, {results.rounds} rounds": table_of(
            columns, rows, texts=3
        )
    }


@click.command(context_settings={"show_default": True})
@click.option("--chunks", type=click.IntRange(min=1000), default=100_000, help="How many to search among.")
@click.option("--rounds", type=click.IntRange(min=1, max=5000), default=200, help="Samples of each case.")
@output_options
@command
async def main(chunks: int, rounds: int, output: Output) -> None:
    """Measure filtered search. The results are also written to benchmarks/results/filtered.json."""
    with progress_bar() as progress:
        results = await measure(chunks, rounds, progress)
    output.publish("filtered", results, tables_of(results))


if __name__ == "__main__":
    main()
