"""What pages say of the results: each function makes one piece of Markdown, a phrase or a table. Pure, but for reading results."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec

from shared.errors import SettingsError

_ROOT: Final = Path(__file__).parent.parent
# Of a span, as the README has it: of what it stands for.
_SPAN_BUDGET: Final = 0.2
_LEDGER_KINDS: Final = ("path", "id", "command", "number")
_LEGS: Final = (
    ("words alone (BM25)", "lexical"),
    ("meaning alone (all-MiniLM-L6-v2)", "dense"),
    ("both, reciprocal rank fusion", "rrf"),
    ("**both, as Diptych does by default**", "adaptive"),
)
_CONTEXTS: Final = ("the user's memory", "the user's memory, all folded")
_RECALLS: Final = (
    ("BM25 over the turns", "bare BM25"),
    ("all-MiniLM-L6-v2 over the turns", "bare dense"),
    ("both, reciprocal rank fusion", "bare RRF"),
    ("**recalled by Diptych**", "hybrid"),
)


class Measured:
    """The committed results, each read when it is asked for."""

    def __init__(self, root: Path = _ROOT) -> None:
        self._root = root
        self._read: dict[str, Any] = {}

    def of(self, name: str) -> dict[str, Any]:
        """Of a benchmark. Raises SettingsError where it was never run."""
        return self._file(f"benchmarks/results/{name}.json")

    def has(self, name: str) -> bool:
        return (self._root / f"benchmarks/results/{name}.json").is_file()

    def judged(self, name: str) -> dict[str, dict[str, Any]]:
        """Of an eval, by set."""
        return {each["name"]: each for each in self._file(f"evals/results/{name}.json")["sets"]}

    @cached_property
    def calls(self) -> dict[str, dict[str, Any]]:
        """Of the search benchmark, by operation; MessagePack."""
        return {each["operation"]: each for each in self.of("latency")["calls"] if each["encoding"] == "MessagePack"}

    def _file(self, name: str) -> dict[str, Any]:
        if name not in self._read:
            path = self._root / name
            if not path.is_file():
                raise SettingsError(f"{name} is missing: a page says what it says; run that benchmark first")
            self._read[name] = msgspec.json.decode(path.read_bytes())
        found: dict[str, Any] = self._read[name]
        return found


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def share(value: float) -> str:
    """As `.743`."""
    return f"{value:.3f}".removeprefix("0")


def milliseconds(value: float) -> str:
    """Two figures that mean something: `1.5`, `12`, `150`."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def machine_phrase(machine: dict[str, Any]) -> str:
    """`2 cores of an AMD EPYC, Linux x86_64, Python 3.11.7, commit abc, 2026-11-23; other work took 3 % of the processors`."""
    other = machine.get("other_work")
    others = "" if other is None else f"; other work took {other:.0%} of the processors".replace("%", " %")
    return (
        f"{machine['cores']} cores of an {machine['cpu']}, {machine['system']}, Python {machine['python']}, "
        f"commit {machine['commit']}, {machine['date'][:10]}{others}"
    )


def finding_documents(measured: Measured) -> str:
    judged = measured.judged("retrieval")
    sets = {
        "scifact": "scientific claims (scifact test)",
        "cranfield": "aerodynamics (cranfield, even queries)",
        "cosqa": "questions to code (cosqa)",
    }
    rows = []
    for label, way in _LEGS:
        cells = [share(judged[name]["ways"][way]["ndcg_10"]) for name in sets]
        rows.append((label, *(f"**{cell}**" if way == "adaptive" else cell for cell in cells)))
    return table(("", *sets.values()), rows)


def finding_turns(measured: Measured) -> str:
    judged = measured.judged("memory")
    sets = {
        "locomo": "talks of two people over months (LoCoMo)",
        "beam-100k": "long chats with an assistant (BEAM 100k)",
    }
    rows = []
    for label, way in _RECALLS:
        cells = [share(judged[name]["ways"][way]["overall"]["share"]["10"]) for name in sets]
        rows.append((label, *(f"**{cell}**" if way == "hybrid" else cell for cell in cells)))
    whole = [[judged[name]["contexts"][each]["share"] for each in _CONTEXTS] for name in sets]
    cells = [", ".join(share(each) for each in shares) for shares in whole]
    rows.append(("in a context, before and after all sessions are compacted", *cells))
    return table(("", *sets.values()), rows)


def kept_in_spans(measured: Measured) -> str:
    foldings = measured.of("compaction")["foldings"]
    kinds = next(each["kinds"] for each in foldings if each["budget"] == _SPAN_BUDGET)
    shares = [kinds[kind]["survived"] / kinds[kind]["planted"] for kind in _LEDGER_KINDS]
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"


def speeds(measured: Measured) -> str:
    """One call at a time; each row names what it was measured on."""
    calls, writes = measured.calls, measured.of("memory-writes")
    scale, throughput = measured.of("memory-scale-100000"), measured.of("throughput")
    latency = measured.of("latency")
    times = [
        ("append one turn, on disk when answered", writes["one_turn"]["append_ms"]),
        (f"search {latency['documents']:,} documents, a new query", calls["search, unseen query"]["ms"]),
        (f"search {latency['documents']:,} documents, a query seen before", calls["search, repeated query"]["ms"]),
        (f"search {throughput['chunks']:,} chunks, a new query", throughput["unseen"]["service_ms"]),
        (f"recall among a user's {latency['turns']} turns, a new query", calls["recall"]["ms"]),
        (
            f"context of 2,000 tokens from {latency['turns']} turns and the documents",
            calls["context, 2,000 tokens"]["ms"],
        ),
        (f"recall beside {scale['turns']:,} turns of {scale['users']} users, a query seen before", scale["recall_ms"]),
    ]
    return table(
        ("one call at a time, over HTTP", "p50 ms", "p95 ms"),
        [(what, milliseconds(ms["p50"]), milliseconds(ms["p95"])) for what, ms in times],
    )


def rates(measured: Measured) -> str:
    writes, throughput, ingest = measured.of("memory-writes"), measured.of("throughput"), measured.of("ingest")
    crowds = {(each["sessions"], each["turns_per_request"]): each for each in writes["crowds"]}
    single = crowds[16, 1]
    rate = ingest["rate"]
    crowd = throughput["crowds"][0]
    transfers = {each["what"]: each for each in writes["transfers"]}
    rows = [
        (
            f"hybrid searches of {throughput['clients']} clients in {throughput['chunks']:,} chunks",
            crowd["searches_per_s"],
        ),
        (f"turns appended by {single['writers']} writers, each on disk when answered", single["turns_per_s"]),
        ("turns imported", transfers["import"]["turns_per_s"]),
        (
            f"chunks ingested, embedded and searchable (the model alone: {rate['bare_chunks_per_s'][0]:.0f})",
            rate["chunks_per_s"],
        ),
    ]
    return table(("all at once", "per second"), [(what, f"{number:,.0f}") for what, number in rows])


def speeds_machine(measured: Measured) -> str:
    return machine_phrase(measured.of("latency")["machine"])


NUMBERS: Final[dict[str, Callable[[Measured], str]]] = {
    "finding-documents": finding_documents,
    "finding-turns": finding_turns,
    "kept-in-spans": kept_in_spans,
    "rates": rates,
    "speeds": speeds,
    "speeds-machine": speeds_machine,
}
