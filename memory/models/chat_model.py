"""A client for any OpenAI-compatible `/chat/completions`: bounded in time, tries, calls at once and damage.

A call is tried again when that may help (no connection, no answer in time, 429, 5xx), with exponential waiting and
whatever Retry-After asks for, unless that is longer than a call may take. A service that keeps failing is left alone for
a while (`memory.models.breaker`). Only kinds of failure, statuses and counts are logged, never texts, answers or the key.

The openai package was not taken: it brings its own HTTP stack (httpx, with anyio and jiter) beside the aiohttp that is
here, retries on its own terms, and has no circuit breaker; what is used of the protocol is one request and one answer.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final

import aiohttp
import msgspec
import structlog
import tenacity
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import SecretStr

from memory.models.breaker import Breaker
from memory.models.chat_answers import AILING, PASSING, ChatFailed, Completion, Usage, failure_of, read_completion
from shared.metrics import SECONDS_BUCKETS
from shared.tokens import estimate_tokens

log = structlog.get_logger()

_MILLION: Final = 1_000_000
# A summary is some kilobytes. Whatever sends more is no chat model, and must not fill the memory.
_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
_WAIT_MAX_S: Final = 20.0


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class ChatMetrics:
    """Registered whether or not a model is configured, so that dashboards need no case for its absence."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Counter("diptych_llm_calls", "Requests sent, retries included.", registry=registry)
        self.failures = Counter("diptych_llm_failures", "Calls that failed.", ["kind"], registry=registry)
        self.tokens = Counter("diptych_llm_tokens", "Tokens as the service counted them.", ["kind"], registry=registry)
        self.cost = Counter("diptych_llm_cost", "What they cost at the configured prices.", registry=registry)
        self.seconds = Histogram(
            "diptych_llm_call_seconds", "Time of one request.", buckets=SECONDS_BUCKETS, registry=registry
        )


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Of a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, usage: Usage) -> float:
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / _MILLION


class ChatModel:
    """Any number of concurrent calls. Later use of a closed one raises RuntimeError."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: SecretStr | None = None,
        timeout_s: float,
        retries: int,
        requests_in_flight_max: int,
        breaker: Breaker,
        prices: Prices,
        metrics: ChatMetrics,
        first_wait_s: float = 0.5,
    ) -> None:
        """`url` is the API's base, such as `https://api.openai.com/v1`. `first_wait_s` doubles from try to try."""
        self.model = model
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._room = asyncio.Semaphore(requests_in_flight_max)
        self._breaker = breaker
        self._prices = prices
        self._metrics = metrics
        self._wait = tenacity.wait_random_exponential(multiplier=first_wait_s, max=_WAIT_MAX_S)
        self._stop = tenacity.stop_after_attempt(retries + 1)
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False
        # Names and values differ between models of one protocol; what this one refused is not sent again.
        self._limit_name = "max_tokens"
        self._has_temperature = True

    async def close(self) -> None:
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def complete(self, messages: Sequence[Message], *, tokens_max: int) -> Completion:
        """The model's answer of at most `tokens_max` of its own tokens. Raises ChatFailed."""
        async with self._room:
            try:
                return await self._with_retries(messages, tokens_max)
            except ChatFailed as error:
                self._metrics.failures.labels(error.kind).inc()
                method = log.error if error.kind == "misconfigured" else log.warning
                method("llm_call_failed", kind=error.kind, detail=str(error))
                raise

    async def _with_retries(self, messages: Sequence[Message], tokens_max: int) -> Completion:
        retrying = tenacity.AsyncRetrying(
            stop=self._stop, wait=self._wait_s, retry=tenacity.retry_if_exception(self._may_pass), reraise=True
        )
        async for attempt in retrying:
            with attempt:
                return await self._in_its_dialect(messages, tokens_max)
        raise AssertionError("unreachable: the last attempt answers or raises")

    async def _in_its_dialect(self, messages: Sequence[Message], tokens_max: int) -> Completion:
        """Newer models of OpenAI want another name for the limit, and no temperature but their own."""
        while True:
            try:
                return await self._guarded(messages, tokens_max)
            except ChatFailed as error:
                if error.parameter == "max_tokens" and self._limit_name == "max_tokens":
                    self._limit_name = "max_completion_tokens"
                elif error.parameter == "temperature" and self._has_temperature:
                    self._has_temperature = False
                else:
                    raise

    async def _guarded(self, messages: Sequence[Message], tokens_max: int) -> Completion:
        now = asyncio.get_running_loop().time
        if not self._breaker.admits(now()):
            raise ChatFailed("paused", "it failed too often and is left alone for a while")
        try:
            completion = await self._attempt(messages, tokens_max)
        except ChatFailed as error:
            if error.kind in AILING:
                self._breaker.failed(now(), asked_s=error.retry_after_s)
            else:  # it is well, and does not like this request
                self._breaker.succeeded()
            raise
        except asyncio.CancelledError:
            self._breaker.dropped()
            raise
        self._breaker.succeeded()
        return completion

    async def _attempt(self, messages: Sequence[Message], tokens_max: int) -> Completion:
        self._metrics.calls.inc()
        try:
            async with asyncio.timeout(self._timeout_s):
                with self._metrics.seconds.time():
                    payload = await self._send(self._body(messages, tokens_max))
        except TimeoutError as error:
            raise ChatFailed("timeout", f"no answer within {self._timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            # The error's own words may hold the address with a password in it.
            raise ChatFailed("unreachable", type(error).__name__) from None
        completion = read_completion(payload)
        self._count(completion, messages)
        return completion

    async def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key.get_secret_value()}"
        # A redirect would carry conversations, and maybe the key, to an address that nobody configured.
        async with self._open_session().post(
            self._url, data=BytesIO(body), headers=headers, allow_redirects=False
        ) as response:
            payload = await _read(response)
            if response.status != HTTPStatus.OK:
                retry_after = response.headers.get("Retry-After", "")
                raise failure_of(response.status, payload, retry_after, datetime.now(UTC))
            return payload

    def _body(self, messages: Sequence[Message], tokens_max: int) -> bytes:
        # Temperature 0, because the same turns should give the same summary.
        choices: dict[str, Any] = {"temperature": 0} if self._has_temperature else {}
        return msgspec.json.encode(
            {"model": self.model, "messages": list(messages), self._limit_name: tokens_max, **choices}
        )

    def _count(self, completion: Completion, messages: Sequence[Message]) -> None:
        usage = completion.usage or Usage(
            prompt_tokens=sum(estimate_tokens(message.content) for message in messages),
            completion_tokens=estimate_tokens(completion.text),
        )
        self._metrics.tokens.labels("prompt").inc(usage.prompt_tokens)
        self._metrics.tokens.labels("completion").inc(usage.completion_tokens)
        self._metrics.cost.inc(self._prices.of(usage))

    def _may_pass(self, error: BaseException) -> bool:
        """Whether another try may help, and is not asked to wait longer than a call may take."""
        if not isinstance(error, ChatFailed) or self._breaker.is_open:
            return False
        return error.kind in PASSING and error.retry_after_s <= self._timeout_s

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, ChatFailed) else 0.0
        return max(asked_s, self._wait(state))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise RuntimeError("this chat model is closed")
        if self._session is None:
            # The deadline is ours.
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    received = bytearray()
    async for part in response.content.iter_any():
        received += part
        if len(received) > _ANSWER_BYTES_MAX:
            raise ChatFailed("malformed", "the answer has no end")
    return bytes(received)
