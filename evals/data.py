"""Golden sets in BEIR's layout, read at run time and never copied into the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from diptych import DocumentIn
from shared.errors import SettingsError

_DEFAULT: Final = Path(__file__).parent.parent.parent / "shared" / "data"

data_option = click.option(
    "--eval-data",
    "data_dir",
    envvar="EVAL_DATA",
    default=_DEFAULT,
    show_default="../shared/data",
    type=click.Path(path_type=Path, file_okay=False),
    show_envvar=True,
    help="The folder of evaluation data.",
)


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """`queries` are those that have judgements; nothing else is asked."""

    name: str
    documents: list[DocumentIn]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Source:
    """What of a set is reported. The rest was for tuning: scifact's train queries and cranfield's odd ones."""

    name: str
    judgements: str
    only_even: bool = False


SOURCES: Final = (
    Source("scifact", "qrels.tsv"),
    Source("cranfield", "qrels.tsv", only_even=True),
    Source("cosqa", "qrels.dev.tsv"),
)


def read_set(data_dir: Path, source: Source) -> GoldenSet:
    """Raises SettingsError where the set is missing."""
    folder = data_dir / "retrieval" / source.name
    if not folder.is_dir():
        raise SettingsError(f"there is no {folder}; name the folder of evaluation data with --eval-data or EVAL_DATA")
    judgements = _read_judgements(folder / source.judgements)
    if source.only_even:
        judgements = {query: grades for query, grades in judgements.items() if int(query) % 2 == 0}
    return GoldenSet(
        name=source.name,
        documents=[
            DocumentIn(id=record["_id"], title=record.get("title") or None, text=record["text"])
            for record in _read_lines(folder / "corpus.jsonl")
            if record["text"].strip()
        ],
        queries={
            record["_id"]: record["text"]
            for record in _read_lines(folder / "queries.jsonl")
            if record["_id"] in judgements
        },
        judgements=judgements,
    )


def _read_lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def _read_judgements(path: Path) -> dict[str, dict[str, int]]:
    judgements: dict[str, dict[str, int]] = {}
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        if int(grade) > 0:
            judgements.setdefault(query, {})[document] = int(grade)
    return judgements
