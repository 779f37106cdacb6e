"""What a crash costs: `python -m benchmarks.recovery`. Exits with 1 when anything acknowledged is lost or not clean.

Each round starts the pair on a new data folder. One client sends documents in batches with `wait` off, another appends
turns. Once enough documents are acknowledged, at another point each round, both services get SIGKILL in the middle of
whatever they do: some documents are stored by then, some are being worked on, and most are only acknowledged. The pair starts again on the same folder; when its unfinished jobs have ended, every
acknowledged document and turn must be there, word for word, and be found by a word that occurs in nothing else, and
`check` of both services must find every projection equal to the truth. The requests that were under way at the kill may
have been taken or not, but only as a whole.

Not measured: a crash of the machine. SIGKILL leaves the page cache alone, so it does not show that a write was synced.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import SEED, data_option, read_conversation, read_documents
from benchmarks.pair import Pair, limited, running_pair, until_jobs_ended, until_vectors_filled
from benchmarks.report import (
    Machine,
    OtherWork,
    as_json,
    err,
    print_results,
    progress_bar,
    table_of,
    this_machine,
    write_results,
)
from diptych import DocumentIn, MemoryClient, RetrievalClient, TurnIn
from diptych.console import command
from shared.errors import NotFound, Unavailable

_COLLECTION: Final = "crash"
_USER: Final = "ada"
_SESSIONS: Final = ("monday", "tuesday", "wednesday")
_BATCH_DOCUMENTS: Final = 20
_BATCH_TURNS: Final = 2
_TURNS_MAX: Final = 5000
# Of the documents, acknowledged when the kill is decided; and how much later it comes, in the middle of a request.
_KILL_SHARE: Final = (0.3, 0.5)
_KILL_DELAY_S: Final = (0.0, 0.3)
# Between batches. They are acknowledged in milliseconds and worked on for seconds: without a pause everything would be
# acknowledged before the first document is stored, and no kill could fall between.
_DOCUMENTS_PAUSE_S: Final = 0.3
_TURNS_PAUSE_S: Final = 0.05
# The supervisor must have seen both deaths before it is left: signalling a child that has just died, it would lose its
# exit code (subprocess reaps it before asyncio does).
_REAP_S: Final = 0.5
_CALL_TIMEOUT_S: Final = 60.0
_FEED_TIMEOUT_S: Final = 300.0
_JOBS_TIMEOUT_S: Final = 900.0
_RUN_TIMEOUT_S: Final = 3600.0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds count from the spawn of the restart. `stored_at_kill` is how many documents had got past their job by then:
    the others existed only as acknowledged work. `lost`, `torn` (taken in part) and `findings` must be empty."""

    number: int
    documents_acknowledged: int
    documents_stored_at_kill: int
    turns_acknowledged: int
    ready_s: float
    jobs_done_s: float
    vectors_filled_s: float
    lost: list[str]
    torn: list[str]
    findings: list[str]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.torn or self.findings)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    documents: int
    seed: int
    rounds: list[Round]


@dataclass(slots=True)
class Sent:
    """What one round sent: what was acknowledged, by the word that only it contains, and what was under way at the kill."""

    documents: dict[str, DocumentIn] = field(default_factory=dict)
    turns: dict[str, tuple[str, TurnIn]] = field(default_factory=dict)
    documents_under_way: list[DocumentIn] = field(default_factory=list)
    turns_under_way: list[TurnIn] = field(default_factory=list)


async def run_round(
    number: int, documents: Sequence[DocumentIn], turns: Sequence[TurnIn], seed: int, progress: Progress
) -> Round:
    chance = random.Random(seed + number)  # noqa: S311 - a repeatable choice, no secret
    kill_at = round(chance.uniform(*_KILL_SHARE) * len(documents))
    sent = Sent()
    task = progress.add_task(f"round {number}: feed and kill", total=4)
    with tempfile.TemporaryDirectory(prefix="diptych-recovery-") as scratch:
        async with running_pair(Path(scratch)) as pair:
            stored = await _feed_and_kill(pair, documents, turns, sent, kill_at, chance.uniform(*_KILL_DELAY_S))
        progress.update(task, advance=1, description=f"round {number}: restart")
        started = time.perf_counter()
        async with running_pair(Path(scratch)) as pair:
            progress.update(task, advance=1, description=f"round {number}: finish jobs")
            jobs_done_s, vectors_filled_s = await asyncio.gather(
                _jobs_done_s(pair, started), _vectors_filled_s(pair, started)
            )
            progress.update(task, advance=1, description=f"round {number}: verify")
            lost, torn = await _verify(pair, sent)
            findings = await _check(pair)
        progress.update(task, advance=1, description=f"round {number}")
    return Round(
        number=number,
        documents_acknowledged=len(sent.documents),
        documents_stored_at_kill=stored,
        turns_acknowledged=len(sent.turns),
        ready_s=pair.ready_s,
        jobs_done_s=jobs_done_s,
        vectors_filled_s=vectors_filled_s,
        lost=lost,
        torn=torn,
        findings=findings,
    )


