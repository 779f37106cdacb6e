"""Other memories of agents beside Diptych, in one run: `python -m benchmarks.memory_peers`.

All get the same turns of people's talks over months (LoCoMo), one after the other, and the same questions about them. All embed with
all-MiniLM-L6-v2, none has a language model: every turn is kept as it was said. They are asked in turns, a block each, so that a drift of
the machine hits all, and each question once, so that no cache answers it. Diptych is asked over HTTP by its Python client, as the server
of mcp-memory-service is by Python's; mem0 is a library, called in a process of its own.

An answer to an append means another thing in each (`stored`): Diptych embeds after it, so the seconds until all turns are found by meaning
are shown as well. Quality is the share of the turns that answer a question among the ten first, and how often any of them is there.

Not measured: what they do with a language model, many users at once, and larger memories (benchmarks.memory_scale).
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import data_option
from benchmarks.measuring import in_turns
from benchmarks.output import Output, output_options
from benchmarks.pair import running_pair, until_vectors_filled
from benchmarks.peer_process import PeerFailed, PeerProcess, peers_option, running_peer
from benchmarks.report import Machine, OtherWork, Percentiles, err, percentiles, progress_bar, table_of, this_machine
from benchmarks.talks import Said, Talk, found_share, read_talks
from diptych import MemoryClient, TurnIn
from diptych.console import command
from shared.errors import Internal
from shared.memory_messages import Role

_PEERS: Final = ("mem0", "mcp-memory-service")
# What an answer to an append promises; of SQLite's settings in their sources, and counted with strace.
_STORED: Final = {
    "Diptych": "synced to disk; embedded afterwards",
    "mem0": "synced to disk, several times; embedded before",
    "mcp-memory-service": "written, not synced (WAL, synchronous=NORMAL): a power cut may lose it; embedded before",
}
# What they do not have here, and why.
_LACKING: Final = {
    "mem0, extraction of facts": "it needs a language model; `infer=False` keeps turns as they are",
    "mem0, search by words and entities": "its encoders (FastEmbed's BM25, spaCy's en_core_web_sm) are fetched when it starts",
    "Letta, Graphiti, Honcho, cognee": "they need a language model or a database server to keep anything",
    "Hindsight, MemPalace": "both can do without a language model, and were not tried",
}
# Large, since waiting until a block is embedded is coarse: it takes 0.2 s at least, which count.
_APPEND_BLOCK: Final = 100
_BLOCK: Final = 20
_WARM_UP: Final = "What did we talk about?"
_LIMIT: Final = 10
# Of two people, whoever opened their talk has the user's part.
_OPENER: Final[Role] = "user"
_OTHER: Final[Role] = "assistant"
_CALL_TIMEOUT_S: Final = 60.0
_FILL_TIMEOUT_S: Final = 900.0


class System(msgspec.Struct, frozen=True, kw_only=True):
    """`searchable_s` is from the first append until every turn is found by meaning, less what others did meanwhile. `stored` says what the
    answer to an append means."""

    name: str
    versions: dict[str, str]
    stored: str
    append_ms: Percentiles
    searchable_s: float
    search_ms: Percentiles
    share_at_10: float
    any_at_10: float
    disk_mb: float


class MemoryPeers(msgspec.Struct, frozen=True, kw_only=True):
    """`absent` has what could not be measured, and why."""

    machine: Machine
    talks: int
    turns: int
    questions: int
    systems: list[System]
    absent: dict[str, str]


class Side(Protocol):
    """A memory that is ready."""

    name: str
    versions: dict[str, str]

    async def append(self, talk: Talk, said: Sequence[Said]) -> list[float]:
        """Milliseconds of each."""

    async def settle(self) -> None:
        """Until everything is found by meaning."""

    async def search(self, talk: Talk, queries: Sequence[str]) -> list[tuple[float, list[str]]]:
        """Milliseconds, and the turns that were found, best first."""

    async def megabytes(self) -> float: ...


@dataclass(slots=True)
class Diptych:
    client: MemoryClient
    url: str
    folder: Path
    name: str = "Diptych"
    versions: dict[str, str] = field(default_factory=lambda: {"diptych": version("diptych")})

    async def append(self, talk: Talk, said: Sequence[Said]) -> list[float]:
        spent_ms = []
        opened = talk.said[0].speaker
        for each in said:
            role = _OPENER if each.speaker == opened else _OTHER
            turn = TurnIn(id=each.turn, role=role, name=each.speaker, content=each.text, created_at=each.at)
            started = time.perf_counter()
            await self.client.append(f"{talk.user}/{each.session}", [turn], user_id=talk.user)
            spent_ms.append((time.perf_counter() - started) * 1000.0)
        return spent_ms

    async def settle(self) -> None:
        await until_vectors_filled(self.url, _FILL_TIMEOUT_S)

    async def search(self, talk: Talk, queries: Sequence[str]) -> list[tuple[float, list[str]]]:
        answers = []
        for query in queries:
            started = time.perf_counter()
            answer = await self.client.recall(query, user_id=talk.user, as_of=talk.ended_at, limit=_LIMIT)
            spent_ms = (time.perf_counter() - started) * 1000.0
            if answer.degraded:
                raise Internal("a recall was degraded: the numbers would be those of words alone")
            answers.append((spent_ms, [item.id for item in answer.items]))
        return answers

    async def megabytes(self) -> float:
        paths = await asyncio.to_thread(lambda: list((self.folder / "memory").rglob("*")))
        return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


@dataclass(slots=True)
class Peer:
    name: str
    versions: dict[str, str]
    process: PeerProcess

    async def append(self, talk: Talk, said: Sequence[Said]) -> list[float]:
        spent: list[float] = await self.process.ask(
            "add", [(talk.user, each.turn, each.speaker, each.text) for each in said]
        )
        return spent

    async def settle(self) -> None:
        """An answer means that."""

    async def search(self, talk: Talk, queries: Sequence[str]) -> list[tuple[float, list[str]]]:
        found = await self.process.ask("search", [(talk.user, query) for query in queries])
        return [(ms, turns) for ms, turns in found]

    async def megabytes(self) -> float:
        size: float = await self.process.ask("megabytes")
        return size


@asynccontextmanager
async def _diptych(folder: Path) -> AsyncIterator[Side]:
    async with (
        running_pair(folder) as pair,
        MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S, retries=False) as client,
    ):
        yield Diptych(client, pair.memory_url, folder)


@asynccontextmanager
async def _peer(python: Path, name: str, folder: Path) -> AsyncIterator[Side]:
    async with running_peer(python, "memories", name, folder) as process:
        yield Peer(name, await process.ask("about"), process)


@dataclass(slots=True)
class _Seen:
    append_ms: list[float] = field(default_factory=list)
    settle_s: float = 0.0
    search_ms: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    failure: str | None = None

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """The first reason is kept; a process that ended fails again at once, whatever it is asked."""
        try:
            yield
        except PeerFailed as failure:
            self.failure = self.failure or str(failure)


async def measure(
    folder: Path, talks: Sequence[Talk], peers: Sequence[str], python: Path, progress: Progress
) -> MemoryPeers:
    watch, absent = OtherWork(), dict[str, str]()
    (folder / "peers").mkdir()
    async with AsyncExitStack() as stack:
        sides = [await stack.enter_async_context(_diptych(folder))]
        for name in peers:
            try:
                sides.append(await stack.enter_async_context(_peer(python, name, folder / "peers")))
            except PeerFailed as failure:
                absent[name] = str(failure)
                err.print(f"{name}: {failure}", markup=False)
        seen = {side.name: _Seen() for side in sides}
        await _append_all(sides, talks, seen, progress)
        await _search_all(sides, talks, seen, progress)
        absent |= {name: each.failure for name, each in seen.items() if each.failure}
        systems = [await _system(side, seen[side.name]) for side in sides if side.name not in absent]
    return MemoryPeers(
        machine=this_machine(watch),
        talks=len(talks),
        turns=sum(len(talk.said) for talk in talks),
        questions=sum(len(talk.asked) for talk in talks),
        systems=systems,
        absent=absent | _LACKING,
    )


async def _append_all(sides: list[Side], talks: Sequence[Talk], seen: dict[str, _Seen], progress: Progress) -> None:
    """Whoever was first with a block is last with the next one, and waits until what it does afterwards is done."""
    blocks = [
        (talk, talk.said[at : at + _APPEND_BLOCK]) for talk in talks for at in range(0, len(talk.said), _APPEND_BLOCK)
    ]
    for number, (talk, block) in enumerate(progress.track(blocks, description="appends")):
        for side in in_turns(sides, number):
            with seen[side.name].noting_failure():
                seen[side.name].append_ms += await side.append(talk, block)
                started = time.perf_counter()
                await side.settle()
                seen[side.name].settle_s += time.perf_counter() - started


async def _search_all(sides: list[Side], talks: Sequence[Talk], seen: dict[str, _Seen], progress: Progress) -> None:
    for side in sides:
        for talk in talks:
            with seen[side.name].noting_failure():
                await side.search(talk, [_WARM_UP])
    blocks = [(talk, talk.asked[at : at + _BLOCK]) for talk in talks for at in range(0, len(talk.asked), _BLOCK)]
    for number, (talk, block) in enumerate(progress.track(blocks, description="questions")):
        for side in in_turns(sides, number):
            with seen[side.name].noting_failure():
                answers = await side.search(talk, [asked.query for asked in block])
                for asked, (ms, found) in zip(block, answers, strict=True):
                    seen[side.name].search_ms.append(ms)
                    seen[side.name].shares.append(found_share(found[:_LIMIT], asked))


async def _system(side: Side, seen: _Seen) -> System:
    return System(
        name=side.name,
        versions=side.versions,
        stored=_STORED[side.name],
        append_ms=percentiles(seen.append_ms),
        searchable_s=round(sum(seen.append_ms) / 1000.0 + seen.settle_s, 1),
        search_ms=percentiles(seen.search_ms),
        share_at_10=round(sum(seen.shares) / len(seen.shares), 4),
        any_at_10=round(sum(share > 0.0 for share in seen.shares) / len(seen.shares), 4),
        disk_mb=round(await side.megabytes(), 1),
    )


def tables_of(results: MemoryPeers) -> dict[str, Table]:
    columns = ("memory", "append p50", "p95", "all found after s", "search p50", "p95", "share@10", "any@10", "MB")
    rows = [
        (
            each.name,
            *(f"{ms:.1f}" for ms in (each.append_ms.p50, each.append_ms.p95)),
            f"{each.searchable_s:.1f}",
            *(f"{ms:.1f}" for ms in (each.search_ms.p50, each.search_ms.p95)),
            *(f"{share:.3f}" for share in (each.share_at_10, each.any_at_10)),
            f"{each.disk_mb:.0f}",
        )
        for each in results.systems
    ]
    title = (
        f"{results.turns:,} turns of {results.talks} talks, one by one; {results.questions} questions, once each; ms"
    )
    return {
        title: table_of(columns, rows),
        "What an answer to an append means": table_of(
            ("memory", "stored"), [(each.name, each.stored) for each in results.systems], texts=2, wraps=1
        ),
        "Not measured": table_of(("what", "why"), list(results.absent.items()), texts=2, wraps=1),
    }


@click.command(context_settings={"show_default": True})
@click.option("--talks", type=click.IntRange(min=1, max=5), default=2, help="Of LoCoMo's.")
@click.option("--turns", type=click.IntRange(min=50), default=1000, help="Of each talk, at most.")
@click.option("--questions", type=click.IntRange(min=1), default=150, help="Of each talk, at most.")
@peers_option(_PEERS)
@output_options
@data_option
@command
async def main(
    talks: int,
    turns: int,
    questions: int,
    peers: tuple[str, ...],
    peers_python: Path,
    output: Output,
    data_dir: Path,
) -> None:
    """Measure Diptych and other memories in turns. The results are also written to benchmarks/results/memory-peers.json."""
    given = read_talks(data_dir, talks, turns, questions)
    with tempfile.TemporaryDirectory(prefix="diptych-memory-peers-") as scratch, progress_bar() as progress:
        results = await measure(Path(scratch), given, peers, peers_python, progress)
    output.publish("memory-peers", results, tables_of(results))


if __name__ == "__main__":
    main()
