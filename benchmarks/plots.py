"""Plots of the committed results, as SVG in docs/plots. Each is drawn from a small table of numbers, whose digest stands in the
file, so that a test can say whether a plot shows what was measured without comparing pictures."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measured import Measured

PLOTS_DIR: Final = Path(__file__).parent.parent / "docs" / "plots"
# Readable on a light and on a dark page: GitHub shows both.
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diptych",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}
_OURS: Final = "#c2410c"
_OTHERS: Final = ("#94a3b8", "#64748b", "#334155", "#0e7490", "#4d7c0f", "#7e22ce")
_STAMP: Final = re.compile(r"numbers ([0-9a-f]{16})")
_KINDS: Final = ("path", "id", "command", "number", "url", "date")


@dataclass(frozen=True, slots=True)
class Plot:
    """`numbers` is all that `paint` may know."""

    numbers: Callable[[Measured], Any]
    paint: Callable[[Axes, Any], None]
    title: str
    size: tuple[float, float] = (7.0, 3.6)


def stamp(numbers: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(numbers, order="deterministic")).hexdigest()[:16]


def stamp_in(svg: str) -> str | None:
    """Of the numbers that a file was drawn from."""
    found = _STAMP.search(svg)
    return found[1] if found else None


def draw(name: str, measured: Measured) -> Path:
    """Writes docs/plots/NAME.svg."""
    plot = PLOTS[name]
    numbers = plot.numbers(measured)
    path = PLOTS_DIR / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=plot.size, layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        axes.set_title(plot.title, loc="left", fontsize=10.5)
        plot.paint(axes, numbers)
        # Without a date, so that the same numbers make the same file.
        figure.savefig(path, format="svg", metadata={"Date": None, "Description": f"numbers {stamp(numbers)}"})
    return path


def _kept_by_budget(measured: Measured) -> dict[str, list[tuple[float, float]]]:
    return {
        kind: [
            (each["budget"], each["kinds"][kind]["survived"] / each["kinds"][kind]["planted"])
            for each in measured.of("compaction")["foldings"]
        ]
        for kind in _KINDS
    }


def _paint_kept(axes: Axes, numbers: dict[str, list[tuple[float, float]]]) -> None:
    for index, (kind, points) in enumerate(numbers.items()):
        color = _OURS if index == 0 else _OTHERS[index % len(_OTHERS)]
        axes.plot([100 * x for x, _ in points], [100 * y for _, y in points], marker="o", label=f"{kind}s", color=color)
    axes.set_xticks([100 * x for x, _ in next(iter(numbers.values()))])
    axes.set_xlabel("tokens of a span, % of the turns that it stands for")
    axes.set_ylabel("kept word for word, %")
    axes.set_ylim(0, 103)
    axes.legend(frameon=False, loc="lower right", ncols=2)


def _filters(measured: Measured) -> list[tuple[float, float, float, float]]:
    return [
        (each["keeps"], each["ms"]["p50"], each["ms"]["p95"], each["recall_at_10"])
        for each in measured.of("million-float32")["searches"]
    ]


def _paint_filters(axes: Axes, numbers: list[tuple[float, float, float, float]]) -> None:
    places = range(len(numbers))
    axes.bar([place - 0.2 for place in places], [p50 for _, p50, _, _ in numbers], 0.4, label="p50", color=_OURS)
    axes.bar([place + 0.2 for place in places], [p95 for _, _, p95, _ in numbers], 0.4, label="p95", color=_OTHERS[0])
    for place, (_, _, p95, recall) in zip(places, numbers, strict=True):
        axes.annotate(f"recall {recall:.3f}", (place, p95), ha="center", va="bottom", fontsize=8.5)
    axes.set_xticks(list(places), [f"{100 * keeps:g} %" for keeps, *_ in numbers])
    axes.margins(y=0.12)
    axes.set_xlabel("of a million vectors, the filter keeps")
    axes.set_ylabel("ms")
    axes.legend(frameon=False)


def _quality(measured: Measured) -> dict[str, list[float]]:
    judged = measured.judged("retrieval")
    return {
        label: [judged[name]["ways"][way]["ndcg_10"] for name in ("scifact", "cranfield", "cosqa")]
        for label, way in (
            ("words (BM25)", "lexical"),
            ("meaning (MiniLM)", "dense"),
            ("reciprocal rank fusion", "rrf"),
            ("Diptych's default", "adaptive"),
        )
    }


def _paint_quality(axes: Axes, numbers: dict[str, list[float]]) -> None:
    width = 0.8 / len(numbers)
    for index, (label, values) in enumerate(numbers.items()):
        color = _OURS if index == len(numbers) - 1 else _OTHERS[index]
        bars = axes.bar(
            [place + index * width for place in range(len(values))], values, width, label=label, color=color
        )
        axes.bar_label(bars, fmt=lambda value: f"{value:.3f}".removeprefix("0"), fontsize=8)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(3)], ["scifact", "cranfield", "cosqa"])
    axes.set_ylabel("nDCG@10")
    axes.set_ylim(0, 0.9)
    axes.legend(frameon=False, ncols=4, loc="upper center", fontsize=8, columnspacing=1.2)


def _vector_peers(measured: Measured) -> list[tuple[str, str, float, float]]:
    """Name, way, milliseconds, nDCG@10."""
    return [
        (system["name"], way, each["ms"]["p50"], each["ndcg_at_10"])
        for system in measured.of("retrieval-peers")["systems"]
        for way, each in system["ways"].items()
    ]


def _paint_vector_peers(axes: Axes, numbers: list[tuple[str, str, float, float]]) -> None:
    markers = {"dense": "o", "hybrid": "D"}
    names = list(dict.fromkeys(name for name, *_ in numbers))
    colors = dict(zip(names, (_OURS, *_OTHERS[1:]), strict=False))
    for name, way, ms, ndcg in numbers:
        axes.scatter(ms, ndcg, marker=markers[way], color=colors[name], s=50, label=f"{name}, {way}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(0.1, 0.15)
    axes.set_xlabel("ms of one search, p50 (log); further left is faster")
    axes.set_ylabel("nDCG@10")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _memory_peers(measured: Measured) -> list[tuple[str, float, float, float, float]]:
    """Name, milliseconds of an append and of a search, share and any at 10."""
    return [
        (each["name"], each["append_ms"]["p50"], each["search_ms"]["p50"], each["share_at_10"], each["any_at_10"])
        for each in measured.of("memory-peers")["systems"]
    ]


def _paint_memory_peers(axes: Axes, numbers: list[tuple[str, float, float, float, float]]) -> None:
    for index, (name, append_ms, search_ms, at_10, any_at_10) in enumerate(numbers):
        color = _OURS if index == 0 else _OTHERS[index]
        for place, value in ((0, at_10), (1, any_at_10)):
            bars = axes.bar(place + 0.28 * (index - 1), value, 0.26, color=color, label=name if place == 0 else None)
            axes.bar_label(bars, fmt=lambda shown: f"{shown:.3f}".removeprefix("0"), fontsize=8.5)
        axes.annotate(
            f"{name}: append {append_ms:.1f} ms, search {search_ms:.1f} ms",
            (1.5, 0.9 - 0.12 * index),
            fontsize=8.5,
            color=color,
            backgroundcolor="white",
        )
    axes.set_xticks([0, 1], ["share of the turns\nthat answer, in ten", "any of them\nin ten"])
    axes.set_xlim(-0.5, 3.4)
    axes.set_ylim(0, 1.05)


PLOTS: Final = {
    "vector-peers": Plot(_vector_peers, _paint_vector_peers, "Vector databases: what is found, and how fast"),
    "memory-peers": Plot(_memory_peers, _paint_memory_peers, "Memories of agents: what is found"),
    "quality": Plot(_quality, _paint_quality, "Each leg alone and fused: documents found"),
    "kept-in-spans": Plot(_kept_by_budget, _paint_kept, "What compaction keeps, by the size of a span"),
    "filters-million": Plot(_filters, _paint_filters, "Dense search in a million vectors, by what a filter keeps"),
}
