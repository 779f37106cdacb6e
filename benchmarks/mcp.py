"""What a tool call costs beside the same call over HTTP, and what a model pays for tools: `python -m benchmarks.mcp`.

Each round asks the same question in every way, one after the other, in an order that turns, so that a drift of the machine
hits all: over HTTP and as a tool by one and the same plain HTTP client, which shows what the server spends; and as a tool by the
official SDK's client, in the newest revision, as most agents will. Questions repeat, so their vectors come from the cache and
a run of the model does not hide the rest. Both services are real processes with the real model; they share the machine's
cores with the client.

Not measured: a network, and the older revisions, which start with a handshake.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import click
import httpx2
import msgspec
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from rich.progress import Progress
from rich.table import Table

from benchmarks.data import data_option, read_conversation, read_documents, unseen_queries
from benchmarks.output import Output, output_options
from benchmarks.pair import Pair, limited, running_pair, until_vectors_filled
from benchmarks.report import (
    Machine,
    OtherWork,
    Percentiles,
    percentiles,
    progress_bar,
    table_of,
    this_machine,
)
from benchmarks.workload import COLLECTION, expect
from diptych import MemoryClient, RetrievalClient
from diptych.console import command
from shared.tokens import estimate_tokens

_REVISION: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _REVISION,
    "io.modelcontextprotocol/clientCapabilities": {},
}
_IN_FLIGHT: Final = 8
_QUERIES: Final = 20
_WARM_UP_ROUNDS: Final = 5
_BATCH_DOCUMENTS: Final = 50
_TURNS_MIN: Final = 500
_CALL_TIMEOUT_S: Final = 60.0
_FILL_TIMEOUT_S: Final = 600.0
_RUN_TIMEOUT_S: Final = 3600.0
_WAYS: Final = ("HTTP", "MCP", "MCP, SDK client")

Ask = Callable[[str], Awaitable[None]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    operation: str
    way: str
    ms: Percentiles
    calls_per_s: float


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of names, descriptions and parameters, which a model reads; and of all that goes over the wire."""

    service: str
    tools: int
    tokens: int
    wire_tokens: int


