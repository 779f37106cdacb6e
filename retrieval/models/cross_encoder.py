"""A cross-encoder of sentence-transformers, by name or path."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shared.errors import SettingsError

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class SentenceTransformerCrossScorer:
    def __init__(self, name: str) -> None:
        """Loads the model: seconds, in a thread. Raises SettingsError where there is none of that name that can rerank."""
        # Imported here because it costs seconds, which only a server that reranks need spend.
        from safetensors import SafetensorError  # noqa: PLC0415
        from sentence_transformers import CrossEncoder  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

        disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers' own
        try:
            self._model = CrossEncoder(name)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise SettingsError(f"the reranking model {name!r} could not be loaded: {error}") from error
        _refuse_what_cannot_rerank(name, self._model)

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        found = self._model.predict(
            [(query, text) for text in texts], batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True
        )
        return [float(score) for score in found]


def _refuse_what_cannot_rerank(name: str, model: "CrossEncoder") -> None:
    """Raises SettingsError. An embedding model would load too, with a head of random numbers and nothing but a warning."""
    config = model.config
    if config is None:
        return
    made_of, trained = type(model.model).__name__, config.architectures or []
    if trained and made_of not in trained:
        raise SettingsError(
            f"the model {name!r} cannot rerank: it is a {', '.join(trained)}, which has no part that gives a score.\n"
            "  Name a cross-encoder in rerank_models, such as cross-encoder/ms-marco-MiniLM-L6-v2."
        )
    if config.num_labels != 1:
        raise SettingsError(f"the model {name!r} cannot rerank: it tells {config.num_labels} classes apart")
