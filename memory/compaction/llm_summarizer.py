"""Summaries by a language model, each checked before anybody may keep it.

A source longer than the model's window is cut into pieces that fit (`memory.models.pieces`), each is summarised with its share of
the budget, and the parts are joined; where the shares would be too small to say anything, the parts are made longer and
are summarised again, as notes. Nothing is cut off unread. Whatever goes wrong, at the model or in a check, is one error,
`SummaryRefused`: the caller has the extractive summary for it.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter

from memory.models.breaker import Breaker
from memory.models.chat_answers import ChatFailed
from memory.models.chat_model import ChatMetrics, ChatModel, Message, Prices
from memory.models.pieces import pack, render, spoken
from memory.models.prompts import SUMMARIZE, Prompt, load_prompt
from memory.models.summary_checks import Checks, SummaryRefused
from memory.settings import MemorySettings
from memory.text.languages import language_of
from memory.text.mentions import Mentions, find_mentions
from memory.truth.records import Line
from shared.tokens import estimate_tokens

log = structlog.get_logger()

# A window counts the model's own tokens: of code and ids it makes a third more of them than the estimate does.
_WINDOW_SHARE: Final = 0.75
# An answer may be so many times its budget before the service cuts it off: room for other tokenizers, none for a novel.
_ANSWER_SHARE: Final = 2
# No answer takes more of the window than this, so that there is room to read.
_WINDOW_TO_ANSWER: Final = 8
# Less says nothing about a piece.
_PART_TOKENS_MIN: Final = 64
# A service that takes less than this has not the window that it was configured with, nor one worth using.
_WINDOW_TOKENS_MIN: Final = 2048


class LlmSummarizer:
    """Any number of concurrent summaries; the chat model bounds how many requests they make at once."""

    def __init__(
        self,
        chat: ChatModel,
        prompt: Prompt,
        *,
        window_tokens: int,
        thinking_tokens: int,
        mentions: Mentions,
        refused: Counter,
    ) -> None:
        """`window_tokens` is what the model reads and writes at most; `thinking_tokens` of it are not part of its answer."""
        self.name = f"llm:{chat.model}@{prompt.name}"
        self.chat = chat
        self._prompt = prompt
        self._window_tokens = window_tokens
        self._thinking_tokens = thinking_tokens
        self._mentions = mentions
        self._refused = refused
        self._prompt_tokens = sum(estimate_tokens(part.template) for part in (prompt.system, prompt.user))

    async def close(self) -> None:
        await self.chat.close()

    async def summarize(self, lines: Sequence[Line], tokens_max: int) -> str:
        """At most `tokens_max` by `estimate_tokens`, in the language of the conversation. Raises SummaryRefused."""
        try:
            checks = await asyncio.to_thread(self._checks, lines)
            return await self._within_the_window(lines, tokens_max, checks)
        except ChatFailed as error:
            self._refused.labels("model").inc()
            raise SummaryRefused("model", f"the model gave no answer: {error}") from error
        except SummaryRefused as error:
            self._refused.labels(error.reason).inc()
            log.warning("summary_refused", reason=error.reason, detail=str(error), summarizer=self.name)
            raise

    async def _within_the_window(self, lines: Sequence[Line], tokens_max: int, checks: Checks) -> str:
        while True:
            window = self._window_tokens
            try:
                return await self._in_pieces(lines, tokens_max, checks, window)
            except ChatFailed as error:
                if error.kind != "too_long" or window < 2 * _WINDOW_TOKENS_MIN:
                    raise
                # Others may have found it out meanwhile.
                self._window_tokens = min(self._window_tokens, window // 2)
                log.warning("llm_window_smaller", configured=window, now=self._window_tokens)

    async def _in_pieces(self, lines: Sequence[Line], tokens_max: int, checks: Checks, window: int) -> str:
        answer_max = window // _WINDOW_TO_ANSWER
        room = self._room(window, min(tokens_max, answer_max))
        texts = await asyncio.to_thread(render, lines, room)
        if not texts:
            raise SummaryRefused("empty", "the turns have no words")
        while True:
            pieces = await asyncio.to_thread(pack, texts, room)
            if len(pieces) == 1:
                return await self._part(pieces[0], min(tokens_max, answer_max), checks)
            # One token of each share is for the line break that joins it.
            share = min(max(tokens_max // len(pieces) - 1, _PART_TOKENS_MIN), answer_max)
            # One after the other: the first failure ends it, and nothing more is paid for.
            texts = [await self._part(piece, share, checks) for piece in pieces]
            joined = "\n".join(texts)
            if estimate_tokens(joined) <= tokens_max:
                return joined

    def _room(self, window: int, answer_max: int) -> int:
        taken = self._prompt_tokens + _ANSWER_SHARE * answer_max + self._thinking_tokens
        return max(_PART_TOKENS_MIN * 4, int(_WINDOW_SHARE * (window - taken)))

    async def _part(self, source: str, tokens_max: int, checks: Checks) -> str:
        system, user = self._prompt.fill(source, tokens_max=tokens_max, language=checks.language)
        completion = await self.chat.complete(
            [Message("system", system), Message("user", user)],
            tokens_max=_ANSWER_SHARE * tokens_max + self._thinking_tokens,
        )
        return await asyncio.to_thread(
            checks.accept, completion.text, source, tokens_max=tokens_max, is_whole=completion.is_whole
        )

    def _checks(self, lines: Sequence[Line]) -> Checks:
        return Checks(
            instructions=self._prompt.instructions,
            language=language_of(spoken(lines)),
            mentions=self._mentions,
        )


def make_summarizer(
    settings: MemorySettings, registry: CollectorRegistry, *, mentions: Mentions = find_mentions
) -> LlmSummarizer | None:
    """None where no model is configured; then nothing is ever sent. Its metrics are there either way.

    Reads the prompt's file: not on the event loop.
    """
    metrics = ChatMetrics(registry)
    refused = Counter(
        "diptych_summaries_refused", "Summaries that a model could not make.", ["reason"], registry=registry
    )
    if settings.llm_url is None or settings.llm_model is None:
        return None
    chat = ChatModel(
        settings.llm_url,
        settings.llm_model,
        api_key=settings.llm_api_key,
        timeout_s=settings.llm_timeout_s,
        retries=settings.llm_retries,
        requests_in_flight_max=settings.llm_requests_in_flight_max,
        breaker=Breaker(failures_max=settings.llm_outage_failures, pause_s=settings.llm_outage_pause_s),
        prices=Prices(prompt=settings.llm_prompt_price, completion=settings.llm_completion_price),
        metrics=metrics,
    )
    return LlmSummarizer(
        chat,
        load_prompt(SUMMARIZE),
        window_tokens=settings.llm_context_tokens,
        thinking_tokens=settings.llm_thinking_tokens,
        mentions=mentions,
        refused=refused,
    )
