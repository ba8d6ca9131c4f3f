"""The charts that the benchmarks draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with colour-blindness can tell apart, without its yellow: too pale on white.
COLOURS = [colour for i, colour in enumerate(matplotlib.color_sequences["okabe_ito"]) if i != 4]
MARKERS = "osD^vPX"


def bar_chart(path: Path, bars: Mapping[str, float], x_label: str, title: str) -> None:
    """Writes a PNG with one bar for each name."""
    figure = Figure(figsize=(7, 1 + 0.5 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(list(bars)[::-1], list(bars.values())[::-1], color=COLOURS[0])
    axes.set(xlabel=x_label, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150)


def line_chart(
    path: Path,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Writes a PNG with one line of (x, y) points for each name; y begins at 0 unless it is logarithmic.

    Raises ValueError where a point has no place on a logarithmic axis.
    """
    for name, points in series.items():
        if any((log_x and x <= 0) or (log_y and y <= 0) for x, y in points):
            raise ValueError(f"{title}, {name}: a logarithmic axis needs values above 0, this has {list(points)}")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, (name, points) in enumerate(series.items()):
        x, y = zip(*sorted(points), strict=True) if points else ((), ())
        axes.plot(x, y, label=name, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], linewidth=1.8)
    if log_x:
        ticks = sorted({x for points in series.values() for x, _ in points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150)
