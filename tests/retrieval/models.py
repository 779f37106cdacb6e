"""The packaged model in real files, changed where a test needs another kind of model."""

import json
import shutil
from pathlib import Path
from typing import Any

from retrieval.models.backends import model_location

MODEL = "all-MiniLM-L6-v2"


def packaged() -> Path:
    return Path(model_location(MODEL))


def copy_model(directory: Path, **changes: dict[str, Any]) -> Path:
    """A folder with the packaged model's files. `changes` are by file, without `.json`: what to set in it."""
    shutil.copytree(packaged(), directory, ignore=shutil.ignore_patterns("*.md", "data_config.json", "vocab.txt"))
    for name, fields in changes.items():
        path = directory / {"pooling": "1_Pooling/config.json"}.get(name, f"{name}.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return directory


def make_cross_encoder(directory: Path, *, labels: int = 1, seed: int = 7) -> Path:
    """A folder with a tiny cross-encoder: the packaged tokenizer, and weights that are random but always the same."""
    import torch  # noqa: PLC0415 - costs seconds, which only the tests of reranking need spend
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(packaged())
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        # Wide, or all scores would be nearly the same.
        initializer_range=0.5,
        id2label={number: f"label {number}" for number in range(labels)},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