async def _feed_and_kill(
    pair: Pair, documents: Sequence[DocumentIn], turns: Sequence[TurnIn], sent: Sent, kill_at: int, delay_s: float
) -> int:
    """Returns how many documents were stored just before the kill."""
    is_enough = asyncio.Event()
    # Without retries: the first call that fails is the end of its feeder, because the service is dead.
    async with (
        RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S, retries=False) as retrieval,
        MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S, retries=False) as memory,
        limited(_FEED_TIMEOUT_S, f"{kill_at} documents to be acknowledged"),
        asyncio.TaskGroup() as feeders,
    ):
        feeders.create_task(_feed_documents(retrieval, documents, sent, kill_at, is_enough))
        feeders.create_task(_feed_turns(memory, turns, sent))
        await is_enough.wait()
        stored = (await retrieval.collection(_COLLECTION)).documents
        await asyncio.sleep(delay_s)
        for pid in pair.pids.values():
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_REAP_S)
    return stored


async def _feed_documents(
    client: RetrievalClient, documents: Sequence[DocumentIn], sent: Sent, kill_at: int, is_enough: asyncio.Event
) -> None:
    """Until the service dies."""
    for begin in range(0, len(documents), _BATCH_DOCUMENTS):
        batch = [
            _marked_document(document, index)
            for index, document in enumerate(documents[begin : begin + _BATCH_DOCUMENTS], start=begin)
        ]
        sent.documents_under_way = batch
        try:
            await client.ingest(_COLLECTION, batch, wait=False)
        except Unavailable:
            return
        sent.documents.update({_document_mark(begin + offset): document for offset, document in enumerate(batch)})
        sent.documents_under_way = []
        if len(sent.documents) >= kill_at:
            is_enough.set()
        await asyncio.sleep(_DOCUMENTS_PAUSE_S)


async def _feed_turns(client: MemoryClient, turns: Sequence[TurnIn], sent: Sent) -> None:
    """Until the service dies, or there are enough to verify."""
    texts, sessions = cycle(turns), cycle(_SESSIONS)
    for begin in range(0, _TURNS_MAX, _BATCH_TURNS):
        session = next(sessions)
        numbers = range(begin, begin + _BATCH_TURNS)
        batch = [_marked_turn(next(texts), index) for index in numbers]
        sent.turns_under_way = batch
        try:
            await client.append(session, batch, user_id=_USER)
        except Unavailable:
            return
        sent.turns.update({_turn_mark(index): (session, turn) for index, turn in zip(numbers, batch, strict=True)})
        sent.turns_under_way = []
        await asyncio.sleep(_TURNS_PAUSE_S)


def _document_mark(index: int) -> str:
    """A word of no other text, which no stemmer changes and no tokenizer splits."""
    return f"docmark{index:06d}"


def _turn_mark(index: int) -> str:
    return f"turnmark{index:06d}"


def _marked_document(document: DocumentIn, index: int) -> DocumentIn:
    return msgspec.structs.replace(document, text=f"{document.text}\n\nReference {_document_mark(index)}.")


def _marked_turn(turn: TurnIn, index: int) -> TurnIn:
    return msgspec.structs.replace(turn, id=f"turn-{index}", content=f"{turn.content} ({_turn_mark(index)})")


async def _jobs_done_s(pair: Pair, started: float) -> float:
    async with RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as client:
        await until_jobs_ended(client, _JOBS_TIMEOUT_S)
    return round(time.perf_counter() - started, 2)


