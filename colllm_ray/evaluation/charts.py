"""Figures as SVG: what stands in a page takes the page's own ink, and needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from itertools import product
from math import cos, radians, sin
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation.analysis import Share
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.colours import EXPERT_COLOURS
from colllm_ray.evaluation.measures import Evaluation, Measures

OURS, OTHER = EXPERT_COLOURS[:2]
ORACLE = "oracle"  # knows the reference, and so is nobody's rival
INK = "#010203"  # stands for the page's own, which is not known here
SOFT = 0.35  # opacity of what is in the background
WIDTH = 8.0  # inches
ROW = 0.28  # inches of a bar and the space around it
RING: dict[str, Any] = {"marker": "o", "markersize": 10, "color": INK, "fillstyle": "none", "linestyle": "none"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # and a dollar a dollar
    "font.family": "DejaVu Sans",  # which Matplotlib brings along: what is measured is the same everywhere
    "font.size": 10,
    "figure.dpi": 72,  # one pixel is one point
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
styled = rc_context(STYLE)


def title_of_quality(metric: str) -> str:
    """What the quality is, for a heading: it is shown in percent."""
    return "1 / perplexity" if metric == "perplexity" else metric


@styled
def qualities(overall: Mapping[str, Measures], metric: str) -> str:
    """Each method's quality, with its interval."""
    figure = Figure(figsize=(WIDTH, 0.8 + ROW * len(overall)))
    axes = figure.subplots()
    for y, (method, measures) in enumerate(overall.items()):
        mean, low, high = _percents(measures)
        is_ours = method == COLLABORATION
        axes.barh(y, mean, color=OURS if is_ours else INK, alpha=1.0 if is_ours else SOFT, height=0.7)
        axes.plot([low, high], [y, y], color=INK, linewidth=1)
        axes.text(102, y, f"{mean:.1f}", ha="left", va="center", fontweight=_weight(is_ours))
    axes.set_yticks(range(len(overall)), list(overall))
    axes.set_ylim(len(overall) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{title_of_quality(metric)}, %")
    axes.get_yticklabels()[list(overall).index(COLLABORATION)].set_fontweight(_weight(True))
    return _inline(figure, f"{title_of_quality(metric)} of each method, in percent")


@styled
def deferral_curve(evaluation: Evaluation, overall: Mapping[str, Measures]) -> str | None:
    """Quality against the share of deferred tokens (Co-LLM's figure of deferral frequencies); None without a curve.

    What validation data say is drawn where they were measured alike.
    """
    calibration = evaluation.calibration
    curves: dict[str, Sequence[Candidate]] = {"these questions": evaluation.curve}
    if calibration.metric == evaluation.metric:
        curves["validation data"] = calibration.candidates
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure = Figure(figsize=(WIDTH, 3.6))
    axes = figure.subplots()
    for name, curve in curves.items():
        colour, line = (OURS, "-") if curve is evaluation.curve else (OTHER, "--")
        points = sorted((100 * one.share, 100 * one.quality) for one in curve)
        axes.plot(*zip(*points, strict=True), line, marker="o", markersize=3.5, color=colour, label=name)
    chosen = [one for curve in curves.values() for one in curve if one.threshold == calibration.threshold]
    if chosen:
        points = [(100 * one.share, 100 * one.quality) for one in chosen]
        axes.plot(*zip(*points, strict=True), **RING, label="the chosen threshold")
    alone = [model for model in evaluation.models if model in overall]
    if alone:
        best = max(alone, key=lambda model: overall[model].quality.mean)
        levels = {evaluation.models[0]: "alone", best: "the best alone"}
        for (model, what), line in zip(levels.items(), (":", "-."), strict=False):
            if model in overall:
                axes.axhline(
                    _percents(overall[model])[0], color=INK, alpha=0.6, linestyle=line, label=f"{what}: {model}"
                )
    axes.set_xlabel("tokens that experts write, %")
    axes.set_ylabel(f"{title_of_quality(evaluation.metric)}, %")
    figure.legend(loc="outside upper left", ncols=3)
    return _inline(figure, "quality against the share of tokens that experts write")


@styled
def pareto(overall: Mapping[str, Measures], metric: str) -> str | None:
    """Quality against the experts' forward passes a token, with the front; None where nothing was written.

    The front is what no other method beats; the oracle, which knows the reference, is not asked.
    """
    calls = {method: one.expert_calls for method, one in overall.items() if one.expert_calls is not None}
    if not calls:
        return None
    points = {method: (x, 100 * overall[method].quality.mean) for method, x in calls.items()}
    front: dict[str, tuple[float, float]] = {}
    for method, point in sorted(points.items(), key=lambda one: (one[1][0], -one[1][1])):
        if method != ORACLE and all(point[1] > quality for _, quality in front.values()):
            front[method] = point
    figure = Figure(figsize=(WIDTH, max(3.6, 0.6 + 0.17 * len(points))))
    axes = figure.subplots()
    axes.step(*zip(*front.values(), strict=True), where="post", color=OURS, alpha=SOFT)
    for method, (x, quality) in points.items():
        _, low, high = _percents(overall[method])
        colour = OURS if method == COLLABORATION else INK
        axes.plot([x, x], [low, high], color=colour, linewidth=1, alpha=SOFT)
        axes.plot(x, quality, "o", color=colour, markersize=5, fillstyle="full" if method in front else "none")
    axes.margins(0.06, 0.08)
    axes.set_xlabel("experts' forward passes a token")
    axes.set_ylabel(f"{title_of_quality(metric)}, %")
    numbered = [Line2D([], [], linestyle="none", label=f"{i}  {name}") for i, name in enumerate(points, start=1)]
    legend = axes.legend(
        handles=numbered, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=0, handletextpad=0
    )
    legend.get_texts()[list(points).index(COLLABORATION)].set_fontweight(_weight(True))
    _number(figure, axes, list(points.values()))
    return _inline(figure, "quality of each method against the experts' forward passes a token")


@styled
def by_place(places: Sequence[Share]) -> str:
    """Deferred tokens at each place of an answer, and how many answers have one there."""
    figure = Figure(figsize=(WIDTH, 2.6))
    axes = figure.subplots()
    axes.stairs([100 * (one.of_one or 0) for one in places], fill=True, color=OURS)
    axes.set_xlabel("tokens before it in the answer")
    axes.set_ylabel("deferred, %")
    axes.set_xlim(0, len(places))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    answers = axes.twinx()
    answers.spines["right"].set_visible(True)
    answers.stairs([one.whole for one in places], color=INK, alpha=SOFT, baseline=None)
    answers.set_ylabel("answers (line)")
    answers.set_ylim(bottom=0)
    return _inline(figure, "share of deferred tokens at each place of an answer")


@styled
def by_kind(kinds: Mapping[str, Share]) -> str:
    """Deferred tokens of each kind."""
    figure = Figure(figsize=(WIDTH, 0.8 + ROW * len(kinds)))
    axes = figure.subplots()
    shares = [100 * (share.of_one or 0) for share in kinds.values()]
    axes.barh(range(len(kinds)), shares, color=OURS, height=0.7)
    for y, share in enumerate(shares):
        axes.annotate(f"{share:.1f}", (share, y), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(kinds)), [f"{kind} ({share.whole})" for kind, share in kinds.items()])
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_xlabel("deferred, %")
    return _inline(figure, "share of deferred tokens of each kind")


