"""How good summaries are: ROUGE against references, and what questions need of what was said.

    python -m evals.summaries

Dialogues: ROUGE-1, -2 and -L against the reference, at equal budgets of tokens. Only every second dialogue is reported; the
others were for tuning. Conversations: each session is said in a fifth of its tokens, and counted is what survives of the
words of gold answers that stand in the turns they rest on, of the names and numbers among them, and of those turns.
Differences are paired, with 95 % of a bootstrap. LexRank and TextRank are shown where sumy is installed, which wants
an environment of its own (evals/requirements-peers.txt).
"""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from benchmarks.data import data_option, read_records
from benchmarks.report import Machine, as_json, err, print_results, table_of, this_machine
from diptych.evaluation.dialogues import read_dialogues as read_golden
from diptych.evaluation.kept import rouge_scores
from diptych.evaluation.statistics import Interval as Mean
from diptych.evaluation.statistics import paired
from evals.summarizers import Summarizer, summarizers
from memory.text.common_words import FILLER_WORDS, FUNCTION_WORDS
from memory.text.words import Words
from memory.truth.records import Line
from shared.memory_messages import Role
from shared.tokens import estimate_tokens

_RESULTS: Final = Path(__file__).parent / "results" / "summaries.json"
_SHARES: Final = (0.2, 0.35)
_SPAN_SHARE: Final = 0.2
# As much as is folded at once by default.
_FOLDED_TOKENS: Final = 4000
# As they are called in the results, and by the package.
_ROUGES: Final = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
_CONVERSATIONS: Final = ("locomo", "beam-100k")
# The wire's moment does not matter to any of the ways.
_MOMENT: Final = datetime(2024, 1, 1, tzinfo=UTC)
_NAME: Final = re.compile(r"\b[A-Z][\w'-]+|\d[\d.,]*")

Interval = tuple[float, float, float]


class Rouge(msgspec.Struct, frozen=True, kw_only=True):
    """F1 by kind; `against` is what `extractive` is better by in ROUGE-1 and ROUGE-2: mean, low, high."""

    way: str
    share: float
    scores: dict[str, float]
    recall_1: float
    against: dict[str, Interval]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Means over questions. `against` is what `extractive` is better by in `answers`: mean, low, high."""

    dataset: str
    way: str
    answers: float
    keys: float
    turns: float
    against: Interval
    ms_mean: float


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    dialogues: int
    questions: dict[str, int]
    rouge: list[Rouge]
    evidence: list[Evidence]


@dataclass(frozen=True, slots=True)
class Dialogue:
    lines: list[Line]
    reference: str

    @property
    def tokens(self) -> int:
        return _tokens(self.lines)


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` are the places of turns: which run, and which line of it."""

    answer: str
    evidence: list[tuple[int, int]]


def read_dialogues(data_dir: Path, limit: int | None = None) -> list[Dialogue]:
    """Every second one: the others were for tuning. Raises SettingsError where the set is missing."""
    found = read_golden(data_dir / "summaries" / "dialogsum.dev.jsonl").dialogues[1::2][:limit]
    return [
        Dialogue([_line(seq, "user", *turn) for seq, turn in enumerate(each.turns, start=1)], each.reference)
        for each in found
    ]


def read_conversations(data_dir: Path, name: str, limit: int | None = None) -> tuple[list[list[Line]], list[Question]]:
    """Runs of turns as they are folded, none across two sessions, and the questions that have an answer and evidence."""
    found: list[list[Line]] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    session = None
    conversations: set[str] = set()
    for record in read_records(data_dir, f"memory/{name}/turns.jsonl"):
        conversations.add(record["conv_id"])
        if limit is not None and len(conversations) > limit:
            break
        role: Role = "assistant" if record["speaker"] == "assistant" else "user"
        if session != (record["conv_id"], record["session_id"]) or (
            role == "user" and _tokens(found[-1]) > _FOLDED_TOKENS
        ):
            session = (record["conv_id"], record["session_id"])
            found.append([])
        found[-1].append(_line(len(found[-1]) + 1, role, record["speaker"], record["text"]))
        places[record["conv_id"], str(record["turn_id"])] = (len(found) - 1, len(found[-1]) - 1)
    questions = []
    for record in read_records(data_dir, f"memory/{name}/questions.jsonl"):
        named = [(record["conv_id"], str(turn)) for turn in record["evidence_turns"]]
        evidence = [places[turn] for turn in named if turn in places]
        if evidence and record.get("answer") and record["category"] != "adversarial":
            questions.append(Question(str(record["answer"]), evidence))
    return found, questions


def rouge(dialogues: Sequence[Dialogue], ways: dict[str, Summarizer]) -> list[Rouge]:
    rows = []
    for share in _SHARES:
        scored = {
            name: [rouge_scores(each.reference, way(each.lines, int(share * each.tokens))) for each in dialogues]
            for name, way in ways.items()
        }
        values = {
            name: {kind: [score[metric] for score in scores] for kind, metric in _ROUGES.items()}
            for name, scores in scored.items()
        }
        ours = values[next(iter(ways))]
        rows += [
            Rouge(
                way=name,
                share=share,
                scores={kind: _mean(values[name][kind]) for kind in _ROUGES},
                recall_1=_mean([score["recall-1"] for score in scored[name]]),
                against={
                    kind: _interval(paired(ours[kind], values[name][kind]).difference) for kind in ("rouge1", "rouge2")
                },
            )
            for name in ways
        ]
    return rows


