"""Other vector databases beside Diptych, in one run: `python -m benchmarks.retrieval_peers`.

All get the same documents, vectors and queries (benchmarks/judged_corpus.py), answer with the numbers and texts of the ten best, and are
asked in turns, a block of queries each, so that a drift of the machine hits all. Vectors are given with the queries: no time is a model's.
Servers (Diptych, Chroma) are processes of their own, asked over HTTP by the same bare clients (benchmarks/load.py); the others are
libraries, called in a process of their own without HTTP, by as many threads as there are clients.

Quality stands beside speed: the share of the ten truly nearest that a dense search finds, and nDCG@10 by people's judgements.
With `--made N` documents are made up around real ones (benchmarks/filled.py), as many as are wanted, and there are no judgements.

Not measured: clusters of them, updates under load, filters, and ingest with embedding and files.
"""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.bare import load_model
from benchmarks.data import data_option, unseen_queries
from benchmarks.filled import fill, filled_texts, filled_vectors
from benchmarks.judged_corpus import CACHE, Corpus, mean_ndcg, read_corpus, recall
from benchmarks.measuring import in_turns
from benchmarks.output import Output, output_options
from benchmarks.peer_process import PeerFailed, peers_option
from benchmarks.report import Machine, OtherWork, Percentiles, err, percentiles, progress_bar, table_of, this_machine
from benchmarks.vector_sides import LABELS, Side, diptych_side, peer_side, store_corpus, write_corpus
from diptych.console import command
from shared.vectors import Float32Array

_BLOCK: Final = 25
_WARM_UP: Final = 10
_QUERIES_PER_SET: Final = 100
_QUERIES_MADE: Final = 200
_CROWDS: Final = 2
# What they do not have here, and why.
_LACKING: Final = {
    "Chroma server, hybrid": "its search by vector and words is part of its cloud alone",
    "Qdrant, local mode, hybrid": "its vectors of words are made by FastEmbed, which fetches a model",
}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """`ms` is of one search at a time; a crowd comes after, unless it ended the system. `recall_at_10` is of dense searches, against a plain
    scan."""

    ms: Percentiles
    recall_at_10: float | None
    ndcg_at_10: float | None
    crowd_searches_per_s: float | None
    crowd_ms: Percentiles | None


class System(msgspec.Struct, frozen=True, kw_only=True):
    """`fill_s` is from given vectors until everything is searchable, the start of a server included."""

    name: str
    versions: dict[str, str]
    reached: str
    fill_s: float
    disk_mb: float
    ways: dict[str, Way]


class RetrievalPeers(msgspec.Struct, frozen=True, kw_only=True):
    """`absent` has what could not be measured, and why."""

    machine: Machine
    documents: int
    queries: int
    passes: int
    clients: int
    systems: list[System]
    absent: dict[str, str]


