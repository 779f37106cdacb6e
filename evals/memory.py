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
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import numpy as np
from rich.progress import Progress

from benchmarks.data import data_option
from benchmarks.pair import running_pair, until_vectors_filled
from benchmarks.report import Machine, as_json, err, print_results, progress_bar, table_of, this_machine
from diptych import DocumentIn, Fusion, MemoryClient, RetrievalClient
from diptych.evaluation.statistics import paired
from evals.contexts import BUDGET, ContextScores, measure
from evals.conversations import SETS, Conversation, Question, read_conversations
from shared.errors import Unavailable
from shared.memory_messages import TURNS_PER_REQUEST_MAX
from shared.retrieval_messages import TERMINAL, Chunking, CollectionSpec, SearchMode

_RESULTS: Final = Path(__file__).parent / "results" / "memory.json"
_DEPTHS: Final = (5, 10, 20)
_SESSIONS: Final = 10
# Enough turns to name ten sessions.
_LIMIT: Final = 200
_LIMIT_USUAL: Final = 10
_TIMEOUT_S: Final = 3600.0
_POLL_S: Final = 0.2
# What users get first; then its legs, and what it is compared with.
_MODES: Final[tuple[SearchMode, ...]] = ("hybrid", "lexical", "dense")
_BARE: Final[dict[str, tuple[SearchMode, Fusion]]] = {
    "bare BM25": ("lexical", Fusion()),
    "bare dense": ("dense", Fusion()),
    "bare RRF": ("hybrid", Fusion(method="rrf")),
}

# Turn ids, best first.
Ranking = list[str]
Ask = Callable[[Conversation, Question], Awaitable[Ranking]]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """By depth. `sessions` is at ten sessions."""

    questions: int
    share: dict[int, float]
    any: dict[int, float]
    all: dict[int, float]
    sessions: float


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
    memory: MemoryClient,
    retrieval: RetrievalClient,
    memory_url: str,
    name: str,
    conversations: Sequence[Conversation],
    bar: Progress,
) -> SetResult:
    """Of memories and collections that are filled. Leaves the memories folded."""
    asked = [(each, question) for each in conversations for question in each.questions]
    task = bar.add_task(f"{name}: latency", total=len(asked))
    spent = []
    for conversation in conversations:
        # An index is made when its memory is first asked: that is another number.
        await memory.recall("hello", user_id=conversation.user_id, mode="lexical")
    for conversation, question in asked:
        spent.append(await _timed(memory, conversation, question))
        bar.advance(task)
    ways: dict[str, list[Ranking]] = {}
    for label, ask in (*_recalls(memory).items(), *_searches(retrieval).items()):
        task = bar.add_task(f"{name}: {label}", total=len(asked))
        ways[label] = []
        for conversation, question in asked:
            ways[label].append(await ask(conversation, question))
            bar.advance(task)
    return SetResult(
        name=name,
        users=len(conversations),
        sessions=sum(len(each.sessions) for each in conversations),
        turns=sum(len(each.session_of) for each in conversations),
        recall_ms=_percentiles([whole for whole, _ in spent]),
        search_ms=_percentiles([search for _, search in spent]),
        ways={label: _way(rankings, label, ways, asked) for label, rankings in ways.items()},
        contexts=await measure(memory, memory_url, name, conversations, bar),
    )


async def _timed(memory: MemoryClient, conversation: Conversation, question: Question) -> tuple[float, float]:
    started = time.perf_counter()
    answer = await memory.recall(
        question.text,
        user_id=conversation.user_id,
        as_of=conversation.ended_at,
        limit=_LIMIT_USUAL,
        explain=True,
    )
    whole = 1000.0 * (time.perf_counter() - started)
    if answer.plan is None or answer.degraded:
        raise Unavailable("a recall was degraded: the numbers would be those of words alone")
    return whole, answer.plan.stages_ms["search"]


def _recalls(memory: MemoryClient) -> dict[str, Ask]:
    def asking(mode: SearchMode) -> Ask:
        async def ask(conversation: Conversation, question: Question) -> Ranking:
            answer = await memory.recall(
                question.text,
                user_id=conversation.user_id,
                as_of=conversation.ended_at,
                mode=mode,
                limit=_LIMIT,
            )
            return [item.id for item in answer.items]

        return ask

    return {mode: asking(mode) for mode in _MODES}


def _searches(retrieval: RetrievalClient) -> dict[str, Ask]:
    def asking(mode: SearchMode, fusion: Fusion) -> Ask:
        async def ask(conversation: Conversation, question: Question) -> Ranking:
            answer = await retrieval.search(
                question.text, collection=conversation.user_id, mode=mode, fusion=fusion, limit=_LIMIT
            )
            return [hit.document_id for hit in answer.hits]

        return ask

    return {label: asking(*chosen) for label, chosen in _BARE.items()}


