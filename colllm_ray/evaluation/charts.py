"""Figures as SVG, to stand in a page: they take the page's own ink and need nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, Literal

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from colllm_ray.deferral.calibration import Calibration, Candidate
from colllm_ray.evaluation.analysis import Share
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.colours import EXPERT_COLOURS
from colllm_ray.evaluation.measures import Evaluation

INK = "#010203"  # stands for the page's own, which is not known here
SOFT = 0.35  # opacity of what is in the background
WIDTH = 8.0  # inches
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # and a dollar a dollar
    "svg.hashsalt": "colllm",
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


@rc_context(STYLE)
def qualities(evaluation: Evaluation) -> str:
    """Each method's quality, with its interval."""
    overall = evaluation.overall
    figure, axes = _figure(0.8 + 0.28 * len(overall))
    for y, (method, measures) in enumerate(reversed(overall.items())):
        mean, low, high = (100 * part for part in (measures.quality.mean, measures.quality.low, measures.quality.high))
        is_ours = method == COLLABORATION
        axes.barh(y, mean, color=EXPERT_COLOURS[0] if is_ours else INK, alpha=1.0 if is_ours else SOFT, height=0.7)
        axes.plot([low, high], [y, y], color=INK, linewidth=1)
    axes.set_yticks(range(len(overall)), list(reversed(overall)))
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{evaluation.metric}, %")
    return _svg(figure)


@rc_context(STYLE)
def deferral_curve(evaluation: Evaluation) -> str | None:
    """Quality against the share of deferred tokens (the paper's figure); None without a decoded curve."""
    curves = {"these questions": evaluation.curve}
    if any(one.expert_calls is not None for one in evaluation.calibration.candidates):
        curves["validation data"] = evaluation.calibration.candidates
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = _figure(3.4)
    for (name, curve), colour in zip(curves.items(), EXPERT_COLOURS, strict=False):
        points = sorted((100 * one.share, 100 * one.quality) for one in curve)
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, color=colour, label=name)
        for one in curve:
            if one.threshold == evaluation.calibration.threshold:
                axes.plot(100 * one.share, 100 * one.quality, "o", markersize=9, color=colour, fillstyle="none")
    overall = evaluation.overall
    if alone := {model: overall[model].quality.mean for model in evaluation.models if model in overall}:
        best = max(alone, key=alone.__getitem__)
        axes.axhline(100 * alone[best], color=INK, alpha=SOFT, linestyle="--", label=f"{best}, the best alone")
    axes.set_xlabel("tokens that experts write, %")
    axes.set_ylabel(f"{evaluation.metric}, %")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return _svg(figure)


@rc_context(STYLE)
def pareto(evaluation: Evaluation) -> str | None:
    """Quality against the experts' forward passes a token, with what no other method beats; None where none wrote."""
    points = {
        method: (measures.expert_calls, 100 * measures.quality.mean)
        for method, measures in evaluation.overall.items()
        if measures.expert_calls is not None
    }
    if not points:
        return None
    figure, axes = _figure(max(3.6, 0.5 + 0.17 * len(points)))
    for number, (method, (calls, quality)) in enumerate(points.items(), start=1):
        is_ours = method == COLLABORATION
        colour = EXPERT_COLOURS[0] if is_ours else INK
        axes.plot(calls, quality, "o", color=colour, alpha=1.0 if is_ours else 0.6, label=f"{number} {method}")
        axes.annotate(str(number), (calls, quality), (4, 4), textcoords="offset points", fontsize=8)
    best, steps = -1.0, []
    for calls, quality in sorted(points.values(), key=lambda one: (one[0], -one[1])):
        if quality > best:
            steps.append((calls, quality))
            best = quality
    axes.step(*zip(*steps, strict=True), where="post", color=EXPERT_COLOURS[0], alpha=SOFT)
    axes.set_xlabel("experts' forward passes a token")
    axes.set_ylabel(f"{evaluation.metric}, %")
    axes.set_ylim(-4, 104)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)
    return _svg(figure)


@rc_context(STYLE)
def by_place(places: Sequence[Share]) -> str:
    """Deferred tokens at each place of an answer."""
    figure, axes = _figure(2.4)
    axes.bar(range(1, len(places) + 1), [100 * (one.of_one or 0) for one in places], color=EXPERT_COLOURS[0])
    axes.set_xlabel("place in the answer, tokens")
    axes.set_ylabel("deferred, %")
    return _svg(figure)


@rc_context(STYLE)
def by_kind(kinds: Mapping[str, Share]) -> str:
    """Deferred tokens of each kind."""
    figure, axes = _figure(0.8 + 0.28 * len(kinds))
    rows = list(kinds.items())[::-1]
    shares = [100 * (share.of_one or 0) for _, share in rows]
    axes.barh(range(len(rows)), shares, color=EXPERT_COLOURS[0], height=0.7)
    axes.set_yticks(range(len(rows)), [f"{kind} ({share.whole})" for kind, share in rows])
    axes.set_xlabel("deferred, %")
    return _svg(figure)


@rc_context(STYLE)
def calibration_chart(calibration: Calibration) -> str:
    """Quality against the share of deferred tokens, the experts' forward passes and the seconds of an answer.

    Filled is what no other threshold beats, ringed the one that was chosen.
    """
    figure = Figure(figsize=(1.3 * WIDTH, 3.0), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    labels = ("tokens that experts write, %", "experts' forward passes an answer", "seconds of an answer")
    for axes, label in zip(panels, labels, strict=True):
        axes.set_xlabel(label)
    for one in calibration.candidates:
        for axes, cost in zip(panels, (100 * one.share, one.expert_calls, one.answer_s), strict=True):
            if cost is not None:
                _candidate(axes, cost, one, one.threshold == calibration.threshold)
    panels[0].set_ylabel(f"{calibration.metric}, %")
    return _svg(figure)


def _candidate(axes: Axes, cost: float, one: Candidate, is_chosen: bool) -> None:
    fill: Literal["full", "none"] = "full" if one.on_front else "none"
    axes.plot(cost, 100 * one.quality, "o", color=EXPERT_COLOURS[0], markersize=5, fillstyle=fill)
    if is_chosen:
        axes.plot(cost, 100 * one.quality, "o", color=INK, markersize=11, fillstyle="none")


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    """The element alone: no header, no metadata, nothing that names an address."""
    file = StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    return svg.replace(INK, "currentColor")
