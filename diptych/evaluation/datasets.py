"""Documents, queries and judgements as BEIR lays them out: corpus.jsonl, queries.jsonl, and qrels*.tsv or qrels/*.tsv."""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from diptych.evaluation.lines import fingerprint, read_lines, read_text, sample
from shared.errors import SettingsError
from shared.retrieval_messages import DocumentIn

Judgements = dict[str, dict[str, int]]

_COLUMNS: Final = 3
# What a folder's judgements are called when it has several and nobody chose: BEIR's own name for what is reported.
_USUAL: Final = ("qrels.tsv", "qrels/test.tsv")


class _Document(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str = ""
    title: str | None = None
    metadata: dict[str, Any] | None = None


class _Query(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="_id")
    text: str = msgspec.field()
    metadata: dict[str, Any] | None = None

    @property
    def filter(self) -> dict[str, Any] | None:
        """What the query is narrowed by, as `diptych feedback export` writes it. Others keep other things there."""
        found = (self.metadata or {}).get("filter")
        return found if isinstance(found, dict) and found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalDataset:
    """`queries` are texts by id, and each has at least one judgement above 0; nothing else is asked. `filters` are what some
    of them are narrowed by.

    `sha256` is of what is used: documents, queries and judgements, after any of them were left out.
    """

    name: str
    documents: list[DocumentIn]
    queries: dict[str, str]
    judgements: Judgements
    filters: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        narrowed = [self.filters] if self.filters else []
        return fingerprint(self.documents_sha256, self.queries, self.judgements, *narrowed)

    @property
    def documents_sha256(self) -> str:
        """Of the documents, whatever is asked of them."""
        return fingerprint(
            [
                (each.id, each.title or "", each.text, *([each.metadata] if each.metadata else []))
                for each in sorted(self.documents, key=lambda each: each.id or "")
            ]
        )

    @property
    def counts(self) -> dict[str, int]:
        """`judged_absent` counts judged documents that the corpus lacks: no search can find them."""
        known = {each.id for each in self.documents}
        judged = {document for grades in self.judgements.values() for document in grades}
        return {
            "documents": len(self.documents),
            "queries": len(self.queries),
            "judgements": sum(map(len, self.judgements.values())),
            "judged_absent": len(judged - known) if known else 0,
        }


def read_retrieval(folder: Path, *, judgements: str | None = None, has_corpus: bool = True) -> RetrievalDataset:
    """`judgements` names their file within the folder. Without a corpus the documents must be in the service already.

    Documents without text are left out. Raises SettingsError that says which file or line is wrong.
    """
    corpus = folder / "corpus.jsonl"
    documents = read_lines(corpus, _Document) if has_corpus or corpus.exists() else []
    grades = _read_judgements(_judgements_file(folder, judgements))
    queries = {query.id: query for query in read_lines(folder / "queries.jsonl", _Query)}
    if unknown := [query for query in grades if query not in queries]:
        raise SettingsError(f"{folder}: judged queries have no line in queries.jsonl: {', '.join(unknown[:5])}")
    if not grades:
        raise SettingsError(f"{folder}: no query has a judgement above 0")
    return RetrievalDataset(
        name=folder.resolve().name,
        documents=[
            DocumentIn(id=each.id, title=each.title or None, text=each.text, metadata=each.metadata or None)
            for each in documents
            if each.text.strip()
        ],
        queries={name: query.text for name, query in queries.items() if name in grades},
        judgements=grades,
        filters={name: query.filter for name, query in queries.items() if name in grades and query.filter},
    )


def only_queries(dataset: RetrievalDataset, keep: Collection[str] | Callable[[str], bool]) -> RetrievalDataset:
    """With the same documents."""
    chosen = {query for query in dataset.queries if (keep(query) if callable(keep) else query in keep)}
    return dataclasses.replace(
        dataset,
        queries={query: text for query, text in dataset.queries.items() if query in chosen},
        judgements={query: grades for query, grades in dataset.judgements.items() if query in chosen},
        filters={query: found for query, found in dataset.filters.items() if query in chosen},
    )


def sliced(
    dataset: RetrievalDataset, *, queries_max: int | None = None, documents_max: int | None = None, seed: int = 0
) -> RetrievalDataset:
    """Queries by lot; then all that they judge, and by lot as many other documents as there is room for.

    Fewer documents are easier to tell apart: numbers over a slice compare with each other, not with those of the whole.
    """
    chosen = only_queries(dataset, sample(dataset.queries, queries_max, seed))
    if documents_max is None:
        return chosen
    judged = {document for grades in chosen.judgements.values() for document in grades}
    others = [each.id for each in dataset.documents if each.id is not None and each.id not in judged]
    kept = judged | sample(others, max(0, documents_max - len(judged)), seed)
    return dataclasses.replace(chosen, documents=[each for each in dataset.documents if each.id in kept])


def _judgements_file(folder: Path, name: str | None) -> Path:
    if name is not None:
        return folder / name
    for usual in _USUAL:
        if (folder / usual).is_file():
            return folder / usual
    found = sorted([*folder.glob("qrels*.tsv"), *folder.glob("qrels/*.tsv")])
    if len(found) == 1:
        return found[0]
    if not found:
        raise SettingsError(f"{folder} has no judgements: qrels.tsv, qrels.*.tsv or qrels/*.tsv")
    names = ", ".join(str(path.relative_to(folder)) for path in found)
    raise SettingsError(f"{folder} has several files of judgements; name one of them: {names}")


def _read_judgements(path: Path) -> Judgements:
    """Grades of 0 and below are left out: nothing is won by finding these."""
    grades: Judgements = {}
    # Not `splitlines`, which ends a line at characters that an id may have.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) != _COLUMNS:
            raise SettingsError(f"{path} line {number}: query, document and grade are wanted, with tabs between them")
        grade = _grade(fields[2])
        if grade is None and number > 1:
            raise SettingsError(f"{path} line {number}: the grade {fields[2]!r} is not a whole number")
        if grade is not None and grade > 0:
            grades.setdefault(fields[0], {})[fields[1]] = grade
    return grades


def _grade(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
