"""What pages say of Diptych beside others. Pure, but for reading results."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measured import Measured, best_marked, machine_phrase, milliseconds, share, table, whole


def vector_peers(measured: Measured, *, name: str = "retrieval-peers") -> str:
    """Made-up documents have nobody's judgements, and no column for them."""
    systems = measured.of(name)["systems"]

    def column(way: str, pick: Callable[[dict[str, Any]], float | None]) -> list[float | None]:
        return [pick(each["ways"][way]) if way in each["ways"] else None for each in systems]

    judged = column("hybrid", lambda way: way["ndcg_at_10"])
    columns = {
        "": [f"{each['name']}, {each['reached']}" for each in systems],
        "dense p50 ms": best_marked(column("dense", lambda way: way["ms"]["p50"]), milliseconds, is_least_best=True),
        "dense /s": best_marked(column("dense", lambda way: way["crowd_searches_per_s"]), whole, is_least_best=False),
        "recall@10": best_marked(column("dense", lambda way: way["recall_at_10"]), share, is_least_best=False),
        "hybrid p50 ms": best_marked(column("hybrid", lambda way: way["ms"]["p50"]), milliseconds, is_least_best=True),
        "hybrid /s": best_marked(column("hybrid", lambda way: way["crowd_searches_per_s"]), whole, is_least_best=False),
        "nDCG@10": best_marked(judged, share, is_least_best=False),
        "load s": best_marked([each["fill_s"] for each in systems], milliseconds, is_least_best=True),
    }
    if not any(value is not None for value in judged):
        del columns["nDCG@10"]
    return table(tuple(columns), zip(*columns.values(), strict=True))


def vector_peers_what(measured: Measured) -> str:
    found = measured.of("retrieval-peers")
    return (
        f"{found['documents']:,} documents, {found['queries']} queries {found['passes']} times one by one, "
        f"then by {found['clients']} clients at once"
    )


def vector_peers_versions(measured: Measured) -> str:
    return versions_of(measured.of("retrieval-peers")["systems"])


def vector_peers_absent(measured: Measured) -> str:
    return absences(measured.of("retrieval-peers")["absent"])


def vector_peers_machine(measured: Measured) -> str:
    return machine_phrase(measured.of("retrieval-peers")["machine"])


def memory_peers(measured: Measured) -> str:
    systems = measured.of("memory-peers")["systems"]
    columns = [
        [each["name"] for each in systems],
        best_marked([each["append_ms"]["p50"] for each in systems], milliseconds, is_least_best=True),
        best_marked([each["append_ms"]["p95"] for each in systems], milliseconds, is_least_best=True),
        [each["stored"] for each in systems],
        best_marked([each["searchable_s"] for each in systems], milliseconds, is_least_best=True),
        best_marked([each["search_ms"]["p50"] for each in systems], milliseconds, is_least_best=True),
        best_marked([each["search_ms"]["p95"] for each in systems], milliseconds, is_least_best=True),
        best_marked([each["share_at_10"] for each in systems], share, is_least_best=False),
        best_marked([each["any_at_10"] for each in systems], share, is_least_best=False),
    ]
    titles = (
        "",
        "append p50 ms",
        "p95",
        "when it answers, a turn is",
        "all found after s",
        "search p50 ms",
        "p95",
        "share@10",
        "any@10",
    )
    return table(titles, zip(*columns, strict=True))


def memory_peers_what(measured: Measured) -> str:
    found = measured.of("memory-peers")
    return f"{found['turns']:,} turns of {found['talks']} talks, {found['questions']} questions"


def memory_peers_versions(measured: Measured) -> str:
    return versions_of(measured.of("memory-peers")["systems"])


def memory_peers_absent(measured: Measured) -> str:
    return absences(measured.of("memory-peers")["absent"])


def memory_peers_machine(measured: Measured) -> str:
    return machine_phrase(measured.of("memory-peers")["machine"])


def versions_of(systems: Sequence[dict[str, Any]]) -> str:
    """Of the others: `lancedb 0.40.0, chromadb 1.5.9`."""
    return ", ".join(f"{name} {number}" for each in systems[1:] for name, number in each["versions"].items())


def absences(absent: dict[str, str]) -> str:
    return table(("not measured", "because"), absent.items())
