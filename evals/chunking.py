"""Which way of cutting keeps the excerpts that answer a question together, and finds them.

    python -m evals.chunking

The set is data/retrieval/chunking-eval: questions over five long texts, with the exact excerpts that answer them. Every
way of cutting fills a collection of its own at a running service: ours by the collection's `chunking`, the others as
documents that are cut beforehand, so that model, indexes and fusion are the same for all. Printed and written to
evals/results/chunking.json, for hybrid and for dense search:

- recall, precision and IoU of the five best chunks, and the precision that the cutting alone allows (evals/excerpts.py);
- recall of an equal budget of 500, 1000 and 2000 tokens: the best chunks in order, the last one cut;
- `packed`: the same budgets spent by the service's `max_tokens` on ten hits, its default, which merges and widens them.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.progress import Progress
from tokenizers import Tokenizer

from benchmarks.data import data_option
from benchmarks.pair import running_pair
from benchmarks.report import Machine, as_json, err, print_results, progress_bar, table_of, this_machine
from diptych import RetrievalClient
from evals.cutters import every_so_many, recursively
from evals.data import packaged_model
from evals.excerpts import Span, best_precision, coverage, within
from shared.errors import SettingsError
from shared.retrieval_messages import Chunking, CollectionSpec, DocumentIn, SearchAnswer, SearchMode

_RESULTS: Final = Path(__file__).parent / "results" / "chunking.json"
_SET: Final = "retrieval/chunking-eval"
_MODES: Final[tuple[SearchMode, ...]] = ("hybrid", "dense")
_BUDGETS: Final = (500, 1000, 2000)
_TOP: Final = 5
# Enough chunks of the smallest size to fill the largest budget.
_HITS: Final = 60
# As shared.tokens estimates English.
_CHARACTERS_PER_TOKEN: Final = 4
_INGEST_TIMEOUT_S: Final = 3600.0
_POLL_S: Final = 0.2
_DOCUMENTS_PER_REQUEST: Final = 500

Cut = Callable[[str, Sequence[int]], list[tuple[int, int]]]


@dataclass(frozen=True, slots=True)
class Variant:
    """`cut` is None for ours: then the service cuts."""

    name: str
    chunking: Chunking
    cut: Cut | None = None


class Question(msgspec.Struct, frozen=True, rename={"id": "_id"}):
    id: str
    text: str
    corpus_id: str
    references: list["Reference"]

    @property
    def excerpts(self) -> list[Span]:
        return [Span(self.corpus_id, each.start_index, each.end_index) for each in self.references]


class Reference(msgspec.Struct, frozen=True):
    start_index: int
    end_index: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the questions. `recall_in` and `packed_recall_in` are by budget in tokens."""

    variant: str
    mode: SearchMode
    chunks: int
    characters_mean: float
    recall: float
    precision: float
    iou: float
    best_precision: float
    recall_in: dict[int, float]
    packed_recall_in: dict[int, float]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    questions: int
    characters: dict[str, int]
    top: int
    rows: list[Row]


def _variants() -> dict[str, Variant]:
    # As large as the model reads: what was cut beforehand must stay in one piece.
    whole = Chunking(max_tokens=8192)
    ours = [
        Variant(f"ours {size}" + (f"/{overlap}" if overlap else ""), Chunking(max_tokens=size, overlap_tokens=overlap))
        for size, overlap in ((64, 0), (96, 0), (128, 0), (160, 0), (192, 0), (256, 0), (128, 32), (192, 48), (256, 64))
    ]
    plain = [
        Variant(
            f"{name} {size}" + (f"/{overlap}" if overlap else ""), whole, partial(cut, tokens=size, overlap=overlap)
        )
        for name, cut in (("fixed", every_so_many), ("recursive", recursively))
        for size, overlap in ((64, 0), (128, 0), (200, 0), (200, 50))
    ]
    return {variant.name: variant for variant in (*ours, *plain)}