@dataclass(slots=True)
class _Seen:
    """Of one system in one way."""

    ms: list[float] = field(default_factory=list)
    found: dict[int, list[int]] = field(default_factory=dict)
    crowd_ms: list[float] = field(default_factory=list)
    crowd_s: float = 0.0

    def add(self, numbers: Sequence[int], answers: Sequence[tuple[float, list[int]]]) -> None:
        for number, (ms, rows) in zip(numbers, answers, strict=True):
            self.ms.append(ms)
            self.found[number] = rows

    def way(self, corpus: Corpus, nearest: list[list[int]] | None) -> Way:
        rows = [self.found[number] for number in range(len(corpus.asked))]
        return Way(
            ms=percentiles(self.ms),
            recall_at_10=recall(rows, nearest) if nearest else None,
            ndcg_at_10=mean_ndcg(rows, corpus.relevant) if corpus.relevant else None,
            crowd_searches_per_s=round(len(self.crowd_ms) / self.crowd_s, 1) if self.crowd_ms else None,
            crowd_ms=percentiles(self.crowd_ms) if self.crowd_ms else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`searches` are of one crowd of `clients`. `passes` is how often every query is asked one at a time."""

    passes: int
    clients: int
    searches: int
    peers: tuple[str, ...]
    python: Path


async def measure(folder: Path, corpus: Corpus, plan: Plan, stored_s: float, progress: Progress) -> RetrievalPeers:
    """What Diptych is to search lies in `folder`."""
    watch = OtherWork()
    await asyncio.to_thread(write_corpus, folder / "peers", corpus)
    absent: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(diptych_side(folder, corpus, stored_s))]
        for name in progress.track(plan.peers, description="filling"):
            try:
                sides.append(await stack.enter_async_context(peer_side(plan.python, name, folder / "peers")))
            except PeerFailed as failure:
                absent[LABELS[name]] = str(failure)
                err.print(f"{LABELS[name]}: {failure}", markup=False)
        seen, failed = await _ask(sides, corpus, plan, progress)
        sides = [side for side in sides if side.name not in failed]
        absent |= failed | await _crowd(sides, seen, plan, progress)
        nearest = await asyncio.to_thread(corpus.nearest)
        systems = [
            System(
                name=side.name,
                versions=side.versions,
                reached=side.reached,
                fill_s=side.fill_s,
                disk_mb=side.disk_mb,
                ways={way: seen[side.name, way].way(corpus, nearest if way == "dense" else None) for way in side.ways},
            )
            for side in sides
        ]
    return RetrievalPeers(
        machine=this_machine(watch),
        documents=len(corpus.texts),
        queries=len(corpus.asked),
        passes=plan.passes,
        clients=plan.clients,
        systems=systems,
        absent=absent | _LACKING,
    )


async def _ask(
    sides: list[Side], corpus: Corpus, plan: Plan, progress: Progress
) -> tuple[dict[tuple[str, str], _Seen], dict[str, str]]:
    """One at a time, block by block; whoever was first in a round is last in the next one. What was seen, and who failed, and why: it is
    asked no more. Raises PeerFailed where that is Diptych."""
    turns = [(side, way) for side in sides for way in side.ways]
    seen, failed = {(side.name, way): _Seen() for side, way in turns}, dict[str, str]()
    first = range(min(_WARM_UP, len(corpus.asked)))
    blocks = [range(at, min(at + _BLOCK, len(corpus.asked))) for at in range(0, len(corpus.asked), _BLOCK)]
    rounds = [first, *blocks * plan.passes]
    for number, block in enumerate(progress.track(rounds, description="one at a time")):
        for side, way in in_turns(turns, number):
            if side.name in failed:
                continue
            try:
                answers = await side.search(way, block)
            except PeerFailed as failure:
                if side is sides[0]:
                    raise
                failed[side.name] = f"{way}: {failure}"
                continue
            if number > 0:  # the first is the warm-up
                seen[side.name, way].add(block, answers)
    return seen, failed


async def _crowd(
    sides: list[Side], seen: dict[tuple[str, str], _Seen], plan: Plan, progress: Progress
) -> dict[str, str]:
    """What could not be measured, and why: a system that a crowd ends is asked no more."""
    turns, ended = [(side, way) for side in sides for way in side.ways], dict[str, str]()
    for number in progress.track(range(_CROWDS), description="crowds"):
        for side, way in in_turns(turns, number):
            if f"{side.name}, {plan.clients} threads at once" in ended:
                continue
            try:
                spent_ms, seconds = await side.crowd(way, plan.clients, plan.searches)
            except PeerFailed as failure:
                ended[f"{side.name}, {plan.clients} threads at once"] = f"{way}: {failure}"
            else:
                seen[side.name, way].crowd_ms += spent_ms
                seen[side.name, way].crowd_s += seconds
    return ended


async def _judged(folder: Path, data_dir: Path, documents: int, progress: Progress) -> tuple[Corpus, float]:
    """Stored for Diptych, and the seconds that this took."""
    corpus = await asyncio.to_thread(read_corpus, data_dir, documents, _QUERIES_PER_SET, progress)
    directory = folder / "retrieval"
    # As `_made` has it: the model as the service runs it is there when it starts.
    await asyncio.to_thread(shutil.copytree, CACHE / "models", directory / "models")
    started = time.perf_counter()
    await asyncio.to_thread(store_corpus, directory, corpus)
    return corpus, time.perf_counter() - started


async def _made(folder: Path, data_dir: Path, documents: int, progress: Progress) -> tuple[Corpus, float]:
    """As `_judged`, but made up."""
    directory = folder / "retrieval"
    embedder = await asyncio.to_thread(load_model, directory)
    embedding_s = 0.0

    def embed(texts: list[str]) -> Float32Array:
        """Not part of storing, so its time is taken off."""
        nonlocal embedding_s
        started = time.perf_counter()
        vectors = embedder.embed(texts, "document")
        embedding_s += time.perf_counter() - started
        return vectors

    started = time.perf_counter()
    await asyncio.to_thread(fill, directory, data_dir, embedder.name, embed, documents, progress)
    stored_s = time.perf_counter() - started - embedding_s
    asked = list(islice(unseen_queries(data_dir), _QUERIES_MADE))
    corpus = Corpus(
        model=embedder.name,
        texts=filled_texts(directory),
        vectors=filled_vectors(directory),
        asked=asked,
        queries=embedder.embed(asked, "query"),
        relevant=[],
    )
    return corpus, stored_s


def tables_of(results: RetrievalPeers) -> dict[str, Table]:
    columns = ("system", "reached", "search", "p50 ms", "p95 ms", "by crowd /s", "recall@10", "nDCG@10", "fill s", "MB")
    rows = [
        (
            system.name,
            system.reached,
            name,
            f"{way.ms.p50:.2f}",
            f"{way.ms.p95:.2f}",
            "" if way.crowd_searches_per_s is None else f"{way.crowd_searches_per_s:.0f}",
            "" if way.recall_at_10 is None else f"{way.recall_at_10:.3f}",
            "" if way.ndcg_at_10 is None else f"{way.ndcg_at_10:.3f}",
            f"{system.fill_s:.1f}",
            f"{system.disk_mb:.0f}",
        )
        for system in results.systems
        for name, way in system.ways.items()
    ]
    title = f"{results.documents:,} documents, {results.queries} queries {results.passes} times, then {results.clients} clients"
    return {
        title: table_of(columns, rows, texts=3),
        "Not measured": table_of(("what", "why"), list(results.absent.items()), texts=2, wraps=1),
    }


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=500), default=20_000, help="At most; there are about 12,850.")
@click.option("--made", type=click.IntRange(min=1000), help="So many made-up documents instead.")
@click.option("--passes", type=click.IntRange(min=1), default=2, help="How often each query is asked.")
@click.option("--clients", type=click.IntRange(min=1), default=16, help="Of a crowd.")
@click.option("--searches", type=click.IntRange(min=16), default=1000, help="Of a crowd, which comes twice.")
@peers_option(tuple(LABELS))
@output_options
@data_option
@command
async def main(
    documents: int,
    made: int | None,
    passes: int,
    clients: int,
    searches: int,
    peers: tuple[str, ...],
    peers_python: Path,
    output: Output,
    data_dir: Path,
) -> None:
    """Measure Diptych and other vector databases in turns. The results are also written to
    benchmarks/results/retrieval-peers.json, or retrieval-peers-N.json for N made-up documents."""
    plan = Plan(passes=passes, clients=clients, searches=searches, peers=peers, python=peers_python)
    with tempfile.TemporaryDirectory(prefix="diptych-peers-") as scratch, progress_bar() as progress:
        folder = Path(scratch)
        source = _made(folder, data_dir, made, progress) if made else _judged(folder, data_dir, documents, progress)
        corpus, stored_s = await source
        results = await measure(folder, corpus, plan, stored_s, progress)
    output.publish(f"retrieval-peers-{made}" if made else "retrieval-peers", results, tables_of(results))


if __name__ == "__main__":
    main()
