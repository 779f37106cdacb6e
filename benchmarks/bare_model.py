"""The model alone, in a process of its own: `python -m benchmarks.bare_model DIRECTORY` reads a JSON list of texts from standard
input and prints the seconds that embedding them took, without a service around it. DIRECTORY is a service's own folder.

It is the service's own backend, with its batches, so that the difference is the service.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bare import load_model
from retrieval.models.batching import choose_batch
from retrieval.models.embedder import Embedder, TextKind
from shared.tokens import estimate_tokens
from shared.vectors import Float32Array

# As the service has it by default (embed_batch_tokens_max).
_BATCH_TOKENS: Final = 256
_LOOK_AHEAD_TEXTS: Final = 64
_WARM_UP_TEXTS: Final = 32


def embed_all(
    embedder: Embedder,
    texts: Sequence[str],
    kind: TextKind = "document",
    *,
    on_done: Callable[[int], None] = lambda _: None,
) -> Float32Array:
    """Shape (texts, d): in batches as the service makes them of texts that all wait, as many side by side as it gives the model.
    `on_done` hears how many texts each was."""
    vectors = np.zeros((len(texts), embedder.dimensions), dtype=np.float32)

    def embed(places: list[int]) -> None:
        vectors[places] = embedder.embed([texts[place] for place in places], kind)
        on_done(len(places))

    with ThreadPoolExecutor(embedder.batches_at_once) as threads:
        list(threads.map(embed, _batches(texts, embedder.tokens_max)))
    return vectors


def _batches(texts: Sequence[str], tokens_max: int) -> Iterator[list[int]]:
    """Places of texts that go together."""
    waiting = [(place, min(estimate_tokens(text), tokens_max)) for place, text in enumerate(texts)]
    while waiting:
        ahead = [tokens for _, tokens in waiting[:_LOOK_AHEAD_TEXTS]]
        chosen = {waiting[each][0] for each in choose_batch(ahead, _BATCH_TOKENS)}
        yield sorted(chosen)
        waiting = [work for work in waiting if work[0] not in chosen]


def main() -> None:
    embedder = load_model(Path(sys.argv[1]))
    texts: list[str] = json.load(sys.stdin)
    embed_all(embedder, texts[:_WARM_UP_TEXTS])
    started = time.perf_counter()
    embed_all(embedder, texts)
    print(json.dumps(time.perf_counter() - started))


if __name__ == "__main__":
    main()
