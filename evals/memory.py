"""How well memory is recalled: of the turns that answer a question, how many are among the first 5, 10 and 20.

    python -m evals.memory

The sets are data/memory/locomo (people who talk over months) and data/memory/beam-100k (long chats with an assistant); one
conversation is one user's memory. It is appended to a running pair and asked through the client, each question as of the
moment of the last turn. Beside it stand BM25, dense and RRF over bare turns: retrieval's own engine over one document a turn,
uncut, `speaker: text`, with the same vectors.

`share` is the mean share of a question's evidence turns, `any` counts questions with one of them, `all` those with all.
`sessions` counts questions of which all evidence sessions are among the ten best sessions, each by its best turn. Differences
are paired over questions, with 95 % of a bootstrap. Labels are taken as they are, known errors included. Last, contexts of 2,000
tokens are built for each question, before and after all is folded. Written to evals/results/memory.json.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.data import data_option
from benchmarks.report import Machine, as_json, err, print_results, progress_bar, table_of, this_machine
from diptych import DocumentIn, Fusion, MemoryClient, RetrievalClient
from diptych.evaluation.context_runs import State, evaluate_contexts, folded_session
from diptych.evaluation.conversations import Conversation, MemoryDataset, Question, read_conversations
from diptych.evaluation.memory_runs import (
    DEPTHS,
    SESSIONS_METRIC,
    Owner,
    RecallSettings,
    evaluate_memory,
    fill_memory,
    score_turns,
)
from diptych.evaluation.metrics import Scores as ByQuestion
from diptych.evaluation.results import Result
from diptych.evaluation.retrieval_runs import until_searchable
from diptych.evaluation.services import started_services
from diptych.evaluation.statistics import paired, percentile
from shared.errors import SettingsError, Unavailable
from shared.retrieval_messages import Chunking, CollectionSpec, SearchMode

SETS: Final = ("locomo", "beam-100k")
BUDGET: Final = 2000
_RESULTS: Final = Path(__file__).parent / "results" / "memory.json"
# Enough turns to name ten sessions.
_LIMIT: Final = 200
_LIMIT_USUAL: Final = 10
_TIMEOUT_S: Final = 3600.0
# What users get first; then its legs, and what it is compared with.
_MODES: Final[tuple[SearchMode, ...]] = ("hybrid", "lexical", "dense")
_BARE: Final[dict[str, tuple[SearchMode, Fusion]]] = {
    "bare BM25": ("lexical", Fusion()),
    "bare dense": ("dense", Fusion()),
    "bare RRF": ("hybrid", Fusion(method="rrf")),
}
# By name: the state, and whether it is asked within the last session.
_CONTEXTS: Final[dict[str, tuple[State, bool]]] = {
    "the user's memory": ("unfolded", False),
    "in the last session": ("unfolded", True),
    "the user's memory, all folded": ("folded", False),
    "in the last session, all folded": ("folded", True),
}
# Nothing else is in these services.
_OWNER: Final = Owner()


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """By depth. `sessions` is at ten sessions."""

    questions: int
    share: dict[int, float]
    any: dict[int, float]
    all: dict[int, float]
    sessions: float


class ContextScores(msgspec.Struct, frozen=True, kw_only=True):
    """`share` is the mean share of a question's evidence turns, by category too. Times in milliseconds over HTTP, with questions
    whose vectors are known; `tokens` are the mean, `tokens_max` the most."""

    share: float
    categories: dict[str, float]
    tokens: float
    tokens_max: int
    ms: dict[str, float]


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """`against` holds the difference in share@10 to each baseline: mean, low, high."""

    overall: Scores
    categories: dict[str, Scores]
    against: dict[str, tuple[float, float, float]]


class SetResult(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds: of a whole recall of ten over HTTP with a question that was never asked before, of a memory that was,
    and of that the search within memory."""

    name: str
    users: int
    sessions: int
    turns: int
    recall_ms: dict[str, float]
    search_ms: dict[str, float]
    ways: dict[str, Way]
    contexts: dict[str, ContextScores]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    model: str
    sets: list[SetResult]


