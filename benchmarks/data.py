"""Texts for the benchmarks: real English, read at run time from the evaluation data, never copied into the project."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from diptych import DocumentIn, TurnIn
from diptych.evaluation.datasets import read_retrieval
from shared.errors import SettingsError

SEED: Final = 20_240
_PASSAGE_WORDS: Final = 150
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
class Conversation:
    """The turns of one user, by session, in order."""

    user_id: str
    sessions: dict[str, list[TurnIn]]

    @property
    def turns(self) -> list[TurnIn]:
        return [turn for turns in self.sessions.values() for turn in turns]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSet:
    """`relevant` has, for each query, the grades of the documents that answer it."""

    document_ids: list[str]
    documents: list[str]
    queries: list[str]
    relevant: list[dict[str, int]]


def read_documents(data_dir: Path, count: int) -> list[DocumentIn]:
    """Abstracts of scientific papers, the same ones every time. Raises SettingsError where there are too few."""
    records = read_records(data_dir, "retrieval/scifact/corpus.jsonl")
    if count > len(records):
        raise SettingsError(f"{count} documents were asked for; the corpus has {len(records)}")
    chosen = random.Random(SEED).sample(records, count)  # noqa: S311 - a repeatable choice, no secret
    return [DocumentIn(id=record["_id"], title=record["title"], text=record["text"]) for record in chosen]


def read_passages(data_dir: Path) -> list[str]:
    """About 18,000 passages of real prose and code of some 150 words each, for the lexical index to have real words."""
    passages = []
    for name in ("scifact", "cranfield", "cosqa"):
        for record in read_records(data_dir, f"retrieval/{name}/corpus.jsonl"):
            words = record["text"].split()
            passages += [" ".join(words[at : at + _PASSAGE_WORDS]) for at in range(0, len(words), _PASSAGE_WORDS)]
    return passages


def read_judged(data_dir: Path, name: str, judgements: str) -> JudgedSet:
    """Documents as `title`, line break, text."""
    dataset = read_retrieval(data_dir / "retrieval" / name, judgements=judgements)
    return JudgedSet(
        document_ids=[document.id or "" for document in dataset.documents],
        documents=[f"{document.title or ''}\n{document.text}".strip() for document in dataset.documents],
        queries=list(dataset.queries.values()),
        relevant=[dataset.judgements[query] for query in dataset.queries],
    )


def unseen_queries(data_dir: Path) -> Iterator[str]:
    """Claims to search for, in a seeded order, never one twice: past the last one they go on with a number behind."""
    texts = [record["text"] for record in read_records(data_dir, "retrieval/scifact/queries.jsonl")]
    random.Random(SEED).shuffle(texts)  # noqa: S311 - as above
    yield from texts
    lap = 2
    while True:
        yield from (f"{text} {lap}" for text in texts)
        lap += 1


def read_conversation(data_dir: Path, turns_min: int) -> Conversation:
    """The first conversation that is long enough. Raises SettingsError where none is."""
    by_user: dict[str, dict[str, list[TurnIn]]] = {}
    speakers: dict[str, str] = {}
    for record in read_records(data_dir, "memory/locomo/turns.jsonl"):
        user_id, session_id = record["conv_id"], f"{record['conv_id']}/{record['session_id']}"
        first = speakers.setdefault(user_id, record["speaker"])
        turn = TurnIn(
            id=f"{user_id}/{record['turn_id']}",
            role="user" if record["speaker"] == first else "assistant",
            name=record["speaker"],
            content=record["text"],
        )
        by_user.setdefault(user_id, {}).setdefault(session_id, []).append(turn)
    for user_id, sessions in by_user.items():
        if sum(map(len, sessions.values())) >= turns_min:
            return Conversation(user_id, sessions)
    raise SettingsError(f"no conversation in memory/locomo/turns.jsonl has {turns_min} turns")


def read_records(data_dir: Path, name: str) -> list[dict[str, Any]]:
    """Raises SettingsError that says what is missing and where it may come from."""
    path = data_dir / name
    if not path.is_file():
        raise SettingsError(
            f"{path} is missing: it is evaluation data, which is not part of the project. "
            "Put it into ../shared/data beside the project, or name its folder in EVAL_DATA."
        )
    with path.open("rb") as lines:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
