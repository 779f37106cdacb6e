"""What docs/ABLATIONS.md says of the committed ablations: each function makes one piece of Markdown. Pure, but for reading results."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from benchmarks.measured import Measured, machine_phrase, share, table, whole

RETRIEVAL_SETS: Final = ("scifact", "cranfield", "cosqa")
MEMORY_SETS: Final = ("locomo", "beam-100k")
# Usual, and with as many rows as here one in twenty of those that do nothing looks like something.
_SIGNIFICANT: Final = 0.05
_LEGS: Final = ("rrf", "relative", "dbsf", "dense", "lexical")

Rows = dict[tuple[str, str], dict[str, Any]]


def signed(value: float) -> str:
    """As `+.012` and `-.304`; `.000` where nothing is left of it."""
    text = f"{abs(value):.3f}"
    return text[1:] if float(text) == 0.0 else f"{'-' if value < 0 else '+'}{text.removeprefix('0')}"


def probability(value: float) -> str:
    """As `.012`, and `< .001` below the last figure."""
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def summary(service: str, names: tuple[str, ...], measured: Measured) -> str:
    """Changes alone, set by set; bold where chance hardly gives as much."""
    sets = {name: _rows(measured, service, name) for name in names}
    rows = []
    for key in dict.fromkeys(key for found in sets.values() for key in found):
        first = next(found[key] for found in sets.values() if key in found)
        if "change" in first:
            cells = [_change(found.get(key)) for found in sets.values()]
            rows.append((first["group"], first["part"], _base(first), *cells))
    defaults = [share(next(iter(found.values()))["scores"][_metric(measured, service)]) for found in sets.values()]
    head = ("", "as it is", "", *(f"**{cell}**" for cell in defaults))
    return table(("part", "asked so", "beside", *names), [head, *rows])


def details(service: str, name: str, measured: Measured) -> str:
    """One set: all that was measured."""
    rows = _rows(measured, service, name)
    shown = tuple(next(iter(rows.values()))["scores"])
    has_tokens = any("tokens" in row for row in rows.values())
    columns = ("asked so", *shown, "change", "95 %", "p", *(("tokens",) if has_tokens else ()))
    cells = []
    for row in rows.values():
        change = row.get("change")
        changed = ("", "", "")
        if change is not None:
            between = f"{signed(change['low'])} to {signed(change['high'])}"
            changed = (signed(change["mean"]), between, probability(change["p"]))
        tokens = (whole(row["tokens"]) if "tokens" in row else "",) if has_tokens else ()
        scores = (share(row["scores"][metric]) for metric in shown)
        cells.append((_named(row), *scores, *changed, *tokens))
    return table(columns, cells)


def what(service: str, measured: Measured) -> str:
    """What was asked, of what, where and when."""
    report = measured.evaluated(f"ablation-{service}")
    counted = {
        "retrieval": "{name}: {queries} queries, {documents} documents",
        "memory": "{name}: {questions} questions, {turns} turns",
    }
    sets = "; ".join(counted[service].format(name=each["name"], **each["counts"]) for each in report["sets"])
    return f"{sets}. {machine_phrase(report['machine'])}"


def backend(measured: Measured) -> str:
    return f"`{measured.evaluated('ablation-retrieval')['settings']['backend']}`"


def reranker(measured: Measured) -> str:
    return str(measured.evaluated("ablation-retrieval")["settings"]["reranker"])


def absent(measured: Measured) -> str:
    reasons = measured.evaluated("ablation-retrieval")["absent"]
    return table(("not measured", "why"), list(reasons.items()))


def agreement(measured: Measured) -> str:
    settings = measured.evaluated("ablation-memory")["settings"]
    shares = [f"{100 * float(settings[f'agreement on {name}']):.1f} % on {name}" for name in MEMORY_SETS]
    return " and ".join(shares)


def whole_sets(measured: Measured) -> str:
    """nDCG@10 of the legs and fusions over all documents and queries, and what the default has more."""
    judged = measured.judged("retrieval")
    rows = []
    for way in ("adaptive", *_LEGS):
        cells = []
        for name in RETRIEVAL_SETS:
            ways = judged[name]["ways"]
            cell = share(ways[way]["ndcg_10"])
            against = ways["adaptive"]["against"].get(way)
            if against is not None:
                mean, low, high = (-value for value in against)
                cell += f", {signed(mean)} ({signed(high)} to {signed(low)})"
            cells.append(cell)
        rows.append((f"`{way}`", *cells))
    return table(("nDCG@10, and the change from the default", *RETRIEVAL_SETS), rows)


def chunking(measured: Measured) -> str:
    """Hybrid search; what of the excerpts is among the five best chunks, and in an equal budget."""
    rows = [row for row in measured.evaluated("chunking")["rows"] if row["mode"] == "hybrid"]
    cells = [
        (
            row["variant"],
            whole(row["chunks"]),
            whole(row["characters_mean"]),
            *(share(row[name]) for name in ("recall", "precision", "iou")),
            *(share(row["recall_in"][budget]) for budget in row["recall_in"]),
        )
        for row in rows
    ]
    budgets = [f"recall in {budget} tokens" for budget in rows[0]["recall_in"]]
    return table(("cut", "chunks", "characters", "recall@5", "precision@5", "IoU@5", *budgets), cells)


def vectors_of_backends(measured: Measured) -> str:
    """How near the vectors of each backend are to those of torch."""
    speed = measured.of("embedding")["speed"]
    rows = [(each["backend"], f"{each['cosine_mean']:.5f}", f"{each['cosine_min']:.5f}") for each in speed]
    return table(("backend", "cosine to torch fp32, mean", "least"), rows)


def _rows(measured: Measured, service: str, name: str) -> Rows:
    sets = {each["name"]: each for each in measured.evaluated(f"ablation-{service}")["sets"]}
    return {(row["group"], row["part"]): row for row in sets[name]["rows"]}


def _metric(measured: Measured, service: str) -> str:
    metric: str = measured.evaluated(f"ablation-{service}")["sets"][0]["metric"]
    return metric


def _change(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    change = row["change"]
    text = signed(change["mean"])
    return f"**{text}**" if change["p"] < _SIGNIFICANT else text


def _base(row: dict[str, Any]) -> str:
    return "" if row["base"] == "as it is" else str(row["base"])


def _named(row: dict[str, Any]) -> str:
    return f"{row['group']}: {row['part']}" if row["group"] else f"**{row['part']}**"


ABLATION_NUMBERS: Final[dict[str, Callable[[Measured], str]]] = {
    "ablation-retrieval": partial(summary, "retrieval", RETRIEVAL_SETS),
    **{f"ablation-retrieval-{name}": partial(details, "retrieval", name) for name in RETRIEVAL_SETS},
    "ablation-retrieval-absent": absent,
    "ablation-retrieval-backend": backend,
    "ablation-retrieval-reranker": reranker,
    "ablation-retrieval-what": partial(what, "retrieval"),
    "ablation-retrieval-whole": whole_sets,
    "ablation-chunking": chunking,
    "ablation-vectors": vectors_of_backends,
    "ablation-memory": partial(summary, "memory", MEMORY_SETS),
    **{f"ablation-memory-{name}": partial(details, "memory", name) for name in MEMORY_SETS},
    "ablation-memory-agreement": agreement,
    "ablation-memory-what": partial(what, "memory"),
}
