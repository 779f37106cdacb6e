"""Which summarizer speaks for a span, and in whose thread. A language model may refuse; the extract never does."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from memory.compaction.llm_summarizer import LlmSummarizer
from memory.compaction.span_text import Composed, compose, compose_around, merge, text_tokens
from memory.models.summary_checks import SummaryRefused
from memory.truth.records import Line
from shared.memory_messages import Span, Summarizer
from shared.threads import run_in

EXTRACTIVE: Final = "extractive.1"


class Summaries:
    def __init__(self, threads: ThreadPoolExecutor, model: LlmSummarizer | None) -> None:
        self._threads = threads
        self._model = model

    async def of_turns(self, lines: Sequence[Line], tokens_max: int, wanted: Summarizer) -> tuple[Composed, str]:
        """What a span says of these turns, and the name of the summarizer that said it."""
        if wanted == "llm" and self._model is not None:
            budget = await run_in(self._threads, text_tokens, lines, tokens_max)
            try:
                text = await self._model.summarize(lines, budget)
            except SummaryRefused:
                pass  # it has been logged and counted
            else:
                return await run_in(self._threads, compose_around, lines, text, tokens_max), self._model.name
        return await run_in(self._threads, compose, lines, tokens_max), EXTRACTIVE

    async def of_spans(self, spans: Sequence[Span], tokens_max: int) -> tuple[Composed, str]:
        """What a span says that stands for others: always an extract of them, so that it says nothing unchecked."""
        return await run_in(self._threads, merge, spans, tokens_max), EXTRACTIVE
