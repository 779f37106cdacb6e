"""Answers of a chat model for the scripted server, and clients of it that do not wait long."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from memory.models.breaker import Breaker
from memory.models.chat_model import ChatMetrics, ChatModel, Prices
from tests.harness import WAIT_S
from tests.shared.scripted import Answer, Scripted

KEY = "sk-very-secret-1234567890"


def said(text: str | None, *, finish_reason: str | None = "stop", usage: dict[str, Any] | None = None) -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    answer: dict[str, Any] = {"id": "c1", "object": "chat.completion", "model": "m", "choices": [choice]}
    return as_json(answer | ({"usage": usage} if usage else {}))


def as_json(body: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), "application/json", headers)


def refused(status: int, *, retry_after: str = "", **error: Any) -> Answer:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return as_json({"error": {"message": f"{KEY} asked for too much", **error}}, status, **headers)


@asynccontextmanager
async def chat_of(
    server: Scripted, *, registry: CollectorRegistry | None = None, failures_max: int = 100, **options: Any
) -> AsyncIterator[ChatModel]:
    chosen = {
        "timeout_s": WAIT_S,
        "retries": 2,
        "requests_in_flight_max": 4,
        "first_wait_s": 0.01,
        "prices": Prices(),
        "breaker": Breaker(failures_max=failures_max, pause_s=3600.0),
        **options,
    }
    metrics = ChatMetrics(registry or CollectorRegistry())
    chat = ChatModel(f"{server.url}/v1", "tiny", api_key=SecretStr(KEY), metrics=metrics, **chosen)
    try:
        yield chat
    finally:
        await chat.close()
