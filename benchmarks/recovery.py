"""What a crash costs: `python -m benchmarks.recovery`. Exits with 1 when anything acknowledged is lost or not clean.

Each round is a life of the pair on the same data folder, and ends with SIGKILL of both services in the middle of whatever
they do. Most lives first look for what every life before was told to be stored, and then take new work: one client sends
documents in batches with `wait` off, another appends turns, until the kill at a random moment. Some lives are killed at a
random moment of their start: while the services load, take up unfinished jobs and catch indexes up.

When it looks, every unfinished job must end, every acknowledged document and turn must be there, word for word, and be
found by a word that occurs in nothing else, and `check` of both services must find every projection equal to the truth.
The requests that were under way at a kill may have been taken or not, but only as a whole. Each look verifies all of
what came since the last and a sample of the older; the last verifies everything.

Not measured: a crash of the machine. SIGKILL leaves the page cache alone, so it does not show that a write was synced.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final, Literal

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import SEED, data_option, read_conversation, read_documents
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair, supervised, until_jobs_ended, until_vectors_filled
from benchmarks.report import (
    Machine,
    OtherWork,
    err,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import DocumentIn, MemoryClient, RetrievalClient, TurnIn
from diptych.console import command
from diptych.ports import free_ports
from shared.errors import NotFound, Unavailable

_COLLECTION: Final = "crash"
_USER: Final = "ada"
_SESSIONS: Final = ("monday", "tuesday", "wednesday")
_BATCH_DOCUMENTS: Final = 5
_BATCH_TURNS: Final = 2
_TURNS_MAX: Final = 40
# Of the lives, those that are killed while they start; and when, in seconds after the spawn or after the first batch.
_STARTING_SHARE: Final = 0.3
_KILL_STARTING_S: Final = (0.5, 8.0)
_KILL_WORKING_S: Final = (0.1, 2.0)
# Short, so that a life is about crashes and not about the speed of the model.
_DOCUMENT_CHARACTERS: Final = 300
# Older documents and turns that are looked at again in each life.
_SAMPLE: Final = 30
# Between batches. They are acknowledged in milliseconds and worked on for seconds: without a pause everything would be
# acknowledged before the first document is stored, and no kill could fall between.
_DOCUMENTS_PAUSE_S: Final = 0.1
_TURNS_PAUSE_S: Final = 0.05
# The supervisor must have seen both deaths before it is left: signalling a child that has just died, it would lose its
# exit code (subprocess reaps it before asyncio does).
_REAP_S: Final = 0.5
_CALL_TIMEOUT_S: Final = 60.0
_FEED_TIMEOUT_S: Final = 300.0
_JOBS_TIMEOUT_S: Final = 900.0
_RUN_TIMEOUT_S: Final = 3600.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One life. Seconds count from its spawn. `acknowledged` is what this life was told to be stored, `unfinished` how
    many of its documents had not got past their job at the kill. Of a life killed at its start only the number and
    `killed_s` are known. `lost`, `torn` (taken in part) and `findings` must be empty."""

    number: int
    killed_while: Literal["starting", "working", "idle"]
    killed_s: float
    documents_acknowledged: int = 0
    documents_unfinished: int = 0
    turns_acknowledged: int = 0
    verified: int = 0
    ready_s: float = 0.0
    jobs_done_s: float = 0.0
    lost: list[str] = []
    torn: list[str] = []
    findings: list[str] = []

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.torn or self.findings)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    seed: int
    seconds: float
    rounds: list[Round]