async def evaluate(
    memory: MemoryClient, retrieval: RetrievalClient, dataset: MemoryDataset, bar: Progress
) -> SetResult:
    """Of memories and collections that are filled. Leaves the memories folded."""
    task = bar.add_task(f"{dataset.name}: latency", total=len(dataset.questions))
    spent = []
    for conversation in dataset.conversations:
        # An index is made when its memory is first asked: that is another number.
        await memory.recall("hello", user_id=conversation.id, mode="lexical")
    for conversation, question in dataset.questions:
        spent.append(await _timed(memory, conversation, question))
        bar.advance(task)
    ways: dict[str, ByQuestion] = {}
    for mode in _MODES:
        settings = RecallSettings(mode=mode)
        result = await evaluate_memory(memory, dataset, owner=_OWNER, settings=settings, is_timed=False, bar=bar)
        ways[mode] = {query.id: query.scores for query in result.queries}
    for label, chosen in _BARE.items():
        ways[label] = score_turns(dataset, await _search_all(retrieval, dataset, label, *chosen, bar), DEPTHS)
    counts = dataset.counts
    is_folded = await folded_session(memory, dataset, _OWNER) is not None
    return SetResult(
        name=dataset.name,
        users=counts["conversations"],
        sessions=counts["sessions"],
        turns=counts["turns"],
        recall_ms=_percentiles([whole for whole, _ in spent]),
        search_ms=_percentiles([search for _, search in spent]),
        ways={label: _way(label, ways, dataset) for label in ways},
        contexts={
            name: _context_scores(
                await evaluate_contexts(
                    memory,
                    dataset,
                    owner=_OWNER,
                    label=name,
                    budgets=(BUDGET,),
                    states=(state,),
                    is_within=is_within,
                    bar=bar,
                )
            )
            for name, (state, is_within) in _CONTEXTS.items()
            if state == "folded" or not is_folded
        },
    )


async def _timed(memory: MemoryClient, conversation: Conversation, question: Question) -> tuple[float, float]:
    started = time.perf_counter()
    answer = await memory.recall(
        question.text,
        user_id=conversation.id,
        as_of=conversation.ended_at,
        limit=_LIMIT_USUAL,
        explain=True,
    )
    whole = 1000.0 * (time.perf_counter() - started)
    if answer.plan is None or answer.degraded:
        raise Unavailable("a recall was degraded: the numbers would be those of words alone")
    return whole, answer.plan.stages_ms["search"]


async def _search_all(
    retrieval: RetrievalClient, dataset: MemoryDataset, label: str, mode: SearchMode, fusion: Fusion, bar: Progress
) -> dict[str, list[str]]:
    """Turn ids by question, best first."""
    task = bar.add_task(f"{dataset.name}: {label}", total=len(dataset.questions))
    found = {}
    for conversation, question in dataset.questions:
        answer = await retrieval.search(
            question.text, collection=conversation.id, mode=mode, fusion=fusion, limit=_LIMIT
        )
        found[question.id] = [hit.document_id for hit in answer.hits]
        bar.advance(task)
    return found


def _context_scores(result: Result) -> ContextScores:
    (metric,) = result.overall
    tokens = [query.tokens or 0 for query in result.queries]
    return ContextScores(
        share=round(result.overall[metric].mean, 4),
        categories={name: round(scores[metric].mean, 4) for name, scores in result.categories.items()},
        tokens=round(sum(tokens) / len(tokens), 1),
        tokens_max=max(tokens),
        ms=_percentiles([query.latency_ms or 0.0 for query in result.queries]),
    )


def _way(label: str, ways: Mapping[str, ByQuestion], dataset: MemoryDataset) -> Way:
    asked = [question for _, question in dataset.questions]
    ours = ways[label]

    def shares(of: ByQuestion) -> list[float]:
        return [of[question.id]["share@10"] for question in asked]

    differences = {other: paired(shares(ours), shares(ways[other])).difference for other in _BARE if other != label}
    return Way(
        overall=_scores([ours[question.id] for question in asked]),
        categories={
            category: _scores([ours[question.id] for question in asked if question.category == category])
            for category in dict.fromkeys(question.category for question in asked)
        },
        against={
            other: (round(each.mean, 4), round(each.low, 4), round(each.high, 4)) for other, each in differences.items()
        },
    )


def _scores(found: Sequence[Mapping[str, float]]) -> Scores:
    def mean(metric: str) -> float:
        return round(sum(scores[metric] for scores in found) / len(found), 4)

    return Scores(
        questions=len(found),
        share={depth: mean(f"share@{depth}") for depth in DEPTHS},
        any={depth: mean(f"any@{depth}") for depth in DEPTHS},
        all={depth: mean(f"all@{depth}") for depth in DEPTHS},
        sessions=mean(SESSIONS_METRIC),
    )


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{part}": round(percentile(values, part), 2) for part in (50, 95, 99)}


async def _fill(retrieval: RetrievalClient, conversation: Conversation, bar: Progress) -> None:
    # As large as the model reads: a turn stays in one piece.
    await retrieval.put_collection(conversation.id, CollectionSpec(chunking=Chunking(max_tokens=8192)))
    documents = [
        DocumentIn(id=turn.id, text=f"{turn.name or turn.role}: {turn.content}") for turn in conversation.turns
    ]
    task = bar.add_task(f"Ingesting {conversation.id}", total=len(documents))
    await until_searchable(retrieval, (await retrieval.ingest(conversation.id, documents)).job, bar, task)


