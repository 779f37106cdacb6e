"""Texts to the arrays that a sentence encoder reads, without torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.models.embedder import TextKind
from retrieval.models.files import SentenceEncoder

Int64Array = NDArray[np.int64]


class EncoderInputs:
    def __init__(self, encoder: SentenceEncoder) -> None:
        self._prompts = encoder.prompts
        self._batches = Tokenizer.from_file(str(encoder.directory / "tokenizer.json"))
        self._batches.enable_truncation(encoder.tokens_max)
        self._batches.enable_padding(pad_id=encoder.pad_id)
        # Its own copy, since a tokenizer that truncates and pads is not to be shared between threads.
        self._whole = Tokenizer.from_file(str(encoder.directory / "tokenizer.json"))
        self._whole.no_truncation()
        self._whole.no_padding()
        self.tokens_max = encoder.tokens_max - len(self._whole.encode("").ids)

    def encode(self, texts: Sequence[str], kind: TextKind) -> tuple[Int64Array, Int64Array]:
        """Token ids and mask, both of shape (texts, tokens of the longest)."""
        prompt = self._prompts[kind]
        encodings = self._batches.encode_batch([prompt + text for text in texts])
        ids = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        return ids, np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)

    def token_starts(self, text: str) -> Sequence[int]:
        return [start for start, _ in self._whole.encode(text, add_special_tokens=False).offsets]