@dataclass(slots=True)
class Sent:
    """What was sent: what was acknowledged, by the word that only it contains, and what was under way at a kill."""

    documents: dict[str, DocumentIn] = field(default_factory=dict)
    turns: dict[str, tuple[str, TurnIn]] = field(default_factory=dict)
    documents_under_way: list[DocumentIn] = field(default_factory=list)
    turns_under_way: list[TurnIn] = field(default_factory=list)
    documents_sent: int = 0
    turns_sent: int = 0
    # Acknowledged and not looked at yet.
    new: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Story:
    """All lives of one data folder."""

    scratch: Path
    documents: Sequence[DocumentIn]
    turns: Sequence[TurnIn]
    chance: random.Random
    sent: Sent = field(default_factory=Sent)

    async def killed_starting(self, number: int) -> Round:
        """A life that may end before it is ready."""
        delay_s = self.chance.uniform(*_KILL_STARTING_S)
        ports = free_ports(2)
        async with supervised(self.scratch, ports) as supervisor:
            waiting = asyncio.create_task(supervisor.wait_ready(_FEED_TIMEOUT_S))
            await asyncio.sleep(delay_s)
            await _kill(supervisor.pids.values())
            await asyncio.gather(waiting, return_exceptions=True)
        return Round(number=number, killed_while="starting", killed_s=round(delay_s, 2))

    async def killed_working(self, number: int) -> Round:
        """A life that is looked at, works, and ends in the middle of it."""
        started = time.perf_counter()
        async with running_pair(self.scratch) as pair:
            looked = await self._look(pair, number, started, everything=False)
            before = len(self.sent.documents), len(self.sent.turns)
            stored = await self._feed_and_kill(pair, self.chance.uniform(*_KILL_WORKING_S))
            killed_s = round(time.perf_counter() - started, 2)
        acknowledged = len(self.sent.documents) - before[0]
        return msgspec.structs.replace(
            looked,
            killed_while="working",
            killed_s=killed_s,
            documents_acknowledged=acknowledged,
            documents_unfinished=max(0, len(self.sent.documents) - stored),
            turns_acknowledged=len(self.sent.turns) - before[1],
        )

    async def last(self, number: int) -> Round:
        """A life in which everything is looked at."""
        started = time.perf_counter()
        async with running_pair(self.scratch) as pair:
            return await self._look(pair, number, started, everything=True)

    async def _look(self, pair: Pair, number: int, started: float, *, everything: bool) -> Round:
        jobs_done_s = await _jobs_done_s(pair, started)
        await until_vectors_filled(pair.memory_url, _JOBS_TIMEOUT_S)
        marks = self._marks(everything=everything)
        lost, torn = await _verify(pair, self.sent, marks)
        self.sent.new.clear()
        return Round(
            number=number,
            killed_while="idle",
            killed_s=round(time.perf_counter() - started, 2),
            verified=len(marks),
            ready_s=pair.ready_s,
            jobs_done_s=jobs_done_s,
            lost=lost,
            torn=torn,
            findings=await _check(pair),
        )

    def _marks(self, *, everything: bool) -> set[str]:
        known = sorted((self.sent.documents.keys() | self.sent.turns.keys()) - self.sent.new)
        return self.sent.new | set(known if everything else self.chance.sample(known, min(_SAMPLE, len(known))))

    async def _feed_and_kill(self, pair: Pair, delay_s: float) -> int:
        """Returns how many documents were stored just before the kill."""
        # Without retries: the first call that fails is the end of its feeder, because the service is dead.
        async with (
            RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S, retries=False) as retrieval,
            MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S, retries=False) as memory,
            limited(_FEED_TIMEOUT_S, "the services to die"),
            asyncio.TaskGroup() as feeders,
        ):
            await retrieval.put_collection(_COLLECTION)
            feeders.create_task(_feed_documents(retrieval, self.documents, self.sent))
            feeders.create_task(_feed_turns(memory, self.turns, self.sent))
            await asyncio.sleep(delay_s)
            stored = (await retrieval.collection(_COLLECTION)).documents
            await _kill(pair.pids.values())
        return stored


async def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(_REAP_S)


