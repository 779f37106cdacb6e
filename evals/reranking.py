"""A cross-encoder to measure reranking with, trained here: `python -m evals.reranking FOLDER`.

None that others trained can be had without the network. This one begins as the packaged all-MiniLM-L6-v2 and learns to tell
documents that judges found relevant from others that a hybrid search ranks high. Its queries are those that no report uses:
scifact's train queries and cranfield's odd ones. It has seen nothing of cosqa, and some nine hundred queries where the
usual ones have seen half a million: what it shows is what reranking does here, not the best that it can do.

The loss is that of a list: cross-entropy of which text is the relevant one (ListNet's top one: Cao, Qin, Liu, Tsai and Li
2007, "Learning to rank: from pairwise approach to listwise approach").
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from rich.progress import Progress

from benchmarks.data import data_option
from benchmarks.report import Machine, as_json, err, progress_bar, this_machine
from diptych.console import command
from diptych.evaluation.datasets import RetrievalDataset, only_queries, read_retrieval
from diptych.evaluation.retrieval_runs import fill_collection
from diptych.evaluation.services import started_services
from evals.data import packaged_model
from shared.errors import SettingsError
from shared.retrieval_client import RetrievalClient
from shared.retrieval_messages import DocumentIn, Hit

if TYPE_CHECKING:
    import torch

# An hour on two cores.
_EPOCHS: Final = 1
_TIMEOUT_S: Final = 3600.0
_SEED: Final = 20_240
# Beside a relevant text. They are drawn from the best of a search; the very best are often relevant, and nobody judged them.
_OTHERS: Final = 5
_OTHERS_AMONG: Final = 50
# Lists in a step.
_LISTS: Final = 4
_LEARNING_RATE: Final = 1e-4
_WARM_UP_SHARE: Final = 0.1
# A chunk of the default size with its query.
_TOKENS_MAX: Final = 256
_TRAINED: Final = "trained.json"


@dataclass(frozen=True, slots=True)
class Example:
    """`texts` begin with the relevant one."""

    query: str
    texts: list[str]


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """`losses` are the means of each epoch; that of a guess is ln(texts)."""

    machine: Machine
    queries: int
    examples: int
    texts: int
    epochs: int
    minutes: float
    losses: list[float]


@click.command(context_settings={"show_default": True})
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--epochs", type=click.IntRange(min=1), default=_EPOCHS, help="How often each example is seen.")
@data_option
@command
async def main(folder: Path, epochs: int, data_dir: Path) -> None:
    """Train a small cross-encoder, and write it to FOLDER."""
    started = time.perf_counter()
    datasets = await asyncio.to_thread(training_sets, data_dir)
    with progress_bar() as bar:
        async with started_services(keep=None, timeout_s=_TIMEOUT_S) as services:
            examples = [
                example for dataset in datasets for example in await find_examples(services.retrieval, dataset, bar)
            ]
        losses = await asyncio.to_thread(train, packaged_model(), examples, folder, epochs=epochs, bar=bar)
    trained = Trained(
        machine=this_machine(),
        queries=sum(len(dataset.queries) for dataset in datasets),
        examples=len(examples),
        texts=1 + _OTHERS,
        epochs=epochs,
        minutes=round((time.perf_counter() - started) / 60.0, 1),
        losses=losses,
    )
    (folder / _TRAINED).write_bytes(as_json(trained) + b"\n")
    err.print(f"written to {folder}: {how_trained(folder)}")


def how_trained(folder: Path) -> str:
    """One phrase. Raises SettingsError for a folder that `main` did not write."""
    path = folder / _TRAINED
    if not path.is_file():
        raise SettingsError(
            f"{folder} has no {_TRAINED}: train a cross-encoder there by `python -m evals.reranking {folder}`"
        )
    trained = msgspec.json.decode(path.read_bytes(), type=Trained)
    return (
        f"{trained.queries} queries, {trained.examples} lists of {trained.texts} texts seen {trained.epochs} times in "
        f"{trained.minutes:.0f} minutes; mean loss {', then '.join(f'{loss:.2f}' for loss in trained.losses)}"
    )


def training_sets(data_dir: Path) -> list[RetrievalDataset]:
    """Without a query that is reported."""
    scifact = read_retrieval(data_dir / "retrieval" / "scifact", judgements="qrels.train.tsv")
    cranfield = read_retrieval(data_dir / "retrieval" / "cranfield", judgements="qrels.tsv")
    return [scifact, only_queries(cranfield, lambda query: int(query) % 2 == 1)]


async def find_examples(client: RetrievalClient, dataset: RetrievalDataset, bar: Progress) -> list[Example]:
    """One for each relevant document of each query, with others drawn from what is found for it."""
    await fill_collection(client, dataset.name, dataset, bar)
    documents = {document.id: document for document in dataset.documents}
    drawn = random.Random(_SEED)  # noqa: S311 - a repeatable choice, no secret
    examples = []
    for query, text in bar.track(dataset.queries.items(), description=f"Searching {dataset.name}"):
        answer = await client.search(text, collection=dataset.name, limit=_OTHERS_AMONG, group_by_document=True)
        found = {hit.document_id: hit for hit in answer.hits}
        relevant = [name for name, grade in dataset.judgements[query].items() if grade > 0 and name in documents]
        others = [read_text(hit) for name, hit in found.items() if name not in relevant]
        if len(others) < _OTHERS:
            continue
        for name in relevant:
            best = read_text(found.get(name) or documents[name])
            examples.append(Example(text, [best, *drawn.sample(others, _OTHERS)]))
    return examples


def read_text(of: Hit | DocumentIn) -> str:
    """As the service gives a chunk to its reranker: under its title and headings. A document that was not found is read from
    its beginning."""
    headings, context = (of.headings, of.context) if isinstance(of, Hit) else ((), None)
    place = " > ".join(dict.fromkeys(name for name in (of.title, *headings) if name))
    return "\n".join(part for part in (place, context, of.text) if part)


def train(
    start: Path,
    examples: Sequence[Example],
    folder: Path,
    *,
    epochs: int,
    learning_rate: float = _LEARNING_RATE,
    bar: Progress,
) -> list[float]:
    """Writes the model to `folder`; the mean loss of each epoch. Minutes, in all cores."""
    # They cost seconds.
    import torch  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own
    torch.manual_seed(_SEED)
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1)
    model.train()
    steps = epochs * -(-len(examples) // _LISTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=_WARM_UP_SHARE, anneal_strategy="linear"
    )
    shuffled, losses = random.Random(_SEED), []  # noqa: S311 - as above
    task = bar.add_task("Training", total=steps)
    for _ in range(epochs):
        order = shuffled.sample(examples, len(examples))
        total = 0.0
        for first in range(0, len(order), _LISTS):
            lists = order[first : first + _LISTS]
            loss = _loss(model, tokenizer, lists)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item() * len(lists)
            bar.advance(task)
        losses.append(round(total / len(order), 4))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return losses


def _loss(model: Any, tokenizer: Any, lists: Sequence[Example]) -> "torch.Tensor":
    from torch import long as integers  # noqa: PLC0415
    from torch import nn, zeros  # noqa: PLC0415

    pairs = [(example.query, text) for example in lists for text in example.texts]
    inputs = tokenizer(
        [query for query, _ in pairs],
        [text for _, text in pairs],
        padding=True,
        truncation="longest_first",
        max_length=_TOKENS_MAX,
        return_tensors="pt",
    )
    scores = model(**inputs).logits.reshape(len(lists), -1)
    return nn.functional.cross_entropy(scores, zeros(len(lists), dtype=integers))


if __name__ == "__main__":
    main()
