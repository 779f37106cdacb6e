"""Benchmarks run one after the other, each in a process of its own that is ended when it takes too long.

What each took is kept in `runs.json` beside the results, so that the next run can say how long it will take.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec
from rich.markup import escape
from rich.table import Table

from benchmarks.output import RESULTS_DIR
from benchmarks.registry import Suite
from benchmarks.report import current_commit, err, table_of

# Not in version control: they are for whoever ran them.
QUICK_DIR: Final = RESULTS_DIR / "quick"
_ROOT: Final = RESULTS_DIR.parent.parent
_RUNS: Final = "runs.json"
# For a benchmark to stop its services and remove its folder.
_STOP_TIMEOUT_S: Final = 60.0

Ended = Literal["done", "failed", "stopped: it took too long"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """`failed` also when a benchmark found a fault, and says so by its exit code."""

    name: str
    ended: Ended
    seconds: float
    commit: str
    date: datetime


def results_dir(*, is_quick: bool) -> Path:
    return QUICK_DIR if is_quick else RESULTS_DIR


def read_runs(folder: Path) -> dict[str, Run]:
    """The last run of each suite, by name."""
    path = folder / _RUNS
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Run]) if path.is_file() else {}


async def run_suites(suites: Sequence[Suite], *, is_quick: bool) -> list[Run]:
    """Goes on after one that failed."""
    folder, runs = results_dir(is_quick=is_quick), list[Run]()
    for number, suite in enumerate(suites, start=1):
        minutes = suite.quick_minutes if is_quick else suite.minutes
        err.rule(f"[bold]{suite.name}[/] ({number} of {len(suites)}), about {minutes:g} min", align="left")
        err.print(escape(suite.measures))
        run = await _run(suite, folder, is_quick=is_quick)
        err.print(f"{run.name}: {run.ended}, {run.seconds:.0f} s\n")
        runs.append(run)
        keep_run(folder, run)
    return runs


def table_of_runs(runs: Sequence[Run]) -> Table:
    total_s = sum(run.seconds for run in runs)
    rows = [(run.name, run.ended, f"{run.seconds:.0f}") for run in runs]
    return table_of(("benchmark", "ended", "seconds"), [*rows, ("all", "", f"{total_s:.0f}")], texts=2)


async def _run(suite: Suite, folder: Path, *, is_quick: bool) -> Run:
    arguments = ("-m", f"benchmarks.{suite.module}", "--results", str(folder), *suite.arguments(is_quick=is_quick))
    started = time.perf_counter()
    ended = await run_limited(arguments, suite.limit_s(is_quick=is_quick))
    return Run(
        name=suite.name,
        ended=ended,
        seconds=round(time.perf_counter() - started, 1),
        commit=current_commit(),
        date=datetime.now(UTC).replace(microsecond=0),
    )


async def run_limited(arguments: Sequence[str], limit_s: float, *, stop_s: float = _STOP_TIMEOUT_S) -> Ended:
    """Python with `arguments`, and whatever it starts, which is ended with it at the latest."""
    # A group of its own, so that all of it can be ended: the services of a benchmark are its children.
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=_ROOT, start_new_session=True)
    try:
        async with asyncio.timeout(limit_s):
            return "done" if await process.wait() == 0 else "failed"
    except TimeoutError:
        return "stopped: it took too long"
    finally:
        await _end(process, stop_s)


async def _end(process: asyncio.subprocess.Process, stop_s: float) -> None:
    """First as Ctrl-C does, so that it stops what it started; then whatever is left of its group."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(stop_s):
                await process.wait()
        except TimeoutError:
            err.print("it did not stop, and is killed")
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await process.wait()


def keep_run(folder: Path, run: Run) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    runs = read_runs(folder) | {run.name: run}
    (folder / _RUNS).write_bytes(msgspec.json.format(msgspec.json.encode(runs), indent=2) + b"\n")