def read_set(data_dir: Path, name: str) -> MemoryDataset:
    """Raises SettingsError that says what is missing and where it may come from."""
    folder = data_dir / "memory" / name
    if not folder.is_dir():
        raise SettingsError(
            f"{folder} is missing: it is evaluation data, which is not part of the project. "
            "Put it into ../shared/data beside the project, or name its folder in EVAL_DATA."
        )
    return read_conversations(folder)


async def _run(names: Sequence[str], data_dir: Path, keep: Path | None) -> Results:
    results = []
    with progress_bar() as bar:
        async with started_services(keep=keep, timeout_s=_TIMEOUT_S) as services:
            for name in names:
                dataset = await asyncio.to_thread(read_set, data_dir, name)
                await fill_memory(services.memory, dataset, _OWNER, bar)
                for conversation in dataset.conversations:
                    await _fill(services.retrieval, conversation, bar)
                results.append(await evaluate(services.memory, services.retrieval, dataset, bar))
            model = str((await services.memory.info()).details["model"])
    return Results(machine=this_machine(), model=model, sets=results)


def _report(results: Results) -> None:
    measured = [f"{name}@{depth}" for name in ("any", "share", "all") for depth in DEPTHS] + ["sessions"]
    tables = {}
    for result in results.sets:
        recall_ms, search_ms = result.recall_ms, result.search_ms
        tables[f"{result.name}: {result.users} users, {result.sessions} sessions, {result.turns} turns"] = table_of(
            ("", *measured), [(label, *_cells(way.overall)) for label, way in result.ways.items()]
        )
        first = next(iter(result.ways))
        tables[f"{result.name}, {first}, by category"] = table_of(
            ("", "asked", *measured),
            [
                (category, str(scores.questions), *_cells(scores))
                for category, scores in result.ways[first].categories.items()
            ],
        )
        tables[f"{result.name}, {first}: share@10 against, with 95 % of a bootstrap"] = table_of(
            ("", "mean", "low", "high"),
            [(other, *(f"{value:+.3f}" for value in values)) for other, values in result.ways[first].against.items()],
        )
        tables[f"{result.name}: evidence turns in a context of {BUDGET} tokens"] = table_of(
            ("", "share", "tokens", "most", "p50 ms", "p95 ms"),
            [
                (where, f"{each.share:.3f}", f"{each.tokens:g}", str(each.tokens_max), *_times(each.ms))
                for where, each in result.contexts.items()
            ],
        )
        tables[f"{result.name}: milliseconds"] = table_of(
            ("", "p50", "p95", "p99"),
            [
                (what, *(f"{value:g}" for value in values.values()))
                for what, values in (("a recall of ten over HTTP", recall_ms), ("the search in it", search_ms))
            ],
        )
    tables["all sets together, by question"] = table_of(("", *measured), _pooled(results))
    print_results(results.machine, tables)


def _pooled(results: Results) -> list[tuple[str, ...]]:
    rows = []
    for label in results.sets[0].ways:
        each = [result.ways[label].overall for result in results.sets]
        weights = [scores.questions for scores in each]
        columns = zip(*(_values(scores) for scores in each), strict=True)
        rows.append((label, *(f"{float(np.average(column, weights=weights)):.3f}" for column in columns)))
    return rows


def _times(ms: Mapping[str, float]) -> list[str]:
    return [f"{ms[part]:g}" for part in ("p50", "p95")]


def _cells(scores: Scores) -> list[str]:
    return [f"{value:.3f}" for value in _values(scores)]


def _values(scores: Scores) -> list[float]:
    return [*(each[depth] for each in (scores.any, scores.share, scores.all) for depth in DEPTHS), scores.sessions]


@click.command(context_settings={"show_default": True})
@click.option(
    "--set",
    "names",
    multiple=True,
    default=SETS,
    type=click.Choice(SETS),
    help="Which sets; may be given several times.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder that keeps the services' data, so that another run embeds nothing again; what was folded stays so, and is not asked unfolded.",
)
@click.option("--save/--no-save", default=True, help="Write evals/results/memory.json.")
@data_option
def main(*, names: tuple[str, ...], keep: Path | None, save: bool, data_dir: Path) -> None:
    """How well memory is recalled."""
    results = asyncio.run(_run(names, data_dir, keep))
    _report(results)
    if save:
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_bytes(as_json(results) + b"\n")
        err.print("written to evals/results/memory.json")


if __name__ == "__main__":
    main()