def _way(
    rankings: Sequence[Ranking],
    label: str,
    ways: dict[str, list[Ranking]],
    asked: Sequence[tuple[Conversation, Question]],
) -> Way:
    categories = dict.fromkeys(question.category for _, question in asked)
    pairs = list(zip(rankings, asked, strict=True))

    def shares(of: Sequence[Ranking]) -> list[float]:
        return [_share(ranking, question, 10) for ranking, (_, question) in zip(of, asked, strict=True)]

    ours = shares(rankings)
    differences = {other: paired(ours, shares(ways[other])).difference for other in _BARE if other != label}
    return Way(
        overall=_scores(pairs),
        categories={each: _scores([pair for pair in pairs if pair[1][1].category == each]) for each in categories},
        against={
            other: (round(each.mean, 4), round(each.low, 4), round(each.high, 4)) for other, each in differences.items()
        },
    )


def _scores(pairs: Sequence[tuple[Ranking, tuple[Conversation, Question]]]) -> Scores:
    shares = {depth: [_share(ranking, question, depth) for ranking, (_, question) in pairs] for depth in _DEPTHS}
    return Scores(
        questions=len(pairs),
        share={depth: _mean(each) for depth, each in shares.items()},
        any={depth: _mean([float(share > 0.0) for share in each]) for depth, each in shares.items()},
        all={depth: _mean([float(share == 1.0) for share in each]) for depth, each in shares.items()},
        sessions=_mean([float(_finds_sessions(ranking, *asked)) for ranking, asked in pairs]),
    )


def _share(ranking: Ranking, question: Question, depth: int) -> float:
    return len(question.evidence.intersection(ranking[:depth])) / len(question.evidence)


def _finds_sessions(ranking: Ranking, conversation: Conversation, question: Question) -> bool:
    best = list(dict.fromkeys(conversation.session_of[turn] for turn in ranking))[:_SESSIONS]
    return {conversation.session_of[turn] for turn in question.evidence} <= set(best)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{part}": round(float(np.percentile(values, part)), 2) for part in (50, 95, 99)}


async def _fill(memory: MemoryClient, retrieval: RetrievalClient, conversation: Conversation) -> None:
    for session, turns in conversation.sessions.items():
        for first in range(0, len(turns), TURNS_PER_REQUEST_MAX):
            await memory.append(session, turns[first : first + TURNS_PER_REQUEST_MAX], user_id=conversation.user_id)
    # As large as the model reads: a turn stays in one piece.
    await retrieval.put_collection(conversation.user_id, CollectionSpec(chunking=Chunking(max_tokens=8192)))
    documents = [
        DocumentIn(id=turn.id, text=f"{turn.name or turn.role}: {turn.content}")
        for turns in conversation.sessions.values()
        for turn in turns
    ]
    job = (await retrieval.ingest(conversation.user_id, documents)).job
    while job.status not in TERMINAL:
        await asyncio.sleep(_POLL_S)
        job = await retrieval.job(job.id)
    if job.status != "succeeded" or job.failed:
        raise Unavailable(f"ingest job {job.id} {job.status} with {job.failed} failed turns: {job.errors[:3]}")


async def _run(names: Sequence[str], data_dir: Path, keep: Path | None) -> Results:
    results = []
    with tempfile.TemporaryDirectory(prefix="diptych-evals-") as folder, progress_bar() as bar:
        async with (
            running_pair(keep or Path(folder)) as pair,
            MemoryClient(pair.memory_url, timeout_s=_TIMEOUT_S) as memory,
            RetrievalClient(pair.retrieval_url, timeout_s=_TIMEOUT_S) as retrieval,
        ):
            for name in names:
                conversations = await asyncio.to_thread(read_conversations, data_dir, name)
                task = bar.add_task(f"{name}: filling", total=len(conversations))
                for conversation in conversations:
                    await _fill(memory, retrieval, conversation)
                    await until_vectors_filled(pair.memory_url, _TIMEOUT_S)
                    bar.advance(task)
                results.append(await evaluate(memory, retrieval, pair.memory_url, name, conversations, bar))
            model = str((await memory.info()).details["model"])
    return Results(machine=this_machine(), model=model, sets=results)


def _report(results: Results) -> None:
    measured = [f"{name}@{depth}" for name in ("any", "share", "all") for depth in _DEPTHS] + ["sessions"]
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
    return [*(each[depth] for each in (scores.any, scores.share, scores.all) for depth in _DEPTHS), scores.sessions]


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
    help="A folder that keeps the services' data, so that another run embeds nothing again; what was folded stays so.",
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