async def evaluate(
    client: RetrievalClient, texts: dict[str, str], questions: Sequence[Question], names: Iterable[str], bar: Progress
) -> list[Row]:
    tokenizer = _tokenizer()
    rows = []
    for name in names:
        variant = _variants()[name]
        await _fill(client, variant, texts, tokenizer)
        spans = await _all_chunks(client, name)
        for mode in _MODES:
            task = bar.add_task(f"{name}, {mode}", total=len(questions))
            rows.append(await _row(client, variant, mode, questions, spans, partial(bar.advance, task)))
    return rows


async def _fill(client: RetrievalClient, variant: Variant, texts: dict[str, str], tokenizer: Tokenizer) -> None:
    name = _collection(variant.name)
    await client.put_collection(name, CollectionSpec(chunking=variant.chunking))
    documents = []
    for corpus, text in texts.items():
        ranges = [(0, len(text))]
        if variant.cut is not None:
            starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]
            ranges = [part for part in variant.cut(text, starts) if text[slice(*part)].strip()]
        documents += [DocumentIn(id=f"{corpus}:{start}", text=text[start:end]) for start, end in ranges]
    for first in range(0, len(documents), _DOCUMENTS_PER_REQUEST):
        accepted = await client.ingest(name, documents[first : first + _DOCUMENTS_PER_REQUEST], wait=False)
        async with asyncio.timeout(_INGEST_TIMEOUT_S):
            while (job := await client.job(accepted.job.id)).status in {"queued", "running"}:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        if job.status != "succeeded" or job.failed:
            raise SettingsError(f"{variant.name} was not ingested: {job.errors}")


async def _all_chunks(client: RetrievalClient, name: str) -> list[Span]:
    found, cursor = [], None
    while True:
        page = await client.documents(_collection(name), cursor=cursor, limit=1000)
        for info in page.items:
            document = await client.document(_collection(name), info.id)
            found += [_span(info.id, chunk.start, chunk.end) for chunk in document.passages]
        if (cursor := page.next_cursor) is None:
            return found


async def _row(
    client: RetrievalClient,
    variant: Variant,
    mode: SearchMode,
    questions: Sequence[Question],
    chunks: Sequence[Span],
    done: Callable[[], None],
) -> Row:
    scores, best = [], []
    recall_in: dict[int, list[float]] = {budget: [] for budget in _BUDGETS}
    packed_in: dict[int, list[float]] = {budget: [] for budget in _BUDGETS if variant.cut is None}
    by_corpus = {corpus: [chunk for chunk in chunks if chunk.corpus == corpus] for corpus in {c.corpus for c in chunks}}
    for question in questions:
        ask = partial(client.search, question.text, collection=_collection(variant.name), mode=mode)
        hits = _spans(await ask(limit=_HITS))
        scores.append(coverage(question.excerpts, hits[:_TOP]))
        best.append(best_precision(question.excerpts, by_corpus[question.corpus_id]))
        for budget, values in recall_in.items():
            values.append(coverage(question.excerpts, within(hits, budget * _CHARACTERS_PER_TOKEN)).recall)
        for budget, values in packed_in.items():
            packed = _spans(await ask(max_tokens=budget))
            values.append(coverage(question.excerpts, packed).recall)
        done()
    return Row(
        variant=variant.name,
        mode=mode,
        chunks=len(chunks),
        characters_mean=_mean([chunk.length for chunk in chunks]),
        recall=_mean([score.recall for score in scores]),
        precision=_mean([score.precision for score in scores]),
        iou=_mean([score.iou for score in scores]),
        best_precision=_mean(best),
        recall_in={budget: _mean(values) for budget, values in recall_in.items()},
        packed_recall_in={budget: _mean(values) for budget, values in packed_in.items()},
    )


def _spans(answer: SearchAnswer) -> list[Span]:
    return [_span(hit.document_id, hit.start, hit.end) for hit in answer.hits]


