"""Dialogues with summaries that people wrote: a file of lines {dialogue, summary}, the dialogue as `speaker: words` lines."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from diptych.evaluation.lines import fingerprint, read_lines, sample
from shared.errors import SettingsError

_OTHERS: Final = frozenset({"turns.jsonl", "questions.jsonl", "corpus.jsonl", "queries.jsonl"})


class _Line(msgspec.Struct, frozen=True):
    dialogue: str
    summary: str
    id: str | None = None
    fname: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """`turns` are speaker and words. `reference` is what a person made of them."""

    id: str
    turns: list[tuple[str, str]]
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueDataset:
    name: str
    dialogues: list[Dialogue]

    @property
    def sha256(self) -> str:
        return fingerprint([(each.id, each.turns, each.reference) for each in self.dialogues])

    @property
    def counts(self) -> dict[str, int]:
        return {"dialogues": len(self.dialogues), "turns": sum(len(each.turns) for each in self.dialogues)}


def read_dialogues(path: Path) -> DialogueDataset:
    """Of a file, or of the only one of a folder. Raises SettingsError that says which file or line is wrong."""
    file = _only_file(path) if path.is_dir() else path
    dialogues: dict[str, Dialogue] = {}
    for number, line in enumerate(read_lines(file, _Line), start=1):
        name = line.id or line.fname or str(number)
        if name in dialogues:
            raise SettingsError(f"{file} has two dialogues {name}")
        said = [_turn(text) for text in line.dialogue.splitlines() if text.strip()]
        if said and line.summary.strip():
            dialogues[name] = Dialogue(name, said, line.summary)
    if not dialogues:
        raise SettingsError(f"{file} has no dialogue with a summary")
    return DialogueDataset(name=file.name.removesuffix(".jsonl"), dialogues=list(dialogues.values()))


def sliced_dialogues(dataset: DialogueDataset, *, dialogues_max: int | None, seed: int = 0) -> DialogueDataset:
    """Dialogues by lot."""
    chosen = sample((each.id for each in dataset.dialogues), dialogues_max, seed)
    return dataclasses.replace(dataset, dialogues=[each for each in dataset.dialogues if each.id in chosen])


def _turn(text: str) -> tuple[str, str]:
    """A line without a speaker is nobody's."""
    speaker, colon, words = text.partition(":")
    return (speaker.strip(), words.strip()) if colon and words.strip() else ("", text.strip())


def _only_file(folder: Path) -> Path:
    found = sorted(path for path in folder.glob("*.jsonl") if path.name not in _OTHERS)
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise SettingsError(
            f"{folder} has neither turns.jsonl and questions.jsonl nor one file of dialogues with summaries ({names})"
        )
    return found[0]
