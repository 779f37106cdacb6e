"""What a folder of sentence-transformers files says about the model in it, as far as our own graph can compute it.

The graph knows BERT with mean or first-token pooling, which covers the packaged model and many like it (MiniLM, bge, e5,
gte). Whatever else a folder asks for is refused here with the reason, and left to sentence-transformers: a model that is
computed nearly right would look right.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from retrieval.models.embedder import TextKind

WEIGHTS: Final = "model.safetensors"
# Changed with the graph, so that files converted by an older version are not used.
_FORMAT: Final = b"1"
_OTHER_DOCUMENT_PROMPTS: Final = ("passage", "corpus")
_DESCRIBING: Final = (
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)


class NotConvertible(ValueError):
    """The folder's model is not one that our graph computes; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceEncoder:
    """A BERT and how its vectors become one. `tokens_max` includes the special tokens."""

    directory: Path
    dimensions: int
    layers: int
    heads: int
    epsilon: float
    vocabulary: int
    pad_id: int
    tokens_max: int
    pooling: Literal["mean", "cls"]
    prompts: Mapping[TextKind, str]

    def digest(self) -> str:
        """Of everything that decides what the model computes. Reads all weights: a tenth of a second for 90 MB."""
        digest = hashlib.sha256(_FORMAT)
        for name in _DESCRIBING:
            path = self.directory / name
            digest.update(path.read_bytes() if path.is_file() else b"-")
        with (self.directory / WEIGHTS).open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
        return digest.hexdigest()


def read_encoder(directory: Path) -> SentenceEncoder:
    """Raises NotConvertible, and OSError where the files cannot be read."""
    for name in ("config.json", "modules.json", "tokenizer.json", WEIGHTS):
        if not (directory / name).is_file():
            raise NotConvertible(f"it has no {name}")
    config = _read(directory / "config.json")
    _require(config, "model_type", "bert")
    _require(config, "hidden_act", "gelu")
    _require(config, "position_embedding_type", "absolute")
    pooling = _pooling(directory)
    limits = _read(directory / "sentence_bert_config.json")
    _require(limits, "do_lower_case", wanted=False)
    positions = int(config["max_position_embeddings"])
    tokenizer = _read(directory / "tokenizer_config.json")
    tokens_max = limits.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    return SentenceEncoder(
        directory=directory,
        dimensions=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        epsilon=float(config["layer_norm_eps"]),
        vocabulary=int(config["vocab_size"]),
        pad_id=int(config.get("pad_token_id") or 0),
        tokens_max=min(int(tokens_max), positions),
        pooling=pooling,
        prompts=_prompts(_read(directory / "config_sentence_transformers.json")),
    )


def _pooling(directory: Path) -> Literal["mean", "cls"]:
    modules = [module["type"].rpartition(".")[2] for module in json.loads((directory / "modules.json").read_text())]
    if modules not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise NotConvertible(f"it is made of {', '.join(modules)}")
    pooling = _read(directory / "1_Pooling" / "config.json")
    _require(pooling, "include_prompt", wanted=True)
    modes = [name for name, chosen in pooling.items() if name.startswith("pooling_mode_") and chosen is True]
    match modes or [str(pooling.get("pooling_mode"))]:
        case ["pooling_mode_mean_tokens"] | ["mean"]:
            return "mean"
        case ["pooling_mode_cls_token"] | ["cls"]:
            return "cls"
        case other:
            raise NotConvertible(f"its pooling is {other}")


def _prompts(config: Mapping[str, Any]) -> dict[TextKind, str]:
    """As sentence-transformers 6 chooses them for `encode_query` and `encode_document`."""
    prompts: dict[str, str | None] = config.get("prompts") or {}
    if not prompts.get("document") and any(prompts.get(name) for name in _OTHER_DOCUMENT_PROMPTS):
        raise NotConvertible("its prompt for documents has a name whose meaning changed with versions")
    return {"query": prompts.get("query") or "", "document": prompts.get("document") or ""}


def _require(config: Mapping[str, Any], name: str, wanted: object) -> None:
    """An absent field means the common case in every version of these files."""
    if config.get(name, wanted) != wanted:
        raise NotConvertible(f"its {name} is {config[name]!r}")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read
