"""What it takes to be forgotten: `python -m benchmarks.forgetting`. Exits with 1 when anything is left, or lost beside it.

A user has 10,000 turns, with vectors and spans, and stands beside another with some. The first is erased by one call while
the other goes on appending; afterwards every file of the service's folder is read for the mark of each turn, a word that
occurs in nothing else. Then single turns of the other user are erased, in no order, and looked for in the same way.
"""

import asyncio
import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import SEED, data_option, read_conversation
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair, until_vectors_filled
from benchmarks.report import (
    Machine,
    OtherWork,
    err,
    progress_bar,
    table_of,
    this_machine,
)
from diptych import MemoryClient, TurnIn
from diptych.console import command
from shared.memory_messages import EraseReport

_FORGOTTEN: Final = "ada"
_KEPT: Final = "grace"
_SESSION_TURNS: Final = 500
_BATCH_TURNS: Final = 250
_SINGLES: Final = 100
_APPEND_PAUSE_S: Final = 0.02
_MARK: Final = re.compile(rb"turnmark\d{6}")
_CALL_TIMEOUT_S: Final = 600.0
_RUN_TIMEOUT_S: Final = 3600.0


class Erase(msgspec.Struct, frozen=True, kw_only=True):
    """`marks_before` and `marks_after` count the erased turns whose mark is in a file. `append_ms_max` is the longest that an
    append of somebody else took meanwhile."""

    what: str
    report: EraseReport
    dry_run_s: float
    seconds: float
    append_ms_max: float
    file_mib: float
    marks_before: int
    marks_after: int
    kept_lost: int

    @property
    def is_clean(self) -> bool:
        return self.report.verified and not self.marks_after and not self.kept_lost and self.marks_before > 0


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    turns: int
    turns_beside: int
    erases: list[Erase]
    findings: list[str]


async def _fill(client: MemoryClient, user: str, turns: Sequence[TurnIn], progress: Progress) -> None:
    for start in progress.track(range(0, len(turns), _SESSION_TURNS), description=f"turns of {user}"):
        session = _session(user, start)
        for at in range(start, min(start + _SESSION_TURNS, len(turns)), _BATCH_TURNS):
            await client.append(session, turns[at : min(at + _BATCH_TURNS, start + _SESSION_TURNS)], user_id=user)
        await client.compact(session)


def _session(user: str, at: int) -> str:
    return f"{user}-{at // _SESSION_TURNS:03d}"


def _marked(turns: Sequence[TurnIn], count: int, first: int) -> list[TurnIn]:
    marks = (f"turnmark{first + number:06d}" for number in range(count))
    return [
        TurnIn(id=mark, role=turn.role, name=turn.name, content=f"{mark} {turn.content}")
        for mark, turn in zip(marks, (turns[number % len(turns)] for number in range(count)), strict=True)
    ]