@styled
def calibration_chart(calibration: Calibration) -> str:
    """A file of its own: quality against the deferred share, the experts' forward passes and the time of an answer.

    Filled is what no other threshold beats, ringed the one that was chosen. What was not measured has no panel.
    """
    costs: dict[str, Sequence[float | None]] = {
        "tokens that experts write, %": [100 * one.share for one in calibration.candidates],
        "experts' forward passes an answer": [one.expert_calls for one in calibration.candidates],
        "milliseconds an answer": [one.answer_s and 1000 * one.answer_s for one in calibration.candidates],
    }
    costs = {name: values for name, values in costs.items() if any(value is not None for value in values)}
    figure = Figure(figsize=(1.3 * WIDTH, 3.4))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(panels, costs.items(), strict=True):
        axes.set_xlabel(name)
        for cost, one in zip(values, calibration.candidates, strict=True):
            if cost is not None:
                fill = "full" if one.on_front else "none"
                axes.plot(cost, 100 * one.quality, "o", color=OURS, markersize=5, fillstyle=fill)
                if one.threshold == calibration.threshold:
                    axes.plot(cost, 100 * one.quality, **RING)
    panels[0].set_ylabel(f"{title_of_quality(calibration.metric)}, %")
    keys = [
        Line2D([], [], marker="o", color=OURS, linestyle="none", label="on the front"),
        Line2D([], [], marker="o", color=OURS, linestyle="none", fillstyle="none", label="not on it"),
        Line2D([], [], **RING, label="chosen"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return _svg(figure, "calibration").replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)


def _percents(measures: Measures) -> tuple[float, float, float]:
    """The mean, and its interval."""
    return 100 * measures.quality.mean, 100 * measures.quality.low, 100 * measures.quality.high


def _weight(is_ours: bool) -> str:
    return "bold" if is_ours else "normal"


def _number(figure: Figure, axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """Writes 1, 2, .. beside the points, each where it covers nothing, with a line to its point if that is far."""
    figure.draw_without_rendering()  # only then it is known where they lie
    at = axes.transData.transform(points)
    taken = [Bbox.from_bounds(x - 3, y - 3, 6, 6) for x, y in at]
    places = [
        (distance * cos(radians(angle)), distance * sin(radians(angle)))
        for distance, angle in product(range(10, 80, 8), (0, 45, 90, 135, 180, 315, 270, 225))
    ]
    for number, (point, (x, y)) in enumerate(zip(points, at, strict=True), start=1):
        width = 3 + 5 * len(str(number))
        boxes = [Bbox.from_bounds(x + dx - width / 2, y + dy - 4, width, 8) for dx, dy in places]
        overlaps = [box.count_overlaps(taken) + (box.y0 < axes.bbox.y0 + 2) + (box.x0 < axes.bbox.x0) for box in boxes]
        best = overlaps.index(min(overlaps))
        taken.append(boxes[best])
        line = {"arrowstyle": "-", "color": INK, "alpha": SOFT, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            str(number),
            point,
            places[best],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            arrowprops=line if max(map(abs, places[best])) > 12 else None,
        )


def _inline(figure: Figure, label: str) -> str:
    """To stand in a page, where `label` tells what it is to those who cannot see it; ids are the label's own."""
    return _svg(figure, label).replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)


def _svg(figure: Figure, salt: str) -> str:
    """The element alone: no header, no metadata, no address, and no ids but those that it needs itself."""
    file = StringIO()
    with rc_context({"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    needed = set(re.findall(r"#(\w+)[\")]", svg))
    svg = re.sub(r' id="([^"]*)"', lambda one: one[0] if one[1] in needed else "", svg)
    return svg.replace(INK, "currentColor")
