"""One agent's day with the Python client: the steps of day.json."""

import json
import re
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.outside.programs import HERE, Failed

STEPS: Final[list[dict[str, Any]]] = json.loads((HERE / "day.json").read_text(encoding="utf-8"))


async def live(name: str, era: str, retrieval: str, memory: str) -> str:
    """`name` is the user, so that no two days meet. Raises Failed."""
    async with AsyncExitStack() as opened:
        clients: dict[str, Client] = {}
        for service, url in (("retrieval", retrieval), ("memory", memory)):
            http = await opened.enter_async_context(httpx2.AsyncClient(headers={"Diptych-User": name}, timeout=60.0))
            way = streamable_http_client(url, http_client=http)
            clients[service] = await opened.enter_async_context(Client(way, mode=era))
        kept = {"client": name}
        for step in STEPS:
            answer = await clients[step["service"]].call_tool(step["tool"], _filled(step["arguments"], kept))
            said = "\n".join(getattr(part, "text", "") for part in answer.content)
            facts = json.dumps(answer.structured_content, ensure_ascii=False)
            _check(step, said, facts, kept, is_error=bool(answer.is_error))
            for each, path in step.get("keep", {}).items():
                value: Any = answer.structured_content
                for key in path.split("."):
                    value = value[key]
                kept[each] = value
    return f"{len(STEPS)} steps"


def _check(step: dict[str, Any], said: str, facts: str, kept: dict[str, str], *, is_error: bool) -> None:
    if is_error:
        raise Failed(f"{step['tool']}: {said}")
    for wanted in _filled(step.get("says", []), kept):
        if wanted not in said or wanted not in facts:
            raise Failed(f"{step['tool']} does not say {wanted!r} on both channels: {said}\n{facts}")
    for gone in step.get("says_not", []):
        if gone in said + facts:
            raise Failed(f"{step['tool']} still says {gone!r}: {said}")


def _filled(value: Any, kept: dict[str, str]) -> Any:
    return json.loads(re.sub(r"\$(\w+)", lambda found: kept[found[1]], json.dumps(value)))