def _span(document_id: str, start: int, end: int) -> Span:
    corpus, _, offset = document_id.rpartition(":")
    return Span(corpus, int(offset) + start, int(offset) + end)


def _collection(variant: str) -> str:
    return variant.replace(" ", "-").replace("/", "-")


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0


def _tokenizer() -> Tokenizer:
    """Of the packaged model, so that the others' sizes are measured as ours are."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(packaged_model() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_set(data_dir: Path, characters: int) -> tuple[dict[str, str], list[Question]]:
    """The texts, cut to so many characters, and the questions that can be answered from them. Raises SettingsError."""
    folder = data_dir / _SET
    if not folder.is_dir():
        raise SettingsError(f"there is no {_SET} in {data_dir}; set EVAL_DATA to the folder of evaluation data")
    texts = {path.stem: path.read_bytes().decode()[:characters] for path in sorted(folder.glob("corpora/*.md"))}
    lines = (folder / "questions.jsonl").read_bytes().splitlines()
    asked = [msgspec.json.decode(line, type=Question) for line in lines]
    return texts, [one for one in asked if max(span.end for span in one.excerpts) <= len(texts[one.corpus_id])]


@asynccontextmanager
async def _service(data_dir: Path | None) -> AsyncIterator[RetrievalClient]:
    with tempfile.TemporaryDirectory(prefix="diptych-chunking-") as scratch:
        async with running_pair(data_dir or Path(scratch)) as pair, RetrievalClient(pair.retrieval_url) as client:
            yield client


async def _run(
    texts: dict[str, str], questions: Sequence[Question], names: Sequence[str], keep: Path | None
) -> list[Row]:
    with progress_bar() as bar:
        async with _service(keep) as client:
            return await evaluate(client, texts, questions, names, bar)


def _report(results: Results) -> None:
    columns = ["cutting", "chunks", "chars", f"recall@{_TOP}", "prec.", "IoU", "best p."]
    columns += [f"r{budget}" for budget in _BUDGETS] + [f"p{budget}" for budget in _BUDGETS]
    tables = {}
    for mode in _MODES:
        rows = [
            [row.variant, str(row.chunks), f"{row.characters_mean:.0f}"]
            + [f"{value:.3f}" for value in (row.recall, row.precision, row.iou, row.best_precision)]
            + [f"{row.recall_in[budget]:.3f}" for budget in _BUDGETS]
            + [f"{row.packed_recall_in[budget]:.3f}" if row.packed_recall_in else "" for budget in _BUDGETS]
            for row in results.rows
            if row.mode == mode
        ]
        title = f"{mode}, {results.questions} questions; r: recall in so many tokens, p: packed to so many"
        tables[title] = table_of(columns, rows)
    print_results(results.machine, tables)


@click.command()
@data_option
@click.option("--only", multiple=True, help="A way of cutting, by name; can be given again. Without it, all.")
@click.option("--characters", default=1_000_000, show_default=True, help="At most so much of each text.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder that keeps the services' data, so that another run embeds only what it has not seen.",
)
@click.option("--write/--no-write", default=True, help="Whether to write evals/results/chunking.json.")
def main(data_dir: Path, only: tuple[str, ...], characters: int, keep: Path | None, *, write: bool) -> None:
    """Evaluate ways of cutting documents into chunks."""
    if unknown := set(only) - set(_variants()):
        raise click.UsageError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_variants())}")
    texts, questions = read_set(data_dir, characters)
    machine = this_machine()
    rows = asyncio.run(_run(texts, questions, only or list(_variants()), keep))
    results = Results(
        machine=machine,
        questions=len(questions),
        characters={corpus: len(text) for corpus, text in texts.items()},
        top=_TOP,
        rows=rows,
    )
    _report(results)
    if write:
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_bytes(as_json(results) + b"\n")
        err.print("written to evals/results/chunking.json")


if __name__ == "__main__":
    main()