async def _vectors_filled_s(pair: Pair, started: float) -> float:
    await until_vectors_filled(pair.memory_url, _JOBS_TIMEOUT_S)
    return round(time.perf_counter() - started, 2)


async def _verify(pair: Pair, sent: Sent) -> tuple[list[str], list[str]]:
    """What was lost, and what was taken in part, by id."""
    async with (
        RetrievalClient(pair.retrieval_url, timeout_s=_CALL_TIMEOUT_S) as retrieval,
        MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as memory,
    ):
        stored_turns = await _stored_turns(memory)
        lost = [
            f"document {document.id}"
            for mark, document in sent.documents.items()
            if not await _is_document_there(retrieval, mark, document)
        ]
        lost += [
            f"turn {session}/{turn.id}"
            for mark, (session, turn) in sent.turns.items()
            if not await _is_turn_there(memory, mark, session, turn, stored_turns)
        ]
        taken_documents = [await _stored_text(retrieval, document) is not None for document in sent.documents_under_way]
        taken_turns = [any(turn.id == stored for _, stored in stored_turns) for turn in sent.turns_under_way]
    partly = {"the last batch of documents": taken_documents, "the last batch of turns": taken_turns}
    return lost, [what for what, taken in partly.items() if any(taken) and not all(taken)]


async def _is_document_there(client: RetrievalClient, mark: str, document: DocumentIn) -> bool:
    if await _stored_text(client, document) != document.text:
        return False
    answer = await client.search(mark, collection=_COLLECTION, mode="lexical", limit=2)
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
    answer = await client.recall(mark, user_id=_USER, mode="lexical", limit=2)
    return [(item.session_id, item.id) for item in answer.items] == [(session, turn.id)]


async def _stored_turns(client: MemoryClient) -> dict[tuple[str, str], str]:
    """Contents by session and id."""
    found: dict[tuple[str, str], str] = {}
    for session in _SESSIONS:
        cursor: str | None = None
        while True:
            page = await client.turns(session, cursor=cursor, limit=1000)
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
        "round",
        "documents\nacknowledged",
        "of them stored\nat the kill",
        "turns\nacknowledged",
        "lost",
        "torn",
        "seconds\nto ready",
        "seconds to\nall jobs done",
        "seconds to\nall vectors",
        "check",
    )
    rows = [
        (
            str(each.number),
            str(each.documents_acknowledged),
            str(each.documents_stored_at_kill),
            str(each.turns_acknowledged),
            str(len(each.lost)),
            str(len(each.torn)),
            f"{each.ready_s:.1f}",
            f"{each.jobs_done_s:.1f}",
            f"{each.vectors_filled_s:.1f}",
            "clean" if not each.findings else f"{len(each.findings)} findings",
        )
        for each in rounds
    ]
    return table_of(columns, rows)


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=5 * _BATCH_DOCUMENTS), default=1000, help="How many to send.")
@click.option("--rounds", type=click.IntRange(min=1, max=100), default=3, help="Crashes, each at another point.")
@click.option("--seed", default=SEED, help="Decides the points of the kills.")
@click.option("--json", "show_json", is_flag=True, help="Print the results as JSON instead of a table.")
@data_option
@command
async def main(documents: int, rounds: int, seed: int, show_json: bool, data_dir: Path) -> None:  # noqa: FBT001 - click's flag
    """Kill both services in the middle of their work, and look for what was acknowledged. The results are also written
    to benchmarks/results/recovery.json."""
    machine, other_work = this_machine(), OtherWork()
    texts, turns = read_documents(data_dir, documents), read_conversation(data_dir, 1).turns
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            done = [await run_round(number, texts, turns, seed, progress) for number in range(1, rounds + 1)]
    machine = msgspec.structs.replace(machine, other_work=other_work.share())
    results = Results(machine=machine, documents=documents, seed=seed, rounds=done)
    write_results("recovery", results)
    if show_json:
        click.echo(as_json(results))
    else:
        title = f"Recovery from SIGKILL of both services, {documents:,} documents under way"
        print_results(machine, {title: table_of_rounds(done)})
    for each in done:
        for problem in (*each.lost, *each.torn, *each.findings):
            err.print(f"round {each.number}: {problem}", markup=False)
    if not all(each.is_clean for each in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