def _marks_in(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {mark.decode() for path in files for mark in _MARK.findall(path.read_bytes())}


async def _erase(
    client: MemoryClient, pair: Pair, folder: Path, what: str, gone: set[str], kept: set[str], **scope: str | list[str]
) -> Erase:
    before = len(gone & await asyncio.to_thread(_marks_in, folder))
    started = time.perf_counter()
    await client.forget(**scope)  # type: ignore[arg-type]  # a name and its value
    dry_run_s = time.perf_counter() - started
    done = asyncio.Event()
    beside = asyncio.create_task(_append_beside(pair, done))
    started = time.perf_counter()
    report = await client.forget(**scope, dry_run=False)  # type: ignore[arg-type]  # as above
    seconds = time.perf_counter() - started
    done.set()
    found = await asyncio.to_thread(_marks_in, folder)
    return Erase(
        what=what,
        report=report,
        dry_run_s=round(dry_run_s, 3),
        seconds=round(seconds, 3),
        append_ms_max=round(await beside, 1),
        file_mib=round((folder / "memory.db").stat().st_size / 2**20, 1),
        marks_before=before,
        marks_after=len(gone & found),
        kept_lost=len(kept - found),
    )


async def _append_beside(pair: Pair, done: asyncio.Event) -> float:
    """Appends of somebody else until it is done; the longest, in milliseconds."""
    longest = 0.0
    async with MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as client:
        while not done.is_set():
            started = time.perf_counter()
            await client.append("beside", [TurnIn(role="user", content="meanwhile")], user_id="linus")
            longest = max(longest, 1000.0 * (time.perf_counter() - started))
            await asyncio.sleep(_APPEND_PAUSE_S)
    return longest


def table_of_erases(erases: Sequence[Erase]) -> Table:
    columns = (
        "erased",
        "turns",
        "vectors",
        "spans\nremade",
        "dry run\ns",
        "erase\ns",
        "append\nms max",
        "file\nMiB",
        "marks\nbefore",
        "marks\nafter",
        "verified",
    )
    rows = [
        (
            each.what,
            str(each.report.turns),
            str(each.report.vectors),
            str(each.report.spans_remade),
            f"{each.dry_run_s:.2f}",
            f"{each.seconds:.2f}",
            f"{each.append_ms_max:.0f}",
            f"{each.file_mib:.0f}",
            str(each.marks_before),
            str(each.marks_after),
            "yes" if each.report.verified else "no",
        )
        for each in erases
    ]
    return table_of(columns, rows)


async def measure(data_dir: Path, turns: int, beside: int, progress: Progress) -> Results:
    other_work = OtherWork()
    texts = read_conversation(data_dir, 1).turns
    mine, others = _marked(texts, turns, 0), _marked(texts, beside, turns)
    marks = [turn.id or "" for turn in others]
    chance = random.Random(SEED)  # noqa: S311 - a repeatable choice, no secret
    with tempfile.TemporaryDirectory(prefix="diptych-forgetting-") as scratch:
        folder = Path(scratch) / "memory"
        async with (
            running_pair(Path(scratch)) as pair,
            MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as client,
        ):
            await _fill(client, _FORGOTTEN, mine, progress)
            await _fill(client, _KEPT, others, progress)
            await until_vectors_filled(pair.memory_url, _RUN_TIMEOUT_S)
            for user in (_FORGOTTEN, _KEPT):
                await client.recall("what was said", user_id=user)
            gone = {turn.id or "" for turn in mine}
            erases = [await _erase(client, pair, folder, "a user", gone, set(marks), user_id=_FORGOTTEN)]
            session = marks[:_SESSION_TURNS]
            singles = chance.sample(session, min(_SINGLES, len(session) // 2))
            erases.append(
                await _erase(
                    client,
                    pair,
                    folder,
                    "single turns",
                    set(singles),
                    set(marks) - set(singles),
                    session_id=_session(_KEPT, 0),
                    ids=singles,
                )
            )
            checked = await client.check()
    return Results(
        machine=this_machine(other_work),
        turns=turns,
        turns_beside=beside,
        erases=erases,
        findings=[f"{finding.where}: {finding.problem}" for finding in checked.findings],
    )


@click.command(context_settings={"show_default": True})
@click.option("--turns", type=click.IntRange(min=500, max=900_000), default=10_000, help="Turns of the forgotten user.")
@click.option("--beside", type=click.IntRange(min=500, max=90_000), default=3000, help="Turns of the other user.")
@output_options
@data_option
@command
async def main(turns: int, beside: int, output: Output, data_dir: Path) -> None:
    """Erase a user and single turns, and look for their words in the files. The results are also written to
    benchmarks/results/forgetting.json."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, turns, beside, progress)
    title = f"Forgetting {turns:,} turns of one user, beside {beside:,} of another"
    output.publish("forgetting", results, {title: table_of_erases(results.erases)})
    for finding in results.findings:
        err.print(f"check: {finding}", markup=False)
    if results.findings or not all(each.is_clean for each in results.erases):
        sys.exit(1)


if __name__ == "__main__":
    main()
