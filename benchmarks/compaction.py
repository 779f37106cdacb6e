"""How much of what turns hold survives in the spans that stand for them, word for word.

    python -m benchmarks.compaction

Made-up transcripts of agents with tools say what each turn holds. They are folded as sessions are, at cut points before a
user's turn, and each span is rendered as a context shows it. The seeds are not those that were looked at while the ledger
was built. Numbers below 10 are not planted: they stand in any text by accident.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
import msgspec
from rich.progress import Progress
from rich.table import Table

from benchmarks.output import Output, output_options
from benchmarks.report import Machine, OtherWork, Percentiles, percentiles, progress_bar, table_of, this_machine
from benchmarks.transcript_world import Planted
from benchmarks.transcripts import Transcript, make
from memory.compaction.ledger import stands_in
from memory.compaction.span_text import compose, merge, render
from memory.truth.records import Line
from shared.memory_messages import LedgerItem
from shared.tokens import estimate_tokens

SEED_FIRST: Final = 1000
BUDGETS: Final = (0.1, 0.15, 0.2, 0.3)
_BUDGET: Final = 0.2
# As a session is folded by default: from 8,000 tokens of tail down to 4,000.
_FOLDED_TOKENS: Final = 4000
_CHILDREN: Final = 4
_ROLLED_UP: Final = 0.5
_DENSITIES: Final = (0.1, 0.15, 0.2)
_BARS: Final = {"path": 0.95, "url": 0.95, "id": 0.95, "command": 0.95, "number": 0.9}
# deja-vu#543: what language models kept over 43 compactions of real sessions. Another set, so only the size can be compared.
PEERS: Final = {"path": 0.098, "number": 0.019, "command": 0.002}
_TURNS: Final = 60


class Survival(msgspec.Struct, frozen=True, kw_only=True):
    planted: int
    survived: int

    @property
    def share(self) -> float:
        return self.survived / self.planted if self.planted else 1.0


class Folding(msgspec.Struct, frozen=True, kw_only=True):
    """At `budget` tokens of a span for each token folded. `text_share` is how much of that is prose."""

    budget: float
    text_share: float
    over_budget: int
    kinds: dict[str, Survival]
    spoken: dict[str, Survival]


class Density(msgspec.Struct, frozen=True, kw_only=True):
    """Spans whose identifiers are up to `up_to` of their characters."""

    up_to: float
    spans: int
    kinds: dict[str, Survival]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    transcripts: int
    spans: int
    folded_tokens: int
    tool_share: float
    density: float
    foldings: list[Folding]
    rolled_up: dict[str, Survival]
    densities: list[Density]
    compose_ms: Percentiles
    peers: dict[str, float]


@dataclass(frozen=True, slots=True)
class _Run:
    """Turns that are folded together, with what stands in them."""

    lines: list[Line]
    planted: set[tuple[str, str]]
    spoken: set[tuple[str, str]]

    @property
    def tokens(self) -> int:
        return sum(estimate_tokens(line.text) for line in self.lines)

    @property
    def density(self) -> float:
        return sum(len(text) for _, text in self.planted) / sum(len(line.text) for line in self.lines)


@dataclass(frozen=True, slots=True)
class _Child:
    text: str
    ledger: list[LedgerItem]
    first_seq: int
    tokens: int


class _Count:
    def __init__(self) -> None:
        self._planted: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()

    def add(self, planted: set[tuple[str, str]], rendered: str) -> None:
        for kind, text in planted:
            self._planted[kind] += 1
            self._survived[kind] += survives(kind, text, rendered)

    def result(self) -> dict[str, Survival]:
        return {
            kind: Survival(planted=self._planted[kind], survived=self._survived[kind])
            for kind in sorted(self._planted, key=lambda kind: (kind not in _BARS, kind))
        }


def survives(kind: str, text: str, rendered: str) -> bool:
    """Word for word. A number may have letters behind it ("90" in "20,90p"), as where it was planted, but no more digits."""
    if kind == "number":
        return re.search(rf"(?<![0-9A-Za-z.]){re.escape(text)}(?!\d)", rendered) is not None
    return stands_in(text, rendered)


def runs(transcript: Transcript) -> Iterator[_Run]:
    """Cut before a user's turn, once enough is there; a call and its result stay together."""
    lines: list[Line] = []
    for line in transcript.lines:
        if line.role == "user" and sum(estimate_tokens(each.text) for each in lines) >= _FOLDED_TOKENS:
            yield _run(lines, transcript.planted)
            lines = []
        lines.append(line)
    yield _run(lines, transcript.planted)


def _run(lines: list[Line], planted: Sequence[Planted]) -> _Run:
    roles = {line.seq: line.role for line in lines}
    return _Run(
        lines,
        {(each.kind, each.text) for each in planted if each.seq in roles},
        {(each.kind, each.text) for each in planted if roles.get(each.seq, "tool") != "tool"},
    )


def fold(found: Sequence[_Run], budget: float) -> Folding:
    kinds, spoken = _Count(), _Count()
    text_tokens = span_tokens = over = 0
    for run in found:
        tokens_max = int(budget * run.tokens)
        composed = compose(run.lines, tokens_max)
        rendered = render(composed.text, composed.ledger)
        over += estimate_tokens(rendered) > tokens_max
        text_tokens += estimate_tokens(composed.text)
        span_tokens += tokens_max
        kinds.add(run.planted, rendered)
        spoken.add(run.spoken, rendered)
    return Folding(
        budget=budget,
        text_share=round(text_tokens / span_tokens, 3),
        over_budget=over,
        kinds=kinds.result(),
        spoken=spoken.result(),
    )


