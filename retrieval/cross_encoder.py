"""A cross-encoder of sentence-transformers, by name or path."""

from collections.abc import Sequence
from typing import Final

from shared.errors import SettingsError

# Pairs are sorted by length by the library; larger batches were no faster on a CPU.
_BATCH_PAIRS: Final = 16


class SentenceTransformerCrossScorer:
    def __init__(self, name: str) -> None:
        """Loads the model: seconds, in a thread. Raises SettingsError where there is none of that name."""
        # Imported here because it costs seconds, which only a server that reranks need spend.
        from sentence_transformers import CrossEncoder  # noqa: PLC0415

        try:
            self._model = CrossEncoder(name)
        except (OSError, ValueError) as error:
            raise SettingsError(f"the reranking model {name!r} could not be loaded: {error}") from error

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        found = self._model.predict(
            [(query, text) for text in texts], batch_size=_BATCH_PAIRS, show_progress_bar=False, convert_to_numpy=True
        )
        return [float(score) for score in found]
