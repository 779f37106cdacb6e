"""The committed results as pages and plots read them, and how numbers are written there."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from shared.errors import SettingsError

_ROOT: Final = Path(__file__).parent.parent


class Measured:
    """The committed results, each read when it is asked for."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._read: dict[str, Any] = {}

    def of(self, name: str) -> dict[str, Any]:
        """Of a benchmark. Raises SettingsError where it was never run."""
        return self._file(f"benchmarks/results/{name}.json")

    def has(self, name: str) -> bool:
        return (self._root / f"benchmarks/results/{name}.json").is_file()

    def evaluated(self, name: str) -> dict[str, Any]:
        """Of an eval. Raises SettingsError where it was never run."""
        return self._file(f"evals/results/{name}.json")

    def judged(self, name: str) -> dict[str, dict[str, Any]]:
        """Of an eval, by set."""
        return {each["name"]: each for each in self.evaluated(name)["sets"]}

    @cached_property
    def calls(self) -> dict[str, dict[str, Any]]:
        """Of the search benchmark, by operation; MessagePack."""
        return {each["operation"]: each for each in self.of("latency")["calls"] if each["encoding"] == "MessagePack"}

    def _file(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            path = self._root / name
            if not path.is_file():
                raise SettingsError(f"{name} is missing: a page says what it says; run that benchmark first")
            self._read[name] = msgspec.json.decode(path.read_bytes())
        found: dict[str, Any] = self._read[name]
        return found


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def share(value: float) -> str:
    """As `.743`."""
    return f"{value:.3f}".removeprefix("0")


def milliseconds(value: float) -> str:
    """Two figures that mean something: `1.5`, `12`, `150`."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"


def machine_phrase(machine: dict[str, Any]) -> str:
    """`2 cores of an AMD EPYC, Linux x86_64, Python 3.11.7, commit abc, 2026-11-23; other work took 3 % of the processors`."""
    other = machine.get("other_work")
    others = "" if other is None else f"; other work took {other:.0%} of the processors".replace("%", " %")
    return (
        f"{machine['cores']} cores of an {machine['cpu']}, {machine['system']}, Python {machine['python']}, "
        f"commit {machine['commit']}, {machine['date'][:10]}{others}"
    )


def best_marked(values: Sequence[float | None], shown: Callable[[float], str], *, is_least_best: bool) -> list[str]:
    """The best of a column in bold, whoever has it; with others that look the same."""
    known = [value for value in values if value is not None]
    if not known:
        return ["" for _ in values]
    best = shown(min(known) if is_least_best else max(known))
    cells = ["" if value is None else shown(value) for value in values]
    return [f"**{cell}**" if cell == best else cell for cell in cells]