async def _feed_documents(client: RetrievalClient, documents: Sequence[DocumentIn], sent: Sent) -> None:
    """Until the service dies."""
    while True:
        numbers = range(sent.documents_sent, sent.documents_sent + _BATCH_DOCUMENTS)
        sent.documents_sent += _BATCH_DOCUMENTS
        batch = [_marked_document(documents[number % len(documents)], number) for number in numbers]
        sent.documents_under_way = batch
        try:
            await client.ingest(_COLLECTION, batch, wait=False)
        except Unavailable:
            return
        sent.documents.update(zip(map(_document_mark, numbers), batch, strict=True))
        sent.new.update(map(_document_mark, numbers))
        sent.documents_under_way = []
        await asyncio.sleep(_DOCUMENTS_PAUSE_S)


async def _feed_turns(client: MemoryClient, turns: Sequence[TurnIn], sent: Sent) -> None:
    """Until the service dies, or there are enough for one life."""
    sessions = cycle(_SESSIONS)
    for _ in range(0, _TURNS_MAX, _BATCH_TURNS):
        session = next(sessions)
        numbers = range(sent.turns_sent, sent.turns_sent + _BATCH_TURNS)
        sent.turns_sent += _BATCH_TURNS
        batch = [_marked_turn(turns[number % len(turns)], number) for number in numbers]
        sent.turns_under_way = batch
        try:
            await client.append(session, batch, user_id=_USER)
        except Unavailable:
            return
        sent.turns.update({_turn_mark(index): (session, turn) for index, turn in zip(numbers, batch, strict=True)})
        sent.new.update(map(_turn_mark, numbers))
        sent.turns_under_way = []
        await asyncio.sleep(_TURNS_PAUSE_S)


def _document_mark(index: int) -> str:
    """A word of no other text, which no stemmer changes."""
    return f"docmark{index:06d}"


def _turn_mark(index: int) -> str:
    return f"turnmark{index:06d}"


def _marked_document(document: DocumentIn, index: int) -> DocumentIn:
    text = f"{(document.text or '')[:_DOCUMENT_CHARACTERS]}\n\nReference {_document_mark(index)}."
    return msgspec.structs.replace(document, id=f"document-{index}", text=text)


def _marked_turn(turn: TurnIn, index: int) -> TurnIn:
    return msgspec.structs.replace(turn, id=f"turn-{index}", content=f"{turn.content} ({_turn_mark(index)})")


async def _jobs_done_s(pair: Pair, started: float) -> float:
    async with RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as client:
        await until_jobs_ended(client, _JOBS_TIMEOUT_S)
    return round(time.perf_counter() - started, 2)


async def _verify(pair: Pair, sent: Sent, marks: set[str]) -> tuple[list[str], list[str]]:
    """Which of `marks` was lost, and what of the last requests was taken in part."""
    async with (
        RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as retrieval,
        MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as memory,
    ):
        stored_turns = await _stored_turns(memory)
        lost = [
            f"document {document.id}"
            for mark, document in sent.documents.items()
            if mark in marks and not await _is_document_there(retrieval, mark, document)
        ]
        lost += [
            f"turn {session}/{turn.id}"
            for mark, (session, turn) in sent.turns.items()
            if mark in marks and not await _is_turn_there(memory, mark, session, turn, stored_turns)
        ]
        taken_documents = [await _stored_text(retrieval, document) is not None for document in sent.documents_under_way]
        taken_turns = [any(turn.id == stored for _, stored in stored_turns) for turn in sent.turns_under_way]
    partly = {"the last batch of documents": taken_documents, "the last batch of turns": taken_turns}
    return lost, [what for what, taken in partly.items() if any(taken) and not all(taken)]


async def _is_document_there(client: RetrievalClient, mark: str, document: DocumentIn) -> bool:
    if await _stored_text(client, document) != document.text:
        return False
    # The best one: parts of the mark are in others too, and a turn is also found by the words of those beside it.
    answer = await client.search(mark, collection=_COLLECTION, mode="lexical", limit=1)
    return [hit.document_id for hit in answer.hits] == [document.id]


async def _stored_text(client: RetrievalClient, document: DocumentIn) -> str | None:
    try:
        return (await client.document(_COLLECTION, document.id or "")).text
    except NotFound:
        return None


