"""Which summarizer speaks for a span. A language model may refuse; the extract never does.

What is composed is composed in a process of its own: in a thread it would hold the interpreter while turns are appended.
"""

from collections.abc import Sequence
from typing import Final

from memory.compaction.llm_summarizer import LlmSummarizer
from memory.compaction.span_text import Composed, compose, compose_around, merge, text_tokens
from memory.models.summary_checks import SummaryRefused
from memory.truth.records import Line
from shared.memory_messages import Span, Summarizer
from shared.worker import Worker

EXTRACTIVE: Final = "extractive.1"


class Summaries:
    def __init__(self, worker: Worker, model: LlmSummarizer | None) -> None:
        self._worker = worker
        self._model = model

    async def of_turns(self, lines: Sequence[Line], tokens_max: int, wanted: Summarizer) -> tuple[Composed, str]:
        """What a span says of these turns, and the name of the summarizer that said it."""
        if wanted == "llm" and self._model is not None:
            budget = await self._worker.call(text_tokens, lines, tokens_max)
            try:
                text = await self._model.summarize(lines, budget)
            except SummaryRefused:
                pass  # it has been logged and counted
            else:
                return await self._worker.call(compose_around, lines, text, tokens_max), self._model.name
        return await self._worker.call(compose, lines, tokens_max), EXTRACTIVE

    async def of_spans(self, spans: Sequence[Span], tokens_max: int) -> tuple[Composed, str]:
        """What a span says that stands for others: always an extract of them, so that it says nothing unchecked."""
        return await self._worker.call(merge, spans, tokens_max), EXTRACTIVE