class _Content:
    """The words of a text that say something, as stems."""

    def __init__(self) -> None:
        self._words = Words()
        light = FUNCTION_WORDS | FILLER_WORDS
        self._light = {term for word in light for term in self._words.terms(word)}

    def of(self, text: str) -> set[str]:
        return set(self._words.terms(text)) - self._light

    def keys(self, text: str) -> set[str]:
        """Of its names and numbers."""
        return {term for name in _NAME.findall(text) for term in self._words.terms(name)} - self._light


def evidence(
    dataset: str, runs: Sequence[list[Line]], questions: Sequence[Question], ways: dict[str, Summarizer]
) -> list[Evidence]:
    content, rows = _Content(), []
    turns = {place: content.of(runs[place[0]][place[1]].text) for each in questions for place in each.evidence}
    needed = sorted({run for run, _ in turns})
    ours: list[float] = []
    for name, way in ways.items():
        started = time.perf_counter()
        said = {run: content.of(way(runs[run], int(_SPAN_SHARE * _tokens(runs[run])))) for run in needed}
        elapsed_ms = 1000 * (time.perf_counter() - started)
        answers, keys, kept = [], [], []
        for question in questions:
            there = set().union(*(turns[place] for place in question.evidence))
            left = set().union(*(said[run] for run, _ in question.evidence))
            answers += _share(content.of(question.answer) & there, left)
            keys += _share(content.keys(question.answer) & there, left)
            kept += [share for place in question.evidence for share in _share(turns[place], said[place[0]])]
        ours = ours or answers
        rows.append(
            Evidence(
                dataset=dataset,
                way=name,
                answers=_mean(answers),
                keys=_mean(keys),
                turns=_mean(kept),
                against=_interval(paired(ours, answers).difference),
                ms_mean=round(elapsed_ms / len(needed), 1),
            )
        )
    return rows


def _share(wanted: set[str], left: set[str]) -> list[float]:
    """Nothing where nothing was wanted."""
    return [len(wanted & left) / len(wanted)] if wanted else []


def _line(seq: int, role: Role, speaker: str, text: str) -> Line:
    return Line(seq=seq, role=role, speaker=speaker, created_at=_MOMENT, text=text)


def _tokens(lines: Iterable[Line]) -> int:
    return sum(estimate_tokens(f"{line.speaker}: {line.text}\n") for line in lines)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _interval(difference: Mean) -> Interval:
    return round(difference.mean, 4), round(difference.low, 4), round(difference.high, 4)


def _shown(interval: Interval) -> str:
    return f"{interval[0]:+.3f} ({interval[1]:+.3f} {interval[2]:+.3f})"


def show(results: Results) -> None:
    columns = ["way", "tokens", "ROUGE-1", "ROUGE-2", "ROUGE-L", "recall-1", "ours better by, R-1", "by, R-2"]
    rows = [
        [row.way, f"{row.share:.0%}", *(f"{row.scores[kind]:.3f}" for kind in _ROUGES), f"{row.recall_1:.3f}"]
        + [_shown(row.against[kind]) for kind in ("rouge1", "rouge2")]
        for row in results.rouge
    ]
    tables = {f"{results.dialogues} dialogues, against their reference summaries": table_of(columns, rows)}
    for dataset, count in results.questions.items():
        title = f"{dataset}: {count} questions, runs of turns said in {_SPAN_SHARE:.0%} of their tokens; what survives"
        tables[title] = table_of(
            ["way", "answers' words", "names, numbers", "evidence's words", "ours better by, answers", "ms a run"],
            [
                [
                    row.way,
                    f"{row.answers:.3f}",
                    f"{row.keys:.3f}",
                    f"{row.turns:.3f}",
                    _shown(row.against),
                    f"{row.ms_mean:g}",
                ]
                for row in results.evidence
                if row.dataset == dataset
            ],
        )
    print_results(results.machine, tables)


@click.command(context_settings={"show_default": True})
@data_option
@click.option("--dialogues", type=click.IntRange(min=1), help="At most so many dialogues.")
@click.option("--conversations", type=click.IntRange(min=1), help="At most so many conversations of each set.")
@click.option("--write/--no-write", default=True, help="Whether to write evals/results/summaries.json.")
def main(*, data_dir: Path, dialogues: int | None, conversations: int | None, write: bool) -> None:
    """Quality of summaries: ROUGE, and what questions need of what was said."""
    ways = summarizers()
    read = read_dialogues(data_dir, dialogues)
    rows = rouge(read, ways)
    found, counts = [], {}
    for name in _CONVERSATIONS:
        runs, questions = read_conversations(data_dir, name, conversations)
        counts[name] = len(questions)
        found += evidence(name, runs, questions, ways)
    results = Results(machine=this_machine(), dialogues=len(read), questions=counts, rouge=rows, evidence=found)
    show(results)
    if write:
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_bytes(as_json(results) + b"\n")
        err.print("written to evals/results/summaries.json")


if __name__ == "__main__":
    main()
