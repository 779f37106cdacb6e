"""Plots as SVG that stands in a page by itself: no script, no font and no file beside it.

matplotlib draws them. Plotly and Altair make livelier ones, and bring 3 to 5 MB of script into each page to do so; these take
some 20 kB, look the same on paper, and can be read in a page that may run no scripts. Text stays text, in the page's own
colour, so that they suit a dark page too.
"""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Final

from diptych.evaluation.extras import needed
from diptych.evaluation.statistics import Interval

# Told apart by those who see no red or green (Okabe and Ito, 2008), best contrast first.
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Stands for the page's own colour of text.
_TEXT: Final = "#010203"
_FAINT: Final = "#8c8c8c"
_LOST: Final = "#D55E00"
_WON: Final = "#0072B2"
_WIDTH_IN: Final = 7.6
_ROW_IN: Final = 0.24
_HEAD_IN: Final = 0.9
_STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _TEXT,
    "axes.axisbelow": True,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _TEXT,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "grid.color": _FAINT,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}

# By run, and within it by row.
Means = Mapping[str, Mapping[str, Interval]]


def means_plot(name: str, means: Means) -> str:
    """A row for each metric or category, a dot for each run, and a line for where 95 of 100 resamplings put it."""
    rows = list(dict.fromkeys(row for found in means.values() for row in found))
    height_in = _HEAD_IN + _ROW_IN * len(rows) * (0.7 + 0.6 * len(means))

    def draw(axes: Any) -> None:
        for index, (run, found) in enumerate(means.items()):
            places = [at + _offset(index, len(means)) for at, row in enumerate(rows) if row in found]
            shown = [found[row] for row in rows if row in found]
            spread = [
                [max(0.0, each.mean - each.low) for each in shown],
                [max(0.0, each.high - each.mean) for each in shown],
            ]
            axes.errorbar(
                [each.mean for each in shown],
                places,
                xerr=spread,
                fmt="o",
                markersize=4.5,
                color=_color(index),
                label=run,
                linewidth=1.6,
            )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=max(0.0, min(each.low for found in means.values() for each in found.values()) - 0.05))
        axes.grid(axis="x")
        _legend(axes, means)

    return _drawn(name, height_in, draw)


def changes_plot(name: str, metric: str, changes: Mapping[str, Sequence[float]]) -> str:
    """For each run what every query won or lost, from the greatest loss to the greatest gain."""

    def draw(axes: Any) -> None:
        for index, (run, values) in enumerate(changes.items()):
            ordered = sorted(values)
            share = [100.0 * (place + 0.5) / len(ordered) for place in range(len(ordered))]
            if len(changes) == 1:
                colors = [_LOST if value < 0 else _WON for value in ordered]
                axes.bar(share, ordered, width=100.0 / len(ordered), color=colors)
            else:
                axes.step(share, ordered, where="mid", color=_color(index + 1), label=run, linewidth=1.6)
        axes.axhline(0.0, color=_FAINT, linewidth=0.8)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the queries, ordered by what they lost or won")
        axes.set_ylabel(f"change in {metric}")
        axes.grid(axis="y")
        _legend(axes, changes)

    return _drawn(name, 2.9, draw)


def spread_plot(name: str, metric: str, scores: Mapping[str, Sequence[float]]) -> str:
    """How many queries score how much: a mean of .7 may be all at .7, or seven of ten at 1."""
    edges = [each / 10 for each in range(11)]

    def draw(axes: Any) -> None:
        axes.hist(
            [list(values) for values in scores.values()],
            bins=edges,
            weights=[[100.0 / len(values)] * len(values) for values in scores.values()],
            color=[_color(index) for index in range(len(scores))],
            label=list(scores),
            rwidth=0.85,
        )
        axes.set_xticks(edges)
        axes.set_xlabel(metric)
        axes.set_ylabel("% of the queries")
        axes.grid(axis="y")
        _legend(axes, scores)

    return _drawn(name, 2.6, draw)


def latency_plot(name: str, latencies: Mapping[str, Sequence[float]]) -> str:
    """The share of calls that were answered within so many milliseconds."""

    def draw(axes: Any) -> None:
        for index, (run, values) in enumerate(latencies.items()):
            ordered = sorted(values)
            share = [100.0 * (place + 1) / len(ordered) for place in range(len(ordered))]
            axes.step(ordered, share, where="post", color=_color(index), label=run, linewidth=1.6)
        axes.set_xlim(left=0)
        axes.set_ylim(0, 100)
        axes.set_xlabel("milliseconds")
        axes.set_ylabel("% of calls answered")
        axes.grid()
        _legend(axes, latencies)

    return _drawn(name, 2.6, draw)


def _drawn(name: str, height_in: float, draw: Any) -> str:
    """`name` keeps the ids within one page apart, and the same plot the same."""
    matplotlib = needed("matplotlib")
    written = StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = needed("matplotlib.figure").Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
        draw(figure.subplots())
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _standing(written.getvalue())


def _standing(svg: str) -> str:
    """Without what belongs to a file, as wide as the page lets it be, and in the page's own letters and colour."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    return re.sub(r"font-family: [^;\"]*", "font-family: inherit", body).replace(_TEXT, "currentColor").strip()


def _legend(axes: Any, runs: Mapping[str, object]) -> None:
    if len(runs) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(runs), 4))


def _color(index: int) -> str:
    return _COLORS[index % len(_COLORS)]


def _offset(index: int, count: int) -> float:
    """Runs of one row stand nearer to each other than to the next row."""
    return 0.0 if count == 1 else 0.45 * (index / (count - 1) - 0.5)