async def _is_turn_there(
    client: MemoryClient, mark: str, session: str, turn: TurnIn, stored: dict[tuple[str, str], str]
) -> bool:
    if stored.get((session, turn.id or "")) != turn.content:
        return False
    answer = await client.recall(mark, user_id=_USER, mode="lexical", limit=1)
    return [(item.session_id, item.id) for item in answer.items] == [(session, turn.id)]


async def _stored_turns(client: MemoryClient) -> dict[tuple[str, str], str]:
    """Contents by session and id. A session that no life got to has none."""
    found: dict[tuple[str, str], str] = {}
    for session in _SESSIONS:
        cursor: str | None = None
        while True:
            try:
                page = await client.turns(session, cursor=cursor, limit=1000)
            except NotFound:
                break
            found |= {(session, turn.id): turn.content for turn in page.items}
            cursor = page.next_cursor
            if cursor is None:
                break
    return found


async def _check(pair: Pair) -> list[str]:
    """What `diptych check` finds different from the truth."""
    async with (
        RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as retrieval,
        MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as memory,
    ):
        reports = {"retrieval": await retrieval.check(), "memory": await memory.check()}
    return [
        f"{service}, {finding.where}: {finding.problem}"
        for service, report in reports.items()
        for finding in report.findings
    ]


def table_of_rounds(rounds: Sequence[Round]) -> Table:
    columns = (
        "killed while",
        "round",
        "after s",
        "documents\nacknowledged",
        "unfinished\nat the kill",
        "turns\nacknowledged",
        "verified",
        "lost",
        "torn",
        "seconds\nto ready",
        "seconds to\nall jobs done",
        "check",
    )
    rows = [
        (
            each.killed_while,
            str(each.number),
            f"{each.killed_s:.1f}",
            str(each.documents_acknowledged),
            str(each.documents_unfinished),
            str(each.turns_acknowledged),
            str(each.verified),
            str(len(each.lost)),
            str(len(each.torn)),
            f"{each.ready_s:.1f}",
            f"{each.jobs_done_s:.1f}",
            ""
            if each.killed_while == "starting"
            else "clean"
            if not each.findings
            else f"{len(each.findings)} findings",
        )
        for each in rounds
    ]
    return table_of(columns, rows)


async def measure(data_dir: Path, rounds: int, seed: int, progress: Progress) -> Results:
    other_work, started = OtherWork(), time.perf_counter()
    done: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="diptych-recovery-") as scratch:
        texts, turns = read_documents(data_dir, 1000), read_conversation(data_dir, 1).turns
        chance = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
        story = Story(Path(scratch), texts, turns, chance)
        for number in progress.track(range(1, rounds + 1), description="lives"):
            is_starting = number > 1 and chance.random() < _STARTING_SHARE
            done.append(await (story.killed_starting(number) if is_starting else story.killed_working(number)))
        done.append(await story.last(rounds + 1))
    return Results(
        machine=this_machine(other_work),
        seed=seed,
        seconds=round(time.perf_counter() - started, 1),
        rounds=done,
    )


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(min=1, max=500), default=5, help="Crashes, each at another point.")
@click.option("--seed", default=SEED, help="Decides the points of the kills.")
@output_options
@data_option
@command
async def main(rounds: int, seed: int, output: Output, data_dir: Path) -> None:
    """Kill both services in the middle of their work, and look for what was acknowledged. The results are also written
    to benchmarks/results/recovery.json."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, rounds, seed, progress)
    title = f"Recovery from SIGKILL of both services, {rounds} times on the same data, {results.seconds:.0f} s in all"
    output.publish("recovery", results, {title: table_of_rounds(results.rounds)})
    for each in results.rounds:
        for problem in (*each.lost, *each.torn, *each.findings):
            err.print(f"round {each.number}: {problem}", markup=False)
    if not all(each.is_clean for each in results.rounds):
        sys.exit(1)


if __name__ == "__main__":
    main()
