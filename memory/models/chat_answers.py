"""What an OpenAI-compatible API answers to `/chat/completions`, checked. Pure.

Whatever answers there is foreign: it may be a proxy, another version of the protocol, or a model that stopped half way.
So an answer is either a `Completion` or a `ChatFailed` that says which kind of failure it is, and nothing between.
Messages of a foreign error are never kept: they may repeat the conversation, or the key.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal

import msgspec

from shared.errors import DiptychError

# Kinds of failure, as metrics count them.
Failure = Literal[
    "unreachable",  # no connection, or it broke
    "timeout",  # no answer in time
    "overloaded",  # 429 and 503
    "server_error",  # any other 5xx
    "misconfigured",  # the key, the model or the address is wrong, or the account is empty: it does not pass by itself
    "too_long",  # more than the model's window
    "refused",  # any other status: this request is not taken
    "malformed",  # the answer is none
    "empty",  # the answer has no text
    "filtered",  # the provider's filter, or the model itself, declined
    "paused",  # the circuit is open; nothing was sent
]
# What another try of the same request may mend.
PASSING: Final[frozenset[Failure]] = frozenset({"unreachable", "timeout", "overloaded", "server_error"})
# What says that the service is not well, rather than that this request does not suit it.
AILING: Final[frozenset[Failure]] = PASSING | {"misconfigured", "malformed"}

_KINDS: Final[dict[int, Failure]] = {
    HTTPStatus.UNAUTHORIZED: "misconfigured",
    HTTPStatus.FORBIDDEN: "misconfigured",
    HTTPStatus.NOT_FOUND: "misconfigured",
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_long",
    HTTPStatus.TOO_MANY_REQUESTS: "overloaded",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout",
}
# By OpenAI's protocol, and as some servers that follow it say it.
_WHOLE: Final = frozenset({"stop", "eos_token", "end_turn", "stop_sequence"})
# A server with a wrong clock must not be left alone for years.
_RETRY_AFTER_S_MAX: Final = 3600.0
_SLUG = re.compile(r"[a-z0-9_.]{1,64}")


class ChatFailed(DiptychError):
    """`kind` says why. `parameter` is the field of the request that the service does not take, where it named one."""

    def __init__(self, kind: Failure, detail: str, *, retry_after_s: float = 0.0, parameter: str | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.parameter = parameter


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """`is_whole` is False where the model was cut off at the limit of tokens. `usage` is None where nothing was said."""

    text: str
    is_whole: bool
    usage: Usage | None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    # Only counted, so what is odd in it is no reason to throw an answer away.
    usage: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct, frozen=True):
    code: str | int | None = None
    type: str | None = None
    param: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    error: _Error


def read_completion(payload: bytes) -> Completion:
    """Raises ChatFailed."""
    try:
        answer = msgspec.json.decode(payload, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ChatFailed("malformed", "the answer is no chat completion") from error
    if not answer.choices:
        raise ChatFailed("malformed", "the answer has no choices")
    choice = answer.choices[0]
    reason = (choice.finish_reason or "stop").lower()
    if choice.message.refusal or reason == "content_filter":
        raise ChatFailed("filtered", "the model, or a filter before it, declined to answer")
    # Some servers leave the reason out; tools were not offered, so their names for others are a mistake.
    if reason not in _WHOLE | {"length"}:
        raise ChatFailed("malformed", "the answer ended for a reason that was not offered")
    if not choice.message.content or not choice.message.content.strip():
        raise ChatFailed("empty", "the answer has no text")
    return Completion(text=choice.message.content, is_whole=reason in _WHOLE, usage=_usage_of(answer.usage))


def _usage_of(raw: msgspec.Raw) -> Usage | None:
    try:
        usage = msgspec.json.decode(raw, type=Usage)
    except msgspec.DecodeError:
        return None
    return usage if min(usage.prompt_tokens, usage.completion_tokens) >= 0 else None


def failure_of(status: int, payload: bytes, retry_after: str, now: datetime) -> ChatFailed:
    """Of an answer whose status is not 200. `retry_after` is that header, or empty."""
    error = _error_of(payload)
    code = next((part for part in (error.code, error.type) if isinstance(part, str) and _SLUG.fullmatch(part)), "")
    return ChatFailed(
        _kind_of(status, code, payload),
        f"status {status}" + (f", {code}" if code else ""),
        retry_after_s=_retry_after_s(retry_after, now),
        parameter=error.param,
    )


def _kind_of(status: int, code: str, payload: bytes) -> Failure:
    if code == "insufficient_quota":  # 429 at OpenAI, but no wait fills an account
        return "misconfigured"
    # Servers have no common code for it; OpenAI's and vLLM's messages both speak of the context length.
    if code == "context_length_exceeded" or (status == HTTPStatus.BAD_REQUEST and b"context length" in payload):
        return "too_long"
    if status in _KINDS:
        return _KINDS[status]
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "refused"


def _error_of(payload: bytes) -> _Error:
    try:
        return msgspec.json.decode(payload, type=_Problem).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Error()


def _retry_after_s(value: str, now: datetime) -> float:
    """Seconds or a date, as HTTP has it; 0 where it is neither."""
    with suppress(ValueError):
        return min(max(0.0, float(value)), _RETRY_AFTER_S_MAX)
    with suppress(ValueError):
        at = parsedate_to_datetime(value)
        return min(max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()), _RETRY_AFTER_S_MAX)
    return 0.0
