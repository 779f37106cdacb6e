"""How results are kept and shown: percentiles, the machine they were taken on, tables, and a file of results.

A results file names the machine by what decides its speed, and holds no path, host or user name.
"""

import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from diptych.evaluation import machine as host

_ROOT: Final = Path(__file__).parent.parent
_LIBRARIES: Final = (
    "aiohttp",
    "msgspec",
    "msgpack",
    "faiss-cpu",
    "tantivy",
    "sentence-transformers",
    "torch",
    "onnxruntime",
    "openvino",
    "numpy",
)
# What is measured; changes elsewhere do not change a number.
_PRODUCT: Final = ("diptych", "memory", "retrieval", "shared", "constraints.txt")
_PROCESSORS: Final = Path("/proc/stat")
# A table that is piped into a file has no terminal to fit.
_WIDTH_PIPED: Final = 120

err: Final = Console(stderr=True, highlight=False)


class Machine(host.Machine, frozen=True, kw_only=True):
    """`commit` ends with `+changes` when the product's files differ from it. `other_work` is the share of the processors'
    time that went to anybody else while the numbers were taken: much above 0, they say more about that than about us."""

    libraries: dict[str, str]
    commit: str
    date: datetime
    other_work: float | None = None


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of `count` samples, by nearest rank: each is a time that was really measured."""

    count: int
    p50: float
    p90: float
    p95: float
    p99: float


class OtherWork:
    """Watches what the processors do beside this process and its children; made before measuring."""

    def __init__(self) -> None:
        self._started = _processors_s()

    def share(self) -> float | None:
        """Since it was made. Children count as ours once they have ended. None where the system does not tell."""
        ended = _processors_s()
        if self._started is None or ended is None:
            return None
        ours, busy, total = (after - before for before, after in zip(self._started, ended, strict=True))
        return round(max(0.0, busy - ours) / total, 3) if total > 0 else None


def percentiles(values: Sequence[float]) -> Percentiles:
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)

    return Percentiles(count=len(ordered), p50=at(0.5), p90=at(0.9), p95=at(0.95), p99=at(0.99))


def this_machine(other_work: OtherWork | None = None) -> Machine:
    """As it is now: whoever measures asks when all is done, and gives what watched meanwhile."""
    return Machine(
        **msgspec.structs.asdict(host.this_machine()),
        libraries={name: version(name) for name in _LIBRARIES},
        commit=current_commit(),
        date=datetime.now(UTC).replace(microsecond=0),
        other_work=other_work.share() if other_work else None,
    )


def progress_bar() -> Progress:
    """On standard error, so that standard output is the result alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err)


def as_json(results: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(results), indent=2)


def print_results(machine: Machine, tables: Mapping[str, Table]) -> None:
    """Tables by title."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=_WIDTH_PIPED)
    libraries = ", ".join(f"{name} {number}" for name, number in machine.libraries.items())
    out.print(f"{machine.cpu}, {machine.cores} cores, {machine.system}, Python {machine.python}")
    out.print(libraries)
    other = "unknown" if machine.other_work is None else f"{machine.other_work:.0%} of the processors' time"
    out.print(f"commit {machine.commit}, {machine.date:%Y-%m-%d}; other work meanwhile: {other}")
    for title, table in tables.items():
        out.print(f"\n[bold]{escape(title)}[/]")
        out.print(table)


def table_of(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1, wraps: int | None = None
) -> Table:
    """The first `texts` columns are text; the rest are numbers, and stand right. Column `wraps` may take several lines."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < texts else "right", no_wrap=index != wraps)
    for row in rows:
        table.add_row(*row)
    return table


def _processors_s() -> tuple[float, float, float] | None:
    """Seconds of all processors since the start of the system: ours, busy, and all. Linux only."""
    if not _PROCESSORS.is_file():
        return None
    fields = _PROCESSORS.read_text(encoding="ascii").partition("\n")[0].split()[1:9]
    user, nice, system, idle, waiting, interrupts, soft_interrupts, stolen = (
        int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields
    )
    busy = user + nice + system + interrupts + soft_interrupts + stolen
    return sum(os.times()[:4]), busy, busy + idle + waiting


def current_commit() -> str:
    """Short, with `+changes` as `Machine` has it; or `unknown`."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    head = _output(git, "rev-parse", "--short", "HEAD")
    return f"{head}+changes" if head != "unknown" and _output(git, "status", "--porcelain", "--", *_PRODUCT) else head


def _output(git: str, *arguments: str) -> str:
    done = subprocess.run([git, "-C", str(_ROOT), *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
