"""Which summarizer speaks for a span, and in whose thread."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from memory.records import Line
from memory.span_text import Composed, compose, merge
from shared.memory_messages import Span
from shared.threads import run_in

EXTRACTIVE: Final = "extractive.1"


class Summaries:
    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def of_turns(self, lines: Sequence[Line], tokens_max: int) -> tuple[Composed, str]:
        """What a span says of these turns, and the name of the summarizer that said it."""
        return await run_in(self._threads, compose, lines, tokens_max), EXTRACTIVE

    async def of_spans(self, spans: Sequence[Span], tokens_max: int) -> tuple[Composed, str]:
        """What a span says that stands for others."""
        return await run_in(self._threads, merge, spans, tokens_max), EXTRACTIVE
