"""Golden sets in BEIR's layout, read at run time and never copied into the project."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.data import read_judgements, read_records
from diptych import DocumentIn


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
    folder = f"retrieval/{source.name}"
    records = read_records(data_dir, f"{folder}/corpus.jsonl")
    judgements = read_judgements(data_dir, f"{folder}/{source.judgements}")
    if source.only_even:
        judgements = {query: grades for query, grades in judgements.items() if int(query) % 2 == 0}
    return GoldenSet(
        name=source.name,
        documents=[
            DocumentIn(id=record["_id"], title=record.get("title") or None, text=record["text"])
            for record in records
            if record["text"].strip()
        ],
        queries={
            record["_id"]: record["text"]
            for record in read_records(data_dir, f"{folder}/queries.jsonl")
            if record["_id"] in judgements
        },
        judgements=judgements,
    )
