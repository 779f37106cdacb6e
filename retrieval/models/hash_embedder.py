"""A model for tests only: a bag of words hashed into a few dimensions. Deterministic, instant, and no judge of meaning."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from retrieval.models.embedder import TextKind
from shared.vectors import Float32Array

_WORD = re.compile(r"\w+|[^\w\s]")


class HashEmbedder:
    backend = "hash"
    precision = "fp32"
    batches_at_once = 1

    def __init__(self, *, name: str = "hash", dimensions: int = 64, tokens_max: int = 254) -> None:
        self.name = name
        self.dimensions = dimensions
        self.tokens_max = tokens_max
        # What was embedded, so that tests can prove that work was skipped.
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        if kind == "document":
            self.embedded += texts
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()) or [""]:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                vectors[row, int.from_bytes(digest[:4]) % self.dimensions] += 1.0 if digest[4] % 2 else -1.0
            vectors[row, 0] += 1e-3  # words that cancel out must not leave a zero vector
        norms: Float32Array = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    def token_starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in _WORD.finditer(text)]
