"""How well what was said is recalled, and what of it reaches a context."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click
from rich.progress import Progress

from diptych.commands.evaluate import evaluate
from diptych.commands.evaluation_options import Given, evaluation_options, finish, read_baseline, services_of
from diptych.console import Options, command
from diptych.evaluation.context_runs import BUDGETS, STATES, context_metrics, evaluate_contexts
from diptych.evaluation.conversations import MemoryDataset, read_conversations, sliced_memory
from diptych.evaluation.dialogues import read_dialogues, sliced_dialogues
from diptych.evaluation.memory_runs import (
    DEPTHS,
    Owner,
    RecallSettings,
    check_memory,
    evaluate_memory,
    fill_memory,
    metrics_of,
)
from diptych.evaluation.progress import progress_bar
from diptych.evaluation.summary_runs import (
    DIALOGUE_METRICS,
    evaluate_dialogues,
    evaluate_spans,
)
from diptych.memory_client import MemoryClient
from shared.memory_messages import CONTEXT_TOKENS_MAX

# A question names no more turns.
_DEPTH = click.IntRange(1, 200)
_SHA_LENGTH = 8

conversations_option = click.option(
    "--conversations",
    "conversations_max",
    type=click.IntRange(min=1),
    help="Append only so many conversations, chosen by lot.",
)
user_option = click.option(
    "--user", "prefix", help="What the users and sessions of this run begin with; by default named after the dataset."
)


@evaluate.command("memory")
@evaluation_options
@conversations_option
@user_option
@click.option("-k", "depths", type=_DEPTH, multiple=True, default=DEPTHS, show_default=True, help="Places to look at.")
@click.option(
    "--mode",
    type=click.Choice(["hybrid", "dense", "lexical"]),
    default="hybrid",
    show_default=True,
    help="By meaning (dense), by words (lexical), or both.",
)
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["turn", "span", "fact"]),
    multiple=True,
    default=["turn", "fact"],
    show_default=True,
    help="What to find; only turns are evidence, and others take their places.",
)
@click.option("--latency/--no-latency", "is_timed", default=True, help="Also time up to 200 recalls, one at a time.")
@click.pass_obj
@command
async def evaluate_recalls(
    options: Options,
    /,
    *,
    given: Given,
    conversations_max: int | None,
    prefix: str | None,
    depths: tuple[int, ...],
    is_timed: bool,
    mode: Any,
    kinds: tuple[Any, ...],
) -> None:
    """How well the turns that answer a question are recalled: any, share and all of them among the first, and their sessions.

    DIR has turns.jsonl and questions.jsonl. A conversation is one user's memory, under a name of its own, and appending it
    again stores nothing twice.
    """
    dataset = await asyncio.to_thread(_read, given, conversations_max)
    depths = tuple(dict.fromkeys(depths))
    baseline = read_baseline(
        given, kind="memory", dataset=dataset.name, sha256=dataset.sha256, metrics=metrics_of(depths)
    )
    owner = _owner(dataset, prefix)
    async with _filled(options, given, dataset, owner) as (memory, bar):
        result = await evaluate_memory(
            memory,
            dataset,
            owner=owner,
            label=given.label,
            settings=RecallSettings(mode=mode, kinds=kinds),
            depths=depths,
            is_timed=is_timed,
            bar=bar,
        )
    await finish(options, given, result, baseline=baseline, texts=_texts(dataset))


@evaluate.command("context")
@evaluation_options
@conversations_option
@user_option
@click.option(
    "--budget",
    "budgets",
    type=click.IntRange(1, CONTEXT_TOKENS_MAX),
    multiple=True,
    default=BUDGETS,
    show_default=True,
    help="Tokens that a context may cost; may be given several times.",
)
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    default=STATES,
    show_default=True,
    help="Ask before every session is folded, after it, or both.",
)
@click.option("--in-session", "is_within", is_flag=True, help="Ask in the last session, whose own turns come first.")
@click.pass_obj
@command
async def evaluate_assembly(
    options: Options,
    /,
    *,
    given: Given,
    conversations_max: int | None,
    prefix: str | None,
    budgets: tuple[int, ...],
    states: tuple[Any, ...],
    is_within: bool,
) -> None:
    """How much of the evidence stands, word for word, in the context that is assembled for a question: for several budgets, and
    before and after all sessions are folded.

    DIR is as for `diptych eval memory`. The memories that it fills are its own, and are folded when it ends.
    """
    dataset = await asyncio.to_thread(_read, given, conversations_max)
    budgets, states = tuple(dict.fromkeys(budgets)), tuple(each for each in STATES if each in states)
    metrics = context_metrics(budgets, states)
    baseline = read_baseline(given, kind="context", dataset=dataset.name, sha256=dataset.sha256, metrics=metrics)
    owner = _owner(dataset, prefix, "eval-context")
    async with _filled(options, given, dataset, owner) as (memory, bar):
        result = await evaluate_contexts(
            memory,
            dataset,
            owner=owner,
            label=given.label,
            budgets=budgets,
            states=states,
            is_within=is_within,
            bar=bar,
        )
    await finish(options, given, result, baseline=baseline, texts=_texts(dataset))


@evaluate.command("summaries")
@evaluation_options
@conversations_option
@user_option
@click.pass_obj
@command
async def evaluate_summaries(
    options: Options, /, *, given: Given, conversations_max: int | None, prefix: str | None
) -> None:
    """What is kept when sessions are folded: of answers, identifiers and words that questions rest on, and ROUGE where people
    wrote summaries.

    DIR is as for `diptych eval memory`, or has one file of lines with `dialogue` and `summary`. The memories that it fills are
    its own, and are folded when it ends.
    """
    if (given.dataset / "turns.jsonl").exists():
        dataset = await asyncio.to_thread(_read, given, conversations_max)
        await _evaluate_spans(options, given, dataset, _owner(dataset, prefix, "eval-spans"))
        return
    if given.reuse or conversations_max is not None:
        raise click.UsageError("--reuse and --conversations are for conversations with questions; DIR has dialogues")
    dialogues = sliced_dialogues(
        await asyncio.to_thread(read_dialogues, given.dataset), dialogues_max=given.limit, seed=given.seed
    )
    baseline = read_baseline(
        given, kind="summaries", dataset=dialogues.name, sha256=dialogues.sha256, metrics=DIALOGUE_METRICS
    )
    name = f"eval-dialogues-{dialogues.sha256[:_SHA_LENGTH]}-" if prefix is None else prefix
    async with services_of(options, given) as services:
        with progress_bar(quiet=options.as_json) as bar:
            result = await evaluate_dialogues(services.memory, dialogues, owner=Owner(name), label=given.label, bar=bar)
    texts = {each.id: each.reference for each in dialogues.dialogues}
    await finish(options, given, result, baseline=baseline, texts=texts)


async def _evaluate_spans(options: Options, given: Given, dataset: MemoryDataset, owner: Owner) -> None:
    # Which metrics there are depends on the answers: a set without them has no `answers`.
    baseline = read_baseline(given, kind="summaries", dataset=dataset.name, sha256=dataset.sha256, metrics=None)
    async with _filled(options, given, dataset, owner) as (memory, bar):
        result = await evaluate_spans(memory, dataset, owner=owner, label=given.label, bar=bar)
    await finish(options, given, result, baseline=baseline, texts=_texts(dataset))


@asynccontextmanager
async def _filled(
    options: Options, given: Given, dataset: MemoryDataset, owner: Owner
) -> AsyncIterator[tuple[MemoryClient, Progress]]:
    """The memory with all conversations in it, as it was left by an earlier run or filled now."""
    async with services_of(options, given) as services:
        with progress_bar(quiet=options.as_json) as bar:
            if given.reuse:
                await check_memory(services.memory, dataset, owner)
            else:
                await fill_memory(services.memory, dataset, owner, bar)
            yield services.memory, bar


def _read(given: Given, conversations_max: int | None) -> MemoryDataset:
    return sliced_memory(
        read_conversations(given.dataset),
        conversations_max=conversations_max,
        questions_max=given.limit,
        seed=given.seed,
    )


def _owner(dataset: MemoryDataset, prefix: str | None, kind: str = "eval") -> Owner:
    """What was said decides, not what is asked: other questions find the same memory filled."""
    return Owner(f"{kind}-{dataset.name}-{dataset.turns_sha256[:_SHA_LENGTH]}-" if prefix is None else prefix)


def _texts(dataset: MemoryDataset) -> dict[str, str]:
    return {question.id: question.text for _, question in dataset.questions}
