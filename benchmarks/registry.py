"""Every benchmark by name: what it measures, and how it is run in full and quickly.

A new one is a program (`python -m benchmarks.MODULE`) whose command has `output_options`, and a row here.
"""

from dataclasses import dataclass
from typing import Final

from shared.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """`minutes` is about how long it takes on two quiet cores, in full and quickly; it is ended after `LIMIT_FACTOR` times that.
    `has_peers` needs the environment of benchmarks/requirements-peers.txt."""

    name: str
    module: str
    measures: str
    minutes: float
    quick_minutes: float
    full: tuple[str, ...] = ()
    quick: tuple[str, ...]
    has_peers: bool = False

    def arguments(self, *, is_quick: bool) -> tuple[str, ...]:
        return self.quick if is_quick else self.full

    def limit_s(self, *, is_quick: bool) -> float:
        return LIMIT_LEAST_S + LIMIT_FACTOR * 60.0 * (self.quick_minutes if is_quick else self.minutes)


# A machine that is half as fast, and busy with something else, is no fault.
LIMIT_FACTOR: Final = 4.0
LIMIT_LEAST_S: Final = 120.0

SUITES: Final = (
    Suite(
        name="search",
        module="latency",
        measures="every call over HTTP, in JSON and MessagePack: p50 to p99; start to ready; searches under load",
        minutes=4,
        quick=("--documents", "200", "--rounds", "40"),
        quick_minutes=0.7,
    ),
    Suite(
        name="wire",
        module="wire",
        measures="JSON against MessagePack, the same messages: bytes, and microseconds to encode and decode",
        minutes=1,
        quick=("--documents", "60", "--rounds", "100"),
        quick_minutes=0.6,
    ),
    Suite(
        name="throughput",
        module="throughput",
        measures="hybrid search in 100,000 chunks: one at a time beside its bare parts, and by 16 clients",
        minutes=2,
        quick=("--chunks", "10000", "--searches", "1000"),
        quick_minutes=0.6,
    ),
    Suite(
        name="filters",
        module="filtered",
        measures="filters that keep 10 %, 1 % and 0.1 % of 100,000 chunks, against no filter, with recall",
        minutes=3,
        quick=("--chunks", "10000", "--rounds", "20"),
        quick_minutes=0.4,
    ),
    Suite(
        name="scale",
        module="million",
        measures="a million vectors: build, searches meanwhile, recall, memory, snapshot, restart",
        minutes=6,
        quick=("--vectors", "60000"),
        quick_minutes=0.5,
    ),
    Suite(
        name="collections",
        module="collections",
        measures="ten thousand small collections: searches of closed and open ones, memory, threads and file handles",
        minutes=4,
        quick=("--collections", "2000"),
        quick_minutes=0.7,
    ),
    Suite(
        name="ingest",
        module="ingest",
        measures="chunks a second against the bare model, searches beside an ingest, a flood of writers",
        minutes=6,
        quick=("--documents", "100", "--rounds", "20"),
        quick_minutes=0.7,
    ),
    Suite(
        name="embedding",
        module="embedding",
        measures="each backend that computes the model, on the same texts",
        minutes=3,
        quick=("--documents", "16", "--rounds", "1"),
        quick_minutes=0.7,
    ),
    Suite(
        name="append",
        module="memory_writes",
        measures="durable appends beside a bare commit, 16 writers at once, import and export of 100,000 turns",
        minutes=1.5,
        quick=("--rounds", "100", "--requests", "300", "--turns", "5000"),
        quick_minutes=0.2,
    ),
    Suite(
        name="recall",
        module="memory_scale",
        measures="recall and context over 100,000 turns of 100 users, first recalls, restart",
        full=("--turns", "100000", "--users", "100"),
        minutes=2,
        quick=("--turns", "10000", "--users", "20", "--calls", "200"),
        quick_minutes=0.4,
    ),
    Suite(
        name="mcp",
        module="mcp",
        measures="tool calls beside the same calls over HTTP, what catalogues cost a model, answers against their budget",
        minutes=2,
        quick=("--documents", "100", "--rounds", "40"),
        quick_minutes=0.7,
    ),
    Suite(
        name="compaction",
        module="compaction",
        measures="what of paths, ids, commands and numbers survives in spans, word for word",
        minutes=1.5,
        quick=("--transcripts", "5"),
        quick_minutes=0.2,
    ),
    Suite(
        name="forgetting",
        module="forgetting",
        measures="erasing a user of 10,000 turns beside another, looked for in every file",
        minutes=5,
        quick=("--turns", "1000", "--beside", "600"),
        quick_minutes=0.8,
    ),
    Suite(
        name="forgetting-crashes",
        module="forgetting_crashes",
        measures="SIGKILL 50 times during append, compact and forget: nothing lost, nothing back",
        minutes=4,
        quick=("--rounds", "4"),
        quick_minutes=0.4,
    ),
    Suite(
        name="recovery",
        module="recovery",
        measures="SIGKILL of both services 50 times in the middle of their work: what was acknowledged is there",
        full=("--rounds", "50"),
        minutes=5,
        quick=("--rounds", "2"),
        quick_minutes=1,
    ),
    Suite(
        name="soak",
        module="soak",
        measures="ingest, deletes and searches mixed at full load for ten minutes: errors, differences, memory",
        minutes=11,
        quick=("--minutes", "0.3"),
        quick_minutes=0.7,
    ),
    Suite(
        name="retrieval-peers",
        module="retrieval_peers",
        measures="Chroma, LanceDB, txtai, Qdrant's local mode, Milvus Lite on the same vectors and queries, with recall",
        minutes=12,
        quick=("--documents", "1000", "--passes", "1", "--searches", "100"),
        quick_minutes=2,
        has_peers=True,
    ),
    Suite(
        name="retrieval-peers-large",
        module="retrieval_peers",
        measures="LanceDB and Chroma beside Diptych in 100,000 made-up documents, where all search approximately",
        full=("--made", "100000", "--peer", "lancedb", "--peer", "chroma"),
        minutes=8,
        quick=("--made", "2000", "--peer", "lancedb", "--passes", "1", "--searches", "64"),
        quick_minutes=2,
        has_peers=True,
    ),
    Suite(
        name="memory-peers",
        module="memory_peers",
        measures="mem0 and mcp-memory-service on the same talks and questions: appends, searches, what is found",
        minutes=6,
        quick=("--talks", "1", "--turns", "100", "--questions", "20"),
        quick_minutes=1,
        has_peers=True,
    ),
)

_BY_NAME: Final = {suite.name: suite for suite in SUITES}


def suites_named(names: tuple[str, ...]) -> list[Suite]:
    """In the order of the registry. Raises SettingsError for a name that is none."""
    if unknown := [name for name in names if name not in _BY_NAME]:
        raise SettingsError(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(_BY_NAME)}")
    return [suite for suite in SUITES if suite.name in names]
