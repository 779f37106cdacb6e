"""The packaged model in real files, changed where a test needs another kind of model."""

import json
import shutil
from pathlib import Path
from typing import Any

from retrieval.backends import model_location

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
