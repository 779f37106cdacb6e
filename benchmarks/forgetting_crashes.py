"""Whether a crash brings back what was forgotten: `python -m benchmarks.forgetting_crashes --rounds 50`. Exits with 1 when
anything acknowledged is lost, anything acknowledged as forgotten is back, or `check` finds a fault.

Each round is a life of a real memory service on the same folder, without retrieval, so that lives are short. It looks for
what all lives before were told, and then three clients append, compact and forget at once, until SIGKILL at a random
moment. A call that was under way at the kill may have been carried out or not, but only as a whole.

What was forgotten is looked for as turns, in spans, and as bytes in every file of the service. Of an erase that the kill
kept from its answer the bytes may be there after the kill; a start removes them, and that is waited for.
"""

import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.table import Table

from benchmarks.data import SEED, data_option, read_conversation
from benchmarks.output import Output, output_options
from benchmarks.pair import limited
from benchmarks.report import (
    Machine,
    OtherWork,
    err,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import MemoryClient, Policy, SessionSpec, TurnIn
from diptych.console import command
from diptych.ports import free_ports
from shared.errors import NotFound, Unavailable

_USER: Final = "ada"
_SESSIONS: Final = ("monday", "tuesday", "wednesday")
_BATCH_TURNS: Final = 4
_FORGET_TURNS: Final = 6
# Small, so that each life folds and rolls up.
_POLICY: Final = Policy(tail_tokens_max=2000, tail_tokens_keep=800)
_SPAN_SOURCE_TOKENS: Final = "600"
_KILL_S: Final = (0.1, 1.5)
_MARK: Final = re.compile(rb"turnmark\d{6}")
_POLL_S: Final = 0.1
_READY_TIMEOUT_S: Final = 60.0
_CALL_TIMEOUT_S: Final = 60.0
_BYTES_TIMEOUT_S: Final = 30.0
_RUN_TIMEOUT_S: Final = 3600.0

# A turn by its session and its id, which is its mark.
Name = tuple[str, str]


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One life. `lost`, `back`, `torn` (taken in part) and `findings` must be empty. `half_done` counts turns whose erase had
    no answer and was carried out all the same."""

    number: int
    killed_s: float
    ready_s: float
    turns: int
    appended: int
    folded: int
    forgotten: int
    half_done: int
    lost: list[str]
    back: list[str]
    torn: list[str]
    findings: list[str]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.back or self.torn or self.findings)


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    seed: int
    seconds: float
    rounds: list[Round]


@dataclass(slots=True)
class Told:
    """What the service acknowledged, and what was under way at the kill."""

    texts: dict[Name, str] = field(default_factory=dict)
    forgotten: set[Name] = field(default_factory=set)
    appending: dict[Name, str] = field(default_factory=dict)
    forgetting: dict[Name, str] = field(default_factory=dict)
    sent: int = 0
    appended: int = 0
    folded: int = 0
    erased: int = 0


@dataclass(frozen=True, slots=True)
class Looked:
    lost: list[str]
    back: list[str]
    torn: list[str]
    findings: list[str]
    half_done: int


@dataclass(frozen=True, slots=True)
class Story:
    """All lives of one folder."""

    scratch: Path
    texts: Sequence[TurnIn]
    chance: random.Random
    told: Told = field(default_factory=Told)

    async def life(self, number: int, *, is_last: bool) -> Round:
        started = time.perf_counter()
        async with _service(self.scratch) as (client, process):
            ready_s = time.perf_counter() - started
            looked = await self._look(client)
            self.told.appended = self.told.folded = self.told.erased = 0
            turns = len(self.told.texts)
            delay_s = self.chance.uniform(*_KILL_S)
            if not is_last:
                await self._work_and_kill(client, process, delay_s)
        return Round(
            number=number,
            killed_s=0.0 if is_last else round(delay_s, 2),
            ready_s=round(ready_s, 2),
            turns=turns,
            appended=self.told.appended,
            folded=self.told.folded,
            forgotten=self.told.erased,
            half_done=looked.half_done,
            lost=looked.lost,
            back=looked.back,
            torn=looked.torn,
            findings=looked.findings,
        )

    async def _work_and_kill(self, client: MemoryClient, process: asyncio.subprocess.Process, delay_s: float) -> None:
        for session in _SESSIONS:
            await client.put_session(session, SessionSpec(user_id=_USER, policy=_POLICY))
        async with asyncio.TaskGroup() as workers:
            for work in (self._append, self._compact, self._forget):
                workers.create_task(_until_dead(work, client))
            await asyncio.sleep(delay_s)
            process.kill()
            await process.wait()

    async def _append(self, client: MemoryClient) -> None:
        told = self.told
        session = self.chance.choice(_SESSIONS)
        numbers = range(told.sent, told.sent + _BATCH_TURNS)
        told.sent += _BATCH_TURNS
        batch = [_marked(self.texts[number % len(self.texts)], number) for number in numbers]
        told.appending = {(session, turn.id or ""): turn.content for turn in batch}
        await client.append(session, batch, user_id=_USER)
        told.texts |= told.appending
        told.appending = {}
        told.appended += len(batch)

    async def _compact(self, client: MemoryClient) -> None:
        with suppress(NotFound):
            answer = await client.compact(self.chance.choice(_SESSIONS), tail_tokens_keep=self.chance.randrange(1000))
            self.told.folded += answer.turns_folded
        await asyncio.sleep(0)

    async def _forget(self, client: MemoryClient) -> None:
        told = self.told
        session = self.chance.choice(_SESSIONS)
        known = [name for name in told.texts if name[0] == session]
        chosen = self.chance.sample(known, min(_FORGET_TURNS, len(known) // 3))
        if not chosen:
            await asyncio.sleep(_POLL_S)
            return
        told.forgetting = {name: told.texts.pop(name) for name in chosen}
        await client.forget(session_id=session, ids=[mark for _, mark in chosen], dry_run=False)
        told.forgotten.update(told.forgetting)
        told.forgetting = {}
        told.erased += len(chosen)

    async def _look(self, client: MemoryClient) -> Looked:
        """Also takes over what the calls under way came to."""
        told = self.told
        stored = await _stored(client)
        appended = {name for name in told.appending if name in stored}
        gone = {name for name in told.forgetting if name not in stored}
        torn = [
            what
            for what, part, whole in (
                ("the last batch of turns", appended, told.appending),
                ("the last erase", gone, told.forgetting),
            )
            if part and len(part) < len(whole)
        ]
        told.texts |= {name: told.appending[name] for name in appended}
        told.texts |= {name: text for name, text in told.forgetting.items() if name not in gone}
        told.forgotten |= gone
        told.appending, told.forgetting = {}, {}
        lost = [
            f"turn {session}/{mark}"
            for (session, mark), text in told.texts.items()
            if stored.get((session, mark)) != text
        ]
        back = [f"turn {session}/{mark}" for session, mark in told.forgotten if (session, mark) in stored]
        back += await self._still_said(client) + await self._still_in_files()
        checked = await client.check()
        findings = [f"{finding.where}: {finding.problem}" for finding in checked.findings]
        return Looked(lost, back, torn, findings, len(gone))

    async def _still_said(self, client: MemoryClient) -> list[str]:
        marks = {mark for _, mark in self.told.forgotten}
        found = []
        for session in _SESSIONS:
            with suppress(NotFound):
                found += (await client.spans(session, limit=1000)).items
        return [f"{mark} in span {span.id}" for span in found for mark in marks & _marks_of(msgspec.json.encode(span))]

    async def _still_in_files(self) -> list[str]:
        marks = {mark for _, mark in self.told.forgotten}
        ends = time.monotonic() + _BYTES_TIMEOUT_S
        while left := marks & await asyncio.to_thread(_marks_in, self.scratch / "memory"):
            if time.monotonic() > ends:
                return [f"{mark} in the files" for mark in sorted(left)]
            await asyncio.sleep(_POLL_S)
        return []


async def _until_dead(work: Callable[[MemoryClient], Awaitable[None]], client: MemoryClient) -> None:
    with suppress(Unavailable):
        while True:
            await work(client)


@asynccontextmanager
async def _service(scratch: Path) -> AsyncIterator[tuple[MemoryClient, asyncio.subprocess.Process]]:
    """A ready memory service in a process of its own; leaving kills it, if nobody did."""
    (port,) = free_ports(1)
    flags = {
        "data-dir": str(scratch),
        "keys-path": str(scratch / "keys.db"),
        "log-level": "error",
        # Nothing listens there.
        "retrieval-url": "http://127.0.0.1:9",
        "port": str(port),
        "span-source-tokens-max": _SPAN_SOURCE_TOKENS,
    }
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "memory", *arguments)
    try:
        async with MemoryClient(f"http://127.0.0.1:{port}", timeout_s=_CALL_TIMEOUT_S, retries=False) as client:
            await _ready(client)
            yield client, process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _ready(client: MemoryClient) -> None:
    async with limited(_READY_TIMEOUT_S, "the service to be ready"):
        while True:
            try:
                await client.ready()
            except Unavailable:
                await asyncio.sleep(_POLL_S)
            else:
                return


async def _stored(client: MemoryClient) -> dict[Name, str]:
    found: dict[Name, str] = {}
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


def _marked(turn: TurnIn, number: int) -> TurnIn:
    mark = f"turnmark{number:06d}"
    return TurnIn(id=mark, role=turn.role, name=turn.name, content=f"{mark} {turn.content}")


def _marks_of(raw: bytes) -> set[str]:
    return {mark.decode() for mark in _MARK.findall(raw)}


def _marks_in(folder: Path) -> set[str]:
    return {mark for path in folder.rglob("*") if path.is_file() for mark in _marks_of(path.read_bytes())}


def table_of_rounds(rounds: Sequence[Round]) -> Table:
    columns = (
        "round",
        "killed\nafter s",
        "seconds\nto ready",
        "turns\nstored",
        "turns\nappended",
        "turns\nfolded",
        "turns\nforgotten",
        "forgotten with-\nout an answer",
        "lost",
        "back",
        "torn",
        "check",
    )
    rows = [
        (
            str(each.number),
            f"{each.killed_s:.2f}",
            f"{each.ready_s:.1f}",
            str(each.turns),
            str(each.appended),
            str(each.folded),
            str(each.forgotten),
            str(each.half_done),
            str(len(each.lost)),
            str(len(each.back)),
            str(len(each.torn)),
            "clean" if not each.findings else f"{len(each.findings)} findings",
        )
        for each in rounds
    ]
    return table_of(columns, rows, texts=0)


@click.command(context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(min=1, max=1000), default=50, help="Crashes, each at another point.")
@click.option("--seed", default=SEED, help="Decides the points of the kills.")
@output_options
@data_option
@command
async def main(rounds: int, seed: int, output: Output, data_dir: Path) -> None:
    """Kill a memory service while it appends, compacts and forgets, and look for what it acknowledged. The results are also
    written to benchmarks/results/forgetting_crashes.json."""
    other_work, started = OtherWork(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="diptych-crashes-") as scratch, progress_bar() as progress:
        chance = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
        story = Story(Path(scratch), read_conversation(data_dir, 1).turns, chance)
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            done = [
                await story.life(number, is_last=number > rounds)
                for number in progress.track(range(1, rounds + 2), description="lives")
            ]
    results = Results(
        machine=this_machine(other_work),
        seed=seed,
        seconds=round(time.perf_counter() - started, 1),
        rounds=done,
    )
    title = f"SIGKILL during append, compact and forget, {rounds} times, {results.seconds:.0f} s in all"
    output.publish("forgetting_crashes", results, {title: table_of_rounds(done)})
    for each in done:
        for problem in (*each.lost, *each.back, *each.torn, *each.findings):
            err.print(f"round {each.number}: {problem}", markup=False)
    if not all(each.is_clean for each in done):
        sys.exit(1)


if __name__ == "__main__":
    main()
