"""The model alone, in a process of its own: `python -m benchmarks.bare_model` reads a JSON list of texts from standard
input and prints the seconds that embedding them took, without a service around it.

It is the service's own backend, so that the difference is the service. That is why this reaches inside, by name: the
benchmarks use the services from outside otherwise, and import none of their modules.
"""

import importlib
import json
import sys
import time
from typing import Any, Final

# As the service has it by default (embed_batch_tokens_max), by its estimate of a quarter of a token per byte.
_BATCH_TOKENS: Final = 512
_BYTES_PER_TOKEN: Final = 4
_WARM_UP_TEXTS: Final = 32


def batches(texts: list[str]) -> list[list[str]]:
    """Longest first, each batch padded to its longest within the budget: the best that is known of all the texts."""
    found: list[list[str]] = []
    for text in sorted(texts, key=len, reverse=True):
        longest = len((found[-1][0] if found else text).encode()) // _BYTES_PER_TOKEN + 1
        if found and longest * (len(found[-1]) + 1) <= _BATCH_TOKENS:
            found[-1].append(text)
        else:
            found.append([text])
    return found


def main() -> None:
    model: Any = importlib.import_module("retrieval.embedder")
    embedder = model.SentenceTransformerEmbedder("all-MiniLM-L6-v2", batch_texts_max=64)
    texts: list[str] = json.load(sys.stdin)
    for batch in batches(texts[:_WARM_UP_TEXTS]):
        embedder.embed(batch, "document")
    started = time.perf_counter()
    for batch in batches(texts):
        embedder.embed(batch, "document")
    print(json.dumps(time.perf_counter() - started))


if __name__ == "__main__":
    main()
