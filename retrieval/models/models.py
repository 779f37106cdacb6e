"""The models that this server may embed with, each with a queue and threads of its own (batcher.py).

Who runs the server names them, because a name may be a path and each costs memory; callers may only choose among them. The
default one is loaded at the start, another one by its first use. They compute side by side: with one queue, queries of a
small model would wait for whole batches of a large one that is being built beside it.
"""

from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry

from retrieval.models.batcher import Batcher, EmbedMetrics
from retrieval.models.embedder import Embedder
from shared.errors import SettingsError, invalid


class Models:
    """`load` is called in a thread, with the name of the model."""

    def __init__(
        self,
        load: Callable[[str], Embedder],
        *,
        default: str,
        more: Iterable[str],
        registry: CollectorRegistry,
        batch_tokens_max: int,
        queue_texts_max: int,
        cache_entries: int,
    ) -> None:
        self.allowed = tuple(dict.fromkeys((default, *more)))
        self._load = load
        self._make = partial(
            Batcher,
            metrics=EmbedMetrics(registry),
            batch_tokens_max=batch_tokens_max,
            queue_texts_max=queue_texts_max,
            cache_entries=cache_entries,
        )
        self._batchers: dict[str, Batcher] = {}

    @property
    def default(self) -> Batcher:
        return self.of(self.allowed[0])

    def of(self, name: str) -> Batcher:
        """Starts loading on first use, and again after loading has failed. Raises InvalidFields for a model that is not
        allowed."""
        self.check(name, "$.model")
        batcher = self._batchers.get(name)
        if batcher is not None and batcher.failure is None:
            return batcher
        batcher = self._batchers[name] = self._make(partial(self._load, name))
        batcher.start()
        return batcher

    def check(self, name: str, path: str) -> None:
        """Raises InvalidFields."""
        if name not in self.allowed:
            known = ", ".join(map(repr, self.allowed))
            raise invalid(path, f"this server embeds with {known}, not with {name!r}; more_models allows others")

    async def embedder(self, name: str) -> Embedder:
        """The model, once it is loaded. Raises what loading raised."""
        return await self.of(name).embedder()

    async def wanted(self, name: str, path: str) -> Embedder:
        """As `embedder`, for a model that a caller asks for. Raises InvalidFields where it cannot be had."""
        self.check(name, path)
        try:
            return await self.embedder(name)
        except SettingsError as error:
            raise invalid(path, str(error)) from error

    def loaded(self) -> list[str]:
        return [name for name, batcher in self._batchers.items() if batcher.is_loaded]

    async def close(self) -> None:
        """Returns when the batches in hand are finished."""
        for batcher in self._batchers.values():
            await batcher.close()
