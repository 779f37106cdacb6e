"""Where a benchmark's results go: the options that every program has, and what is done with its results in the end."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import click
import msgspec
from rich.table import Table

from benchmarks.report import Machine, as_json, err, print_results

RESULTS_DIR: Final = Path(__file__).parent / "results"


class Results(Protocol):
    """A message that says on what machine it was measured."""

    @property
    def machine(self) -> Machine: ...


@dataclass(frozen=True, slots=True)
class Output:
    folder: Path
    is_json: bool

    def publish(self, name: str, results: Results, tables: Mapping[str, Table]) -> None:
        """Writes `results` to the file `name`, and prints them: as JSON, or as tables by title."""
        if not isinstance(results, msgspec.Struct):
            raise TypeError(f"{type(results).__name__} is no message")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.json").write_bytes(as_json(results) + b"\n")
        if self.is_json:
            click.echo(as_json(results))
        else:
            print_results(results.machine, tables)
        err.print(f"written to {_short(self.folder)}/{name}.json")


def output_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--json` and `--results`, which the command gets as `output`."""

    @click.option("--json", "show_json", is_flag=True, help="Print the results as JSON instead of tables.")
    @click.option(
        "--results",
        "results_dir",
        type=click.Path(path_type=Path, file_okay=False),
        default=RESULTS_DIR,
        show_default="benchmarks/results",
        help="The folder that the results are written to.",
    )
    @functools.wraps(function)
    def with_output(*arguments: Any, show_json: bool, results_dir: Path, **options: Any) -> Any:
        return function(*arguments, output=Output(results_dir.absolute(), show_json), **options)

    return with_output


def _short(folder: Path) -> Path:
    """As it is called from the project's root, if it lies in there."""
    root = RESULTS_DIR.parent.parent
    return folder.relative_to(root) if folder.is_relative_to(root) else folder
