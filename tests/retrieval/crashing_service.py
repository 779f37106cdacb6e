"""A retrieval service in a process of its own, with the hash embedder, that kills itself where a test asks for it.

Every batch is written down before it is embedded, so that a test can count over any number of crashes.
`CRASH_BEFORE_BATCH=n` dies as the n-th batch starts; a text with the word `poison` dies wherever it is embedded.
"""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from retrieval.app import build_retrieval
from retrieval.models.embedder import TextKind
from retrieval.models.hash_embedder import HashEmbedder
from retrieval.settings import RetrievalSettings
from shared.process import service_command
from shared.vectors import Float32Array

# As long as a fast model takes for a few texts. An instant one would be done before anything could be written.
_BATCH_S = 0.03


class CrashingEmbedder(HashEmbedder):
    def __init__(self, name: str, record: Path, crash_before: int) -> None:
        super().__init__(name=name)
        self._record = record
        self._batches_left = crash_before

    def embed(self, texts: Sequence[str], kind: TextKind) -> Float32Array:
        self._batches_left -= 1
        with self._record.open("a", encoding="utf-8") as record:
            record.write(repr(list(texts)) + "\n")
        if self._batches_left == 0 or any("poison" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(_BATCH_S)
        return super().embed(texts, kind)


def build(settings: RetrievalSettings) -> web.Application:
    record, crash_before = Path(os.environ["CRASH_RECORD"]), int(os.environ.get("CRASH_BEFORE_BATCH", "0"))
    return build_retrieval(settings, lambda name: CrashingEmbedder(name, record, crash_before))


if __name__ == "__main__":
    service_command(RetrievalSettings, build)()
