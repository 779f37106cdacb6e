"""The model: texts to unit vectors. The only importer of sentence_transformers, which takes seconds to import.

`Embedder` is what the service needs of a model. backends.py chooses which one it gets; the one here is for every model that
sentence-transformers can load, by name or path, and the reference that the others are held to.
"""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import numpy as np

from shared.errors import SettingsError
from shared.vectors import Float32Array

TextKind = Literal["query", "document"]

# Larger calls are cut, so that no one of them takes all memory.
_BATCH_TEXTS_MAX: Final = 64


class Embedder(Protocol):
    """Up to `batches_at_once` threads may embed side by side, and others may count tokens meanwhile."""

    name: str
    dimensions: int
    tokens_max: int

    @property
    def batches_at_once(self) -> int: ...

    @property
    def backend(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        """Unit vectors of shape (texts, dimensions), in order."""
        ...

    def token_starts(self, text: str) -> Sequence[int]:
        """The character offset of every token of `text`, special tokens left out."""
        ...


class SentenceTransformerEmbedder:
    backend: Final = "torch"
    precision: Final = "fp32"
    # Its tokenizer is not to be shared between threads, and one batch has all of torch's own.
    batches_at_once: Final = 1

    def __init__(self, name: str, location: str, *, threads: int) -> None:
        """Loads the model: seconds, in a thread. `threads` 0 is all cores. Raises SettingsError where there is none."""
        # Imported here because it costs 3.5 s, which health checks and `--help` need not wait for.
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        if threads:
            import torch  # noqa: PLC0415

            torch.set_num_threads(threads)
        disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own
        try:
            self._model = SentenceTransformer(location)
        except (OSError, ValueError) as error:
            raise SettingsError(f"the model {name!r} could not be loaded: {error}") from error
        self._model.eval()
        # A copy of its own: the model's tokenizer is truncating and padding while a batch runs, and not thread-safe.
        self._tokenizer = Tokenizer.from_str(self._model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.name = name
        self.dimensions = int(self._model.get_embedding_dimension() or 0)
        special = len(self._tokenizer.encode("").ids)
        self.tokens_max = int(self._model.max_seq_length or 512) - special

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        vectors = encode(list(texts), batch_size=_BATCH_TEXTS_MAX, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def token_starts(self, text: str) -> Sequence[int]:
        return [start for start, _ in self._tokenizer.encode(text, add_special_tokens=False).offsets]