def roll_up(found: Sequence[_Run]) -> dict[str, Survival]:
    """Four spans into one of half their tokens: what of their turns' identifiers is left."""
    count = _Count()
    for first in range(0, len(found) - _CHILDREN + 1, _CHILDREN):
        below = found[first : first + _CHILDREN]
        children = []
        for run in below:
            tokens_max = int(_BUDGET * run.tokens)
            composed = compose(run.lines, tokens_max)
            children.append(_Child(composed.text, composed.ledger, run.lines[0].seq, tokens_max))
        merged = merge(children, int(_ROLLED_UP * sum(child.tokens for child in children)))
        count.add(set().union(*(run.planted for run in below)), render(merged.text, merged.ledger))
    return count.result()


def by_density(found: Sequence[_Run]) -> list[Density]:
    densities, low = [], 0.0
    for up_to in (*_DENSITIES, 1.0):
        chosen = [run for run in found if low < run.density <= up_to]
        low = up_to
        if chosen:
            densities.append(Density(up_to=up_to, spans=len(chosen), kinds=fold(chosen, _BUDGET).kinds))
    return densities


def measure(transcripts: int, progress: Progress) -> Results:
    other_work = OtherWork()
    task = progress.add_task("compaction", total=len(BUDGETS) + 3)
    days = [make(seed, turns_min=_TURNS) for seed in range(SEED_FIRST, SEED_FIRST + transcripts)]
    by_day = [list(runs(day)) for day in days]
    found = [run for each in by_day for run in each]
    characters = sum(len(line.text) for run in found for line in run.lines)
    samples = []
    for run in found:
        started = time.perf_counter()
        compose(run.lines, int(_BUDGET * run.tokens))
        samples.append(1000 * (time.perf_counter() - started))
    progress.advance(task)
    foldings = []
    for budget in BUDGETS:
        foldings.append(fold(found, budget))
        progress.advance(task)
    rolled_up = roll_up(found)
    progress.advance(task)
    densities = by_density(found)
    progress.advance(task)
    tools = sum(len(line.text) for run in found for line in run.lines if line.role == "tool")
    return Results(
        machine=this_machine(other_work),
        transcripts=transcripts,
        spans=len(found),
        folded_tokens=sum(run.tokens for run in found),
        tool_share=round(tools / characters, 3),
        density=round(sum(len(text) for run in found for _, text in run.planted) / characters, 3),
        foldings=foldings,
        rolled_up=rolled_up,
        densities=densities,
        compose_ms=percentiles(samples),
        peers=dict(PEERS),
    )


def tables_of(results: Results) -> dict[str, Table]:
    folding = next(each for each in results.foldings if each.budget == _BUDGET)
    kinds = list(folding.kinds)
    rows = [
        [
            kind,
            str(folding.kinds[kind].planted),
            *(f"{each.kinds[kind].share:.1%}" for each in results.foldings),
            f"{folding.spoken[kind].share:.1%}" if kind in folding.spoken else "",
            f"{results.rolled_up[kind].share:.1%}" if kind in results.rolled_up else "",
            f"{_BARS[kind]:.0%}" if kind in _BARS else "",
            f"{results.peers[kind]:.1%}" if kind in results.peers else "",
        ]
        for kind in kinds
    ]
    rows.append(
        ["prose, share of the span", "", *(f"{each.text_share:.0%}" for each in results.foldings), "", "", "", ""]
    )
    columns = ["survives word for word", "planted", *(f"at {each:.0%}" for each in BUDGETS)]
    columns += ["spoken, 20%", "rolled up", "bar, 20%", "peers"]
    dense = [
        [
            f"up to {each.up_to:.0%}",
            str(each.spans),
            *(f"{each.kinds[kind].share:.1%}" if kind in each.kinds else "" for kind in _BARS),
        ]
        for each in results.densities
    ]
    title = (
        f"{results.transcripts} transcripts, {results.folded_tokens} tokens in {results.spans} spans; {results.tool_share:.0%} are "
        f"tool output, {results.density:.0%} are identifiers; {sum(each.over_budget for each in results.foldings)} spans over budget"
    )
    around = [
        (f"a span of {_FOLDED_TOKENS} tokens", f"p50 {results.compose_ms.p50} ms, p95 {results.compose_ms.p95} ms"),
        ("rolled up", f"{_CHILDREN} spans into one of {_ROLLED_UP:.0%} of their tokens"),
        ("peers", "models' summaries, 43 compactions of real sessions (deja-vu, issue 543); other sessions than these"),
    ]
    return {
        title: table_of(columns, rows),
        f"At {_BUDGET:.0%}, by how much of a span's turns are identifiers": table_of(
            ["identifiers", "spans", *_BARS], dense
        ),
        "Around it": table_of(("what", "is"), around, texts=2),
    }


@click.command(context_settings={"show_default": True})
@click.option("--transcripts", type=click.IntRange(min=1, max=1000), default=40, help="How many to make and fold.")
@output_options
def main(*, transcripts: int, output: Output) -> None:
    """Measure what survives compaction."""
    with progress_bar() as progress:
        results = measure(transcripts, progress)
    output.publish("compaction", results, tables_of(results))


if __name__ == "__main__":
    main()