class Largest(msgspec.Struct, frozen=True, kw_only=True):
    """The largest answer of all questions, on each channel, beside its budget."""

    tool: str
    budget_tokens: int
    text_tokens: int
    facts_tokens: int
    characters: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    documents: int
    turns: int
    rounds: int
    calls: list[Call]
    catalogues: list[Catalogue]
    largest: list[Largest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The same question to a route and to a tool. `arguments` are those of a query."""

    name: str
    service: str
    route: str
    body: Callable[[str], dict[str, Any]]
    tool: str
    arguments: Callable[[str], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """One kept-alive plain client, and one client of the SDK for each service."""

    urls: dict[str, str]
    http: aiohttp.ClientSession
    sdk: dict[str, Client]

    def of(self, operation: Operation) -> dict[str, Ask]:
        async def over_http(query: str) -> None:
            await self._post(self.urls[operation.service] + operation.route, operation.body(query), {})

        async def as_tool(query: str) -> None:
            await self.call(operation.service, operation.tool, operation.arguments(query))

        async def with_sdk(query: str) -> None:
            client = self.sdk[operation.service]
            answer = await client.call_tool(operation.tool, operation.arguments(query))
            expect(not answer.is_error, operation.tool)

        return dict(zip(_WAYS, (over_http, as_tool, with_sdk), strict=True))

    async def call(self, service: str, tool: str, arguments: dict[str, Any]) -> Any:
        params = {"name": tool, "arguments": arguments, "_meta": _META}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": _REVISION,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        }
        answer = await self._post(f"{self.urls[service]}/mcp", message, headers)
        expect("result" in answer and not answer["result"].get("isError"), tool)
        return answer["result"]

    async def _post(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        sent = {"Content-Type": "application/json", **headers}
        async with self.http.post(url, data=msgspec.json.encode(body), headers=sent) as response:
            answer = msgspec.json.decode(await response.read())
            expect(response.status == 200, url)
            return answer


def operations_for(user_id: str) -> list[Operation]:
    return [
        Operation(
            name="search, 8 hits",
            service="retrieval",
            route="/v1/search",
            body=lambda query: {"query": query, "collection": COLLECTION, "limit": 8},
            tool="search_documents",
            arguments=lambda query: {"query": query, "collection": COLLECTION, "limit": 8},
        ),
        Operation(
            name="recall, 10 items",
            service="memory",
            route="/v1/recall",
            body=lambda query: {"query": query, "user_id": user_id, "limit": 10},
            tool="search_memories",
            arguments=lambda query: {"query": query, "limit": 10},
        ),
        Operation(
            name="context, 1,500 tokens",
            service="memory",
            route="/v1/context",
            body=lambda query: {"query": query, "user_id": user_id, "max_tokens": 1500},
            tool="get_context",
            arguments=lambda query: {"task": query, "max_tokens": 1500},
        ),
    ]


async def measure(data_dir: Path, documents: int, rounds: int, progress: Progress) -> Results:
    other_work = OtherWork()
    texts = read_documents(data_dir, documents)
    conversation = read_conversation(data_dir, _TURNS_MIN)
    queries = list(itertools.islice(unseen_queries(data_dir), _QUERIES))
    with tempfile.TemporaryDirectory(prefix="diptych-mcp-") as scratch:
        async with running_pair(Path(scratch), DIPTYCH_MEMORY_MCP_USER=conversation.user_id) as pair:
            async with RetrievalClient(pair.retrieval_url, timeout_s=_FILL_TIMEOUT_S) as client:
                for begin in range(0, len(texts), _BATCH_DOCUMENTS):
                    await client.ingest(COLLECTION, texts[begin : begin + _BATCH_DOCUMENTS])
            async with MemoryClient(pair.memory_url, timeout_s=_CALL_TIMEOUT_S) as memory:
                for session_id, turns in conversation.sessions.items():
                    await memory.append(session_id, turns, user_id=conversation.user_id)
            await until_vectors_filled(pair.memory_url, _FILL_TIMEOUT_S)
            async with AsyncExitStack() as opened:
                ways = await _ways(pair, opened)
                calls: list[Call] = []
                for operation in operations_for(conversation.user_id):
                    calls += await _measured(operation, ways.of(operation), queries, rounds, progress)
                catalogues = [await _catalogue(service, client) for service, client in ways.sdk.items()]
                largest = [each async for each in _largest(ways, queries)]
    return Results(
        machine=this_machine(other_work),
        documents=documents,
        turns=len(conversation.turns),
        rounds=rounds,
        calls=calls,
        catalogues=catalogues,
        largest=largest,
    )


async def _ways(pair: Pair, opened: AsyncExitStack) -> Ways:
    urls = {"retrieval": pair.retrieval_url, "memory": pair.memory_url}
    timeout = aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S)
    http = await opened.enter_async_context(aiohttp.ClientSession(timeout=timeout))
    sdk: dict[str, Client] = {}
    for service, url in urls.items():
        asked = await opened.enter_async_context(httpx2.AsyncClient(timeout=_CALL_TIMEOUT_S))
        way = streamable_http_client(f"{url}/mcp", http_client=asked)
        sdk[service] = await opened.enter_async_context(Client(way, mode=_REVISION))
    return Ways(urls=urls, http=http, sdk=sdk)


async def _measured(
    operation: Operation, ways: dict[str, Ask], queries: Sequence[str], rounds: int, progress: Progress
) -> list[Call]:
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for number in progress.track(range(_WARM_UP_ROUNDS + rounds), description=operation.name):
        query = queries[number % len(queries)]
        order = list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]
        for way in order:
            started = time.perf_counter()
            await ways[way](query)
            if number >= _WARM_UP_ROUNDS:
                spent[way].append((time.perf_counter() - started) * 1000.0)
    return [
        Call(
            operation=operation.name,
            way=way,
            ms=percentiles(spent[way]),
            calls_per_s=await _rate(ask, queries, 2 * rounds),
        )
        for way, ask in ways.items()
    ]


async def _rate(ask: Ask, queries: Sequence[str], count: int) -> float:
    """With so many in flight all the time."""
    waiting: Iterator[str] = itertools.islice(itertools.cycle(queries), count)

    async def work() -> None:
        for query in waiting:
            await ask(query)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))
    return round(count / (time.perf_counter() - started), 1)


async def _catalogue(service: str, client: Client) -> Catalogue:
    tools = [
        tool.model_dump(by_alias=True, exclude_none=True, mode="json") for tool in (await client.list_tools()).tools
    ]
    seen = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in tools]
    return Catalogue(service=service, tools=len(tools), tokens=_tokens(seen), wire_tokens=_tokens(tools))


async def _largest(ways: Ways, queries: Sequence[str]) -> Any:
    """For small, default and large budgets."""
    for service, tool, name, more, budgets in (
        ("retrieval", "search_documents", "query", {"limit": 50, "detail": "detailed"}, (200, 4000, 20_000)),
        ("memory", "search_memories", "query", {"limit": 50, "detail": "detailed"}, (500, 3000, 20_000)),
        ("memory", "get_context", "task", {}, (200, 1500, 8000)),
    ):
        for budget in budgets:
            answers = [await ways.call(service, tool, {name: query, "max_tokens": budget, **more}) for query in queries]
            text = [answer["content"][0]["text"] for answer in answers]
            facts = [msgspec.json.encode(answer["structuredContent"]).decode() for answer in answers]
            yield Largest(
                tool=tool,
                budget_tokens=budget,
                text_tokens=max(map(estimate_tokens, text)),
                facts_tokens=max(map(estimate_tokens, facts)),
                characters=max(map(len, (*text, *facts))),
            )


def _tokens(value: Any) -> int:
    return estimate_tokens(msgspec.json.encode(value).decode())


def tables_of(results: Results) -> dict[str, Table]:
    return {
        f"Calls, {results.rounds} rounds, one at a time; calls/s with {_IN_FLIGHT} in flight": table_of(
            ("operation", "way", "p50 ms", "p90 ms", "p99 ms", "calls/s"),
            [
                (
                    each.operation,
                    each.way,
                    *(f"{ms:.2f}" for ms in (each.ms.p50, each.ms.p90, each.ms.p99)),
                    f"{each.calls_per_s:.1f}",
                )
                for each in results.calls
            ],
            texts=2,
        ),
        "Catalogues: what a model reads before every task": table_of(
            ("service", "tools", "tokens", "tokens over the wire"),
            [
                (each.service, str(each.tools), f"{each.tokens:,}", f"{each.wire_tokens:,}")
                for each in results.catalogues
            ],
        ),
        "The largest of the answers": table_of(
            ("tool", "budget", "tokens, text", "tokens, facts", "characters"),
            [
                (
                    each.tool,
                    *(
                        f"{number:,}"
                        for number in (each.budget_tokens, each.text_tokens, each.facts_tokens, each.characters)
                    ),
                )
                for each in results.largest
            ],
        ),
    }


@click.command(context_settings={"show_default": True})
@click.option("--documents", type=click.IntRange(min=50), default=500, help="How many to ingest.")
@click.option("--rounds", type=click.IntRange(min=1, max=5000), default=200, help="Samples of each operation.")
@output_options
@data_option
@command
async def main(documents: int, rounds: int, output: Output, data_dir: Path) -> None:
    """Measure tool calls beside HTTP. The results are also written to benchmarks/results/mcp.json."""
    with progress_bar() as progress:
        async with limited(_RUN_TIMEOUT_S, "the benchmark to end"):
            results = await measure(data_dir, documents, rounds, progress)
    output.publish("mcp", results, tables_of(results))


if __name__ == "__main__":
    main()
