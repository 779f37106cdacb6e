"""The model alone, in a process of its own: `python -m benchmarks.bare_model DIRECTORY` reads a JSON list of texts from standard
input and prints the seconds that embedding them took, without a service around it. DIRECTORY is a service's own folder.

It is the service's own backend, with its batches, so that the difference is the service.
"""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.bare import load_model
from retrieval.models.batching import choose_batch
from shared.tokens import estimate_tokens

# As the service has it by default (embed_batch_tokens_max).
_BATCH_TOKENS: Final = 256
_LOOK_AHEAD_TEXTS: Final = 64
_WARM_UP_TEXTS: Final = 32


def batches(texts: list[str]) -> list[list[str]]:
    """As the service makes them of texts that all wait."""
    found, waiting = [], list(texts)
    while waiting:
        ahead = waiting[:_LOOK_AHEAD_TEXTS]
        chosen = sorted(choose_batch([estimate_tokens(text) for text in ahead], _BATCH_TOKENS))
        found.append([waiting[index] for index in chosen])
        for index in reversed(chosen):
            del waiting[index]
    return found


def main() -> None:
    embedder = load_model(Path(sys.argv[1]))
    texts: list[str] = json.load(sys.stdin)
    for batch in batches(texts[:_WARM_UP_TEXTS]):
        embedder.embed(batch, "document")
    started = time.perf_counter()
    with ThreadPoolExecutor(embedder.batches_at_once) as threads:
        list(threads.map(lambda batch: embedder.embed(batch, "document"), batches(texts)))
    print(json.dumps(time.perf_counter() - started))


if __name__ == "__main__":
    main()
