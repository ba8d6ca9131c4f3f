"""An evaluation as people read it: tables in the terminal, a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from colllm_ray.deferral.calibration import Calibration
from colllm_ray.evaluation import charts
from colllm_ray.evaluation.analysis import Analysis, Traces, traces_of
from colllm_ray.evaluation.answered import COLLABORATION, Answered
from colllm_ray.evaluation.colours import colour_of
from colllm_ray.evaluation.measures import Evaluation, Measures
from colllm_ray.serving.api.answers import TraceToken

EXAMPLES_PER_DOMAIN = 4
WROTE, PASSES = "wrote, %", "passes"  # columns that can be folded,
FOLDED = 17  # so that there is room for two models
LIGHT = 0.18  # the luminance above which black is easier to read than white


def results_table(evaluation: Evaluation) -> Table:
    """A row a method; columns that no method has a value for are left out."""
    overall, by_domain = evaluation.overall, evaluation.by_domain
    speeds = {method: evaluation.tokens_per_s(method) for method in overall}
    columns = {
        f"{charts.title_of_quality(evaluation.metric)}, %": [_with_interval(one) for one in overall.values()],
        **{domain: [_points(one.quality.mean) for one in measures.values()] for domain, measures in by_domain.items()},
        "behind": ["" if one.behind is None else _points(one.behind.mean) for one in overall.values()],
        "p": ["" if one.behind is None else _p(one.behind.p) for one in overall.values()],
        "NLL": ["" if one.nll is None else f"{one.nll:.2f}" for one in overall.values()],
        "calls": ["" if one.expert_calls is None else f"{one.expert_calls:.2f}" for one in overall.values()],
        "tok/s": ["" if speed is None else f"{speed:.0f}" for speed in speeds.values()],
        WROTE: [_by_model(_percents(one.shares), "{:.0f}") for one in overall.values()],
        PASSES: [_by_model(one.passes, "{:.2f}") for one in overall.values()],
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    title = f"{evaluation.name}, {evaluation.task}: {len(evaluation.answered)} questions"
    # As texts, in which nothing is markup: what domains are called is in the data.
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("method", min_width=max(map(len, overall)))
    for heading, cells in columns.items():
        # Where room is short, the last columns are folded, and then what is furthest right is cut off.
        width = max(map(len, (heading, *cells)))
        if heading in (WROTE, PASSES):
            table.add_column(Text(heading), min_width=min(width, FOLDED))
        else:
            table.add_column(Text(heading), justify="right", min_width=width)
    for method, *row in zip(overall, *columns.values(), strict=True):
        table.add_row(*map(Text, (method, *row)), style="bold" if method == COLLABORATION else None)
    table.caption = "in brackets: the 95 % interval; behind: the collaboration, on the same questions"
    if "calls" in columns:
        table.caption += "\nforward passes a token: of all experts (calls), of each model (passes)"
    return table


def calibration_table(calibration: Calibration) -> Table:
    """A row a threshold, the chosen one in bold."""
    table = Table(title="thresholds", box=box.SIMPLE_HEAD, show_edge=False)
    quality = f"{charts.title_of_quality(calibration.metric)}, %"
    for heading in ("threshold", "experts write, %", quality, "questions", "expert calls", "ms an answer", "front"):
        table.add_column(heading, justify="right")
    for one in calibration.candidates:
        table.add_row(
            f"{one.threshold:.6g}",
            _points(one.share),
            _points(one.quality),
            "" if one.questions is None else str(one.questions),
            "" if one.expert_calls is None else f"{one.expert_calls:.2f}",
            "" if one.answer_s is None else f"{1000 * one.answer_s:.1f}",
            "*" if one.on_front else "",
            style="bold" if one.threshold == calibration.threshold else None,
        )
    table.caption = "expert calls: an answer; front: no other threshold is as good and cheaper in one of them"
    return table


def report_page(evaluation: Evaluation) -> str:
    """The page; it needs no network and no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("colllm_ray.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, p=_p)
    environment.globals.update(ink_on=_ink_on)
    overall, traces = evaluation.overall, traces_of(evaluation)
    analysis = Analysis.of(evaluation, traces) if any(traces) else None
    drawn = {
        "qualities": charts.qualities(overall, evaluation.metric),
        "curve": charts.deferral_curve(evaluation, overall),
        "pareto": charts.pareto(overall, evaluation.metric),
        "places": analysis and charts.by_place(analysis.places),
        "kinds": analysis and charts.by_kind(analysis.kinds),
    }
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        quality=charts.title_of_quality(evaluation.metric),
        overall=overall,
        by_domain=evaluation.by_domain,
        speeds={method: evaluation.tokens_per_s(method) for method in overall},
        charts={name: svg and Markup(svg) for name, svg in drawn.items()},  # whose texts Matplotlib escapes
        analysis=analysis,
        colours={name: colour_of(author) for author, name in enumerate(evaluation.models)},
        examples=_examples(evaluation, traces),
        COLLABORATION=COLLABORATION,
    )


def _examples(evaluation: Evaluation, traces: Traces) -> list[tuple[Answered, Sequence[TraceToken]]]:
    """The first few questions of each domain, and of those that name none."""
    counts: dict[str | None, int] = {}
    examples = []
    for question, trace in zip(evaluation.answered, traces, strict=True):
        counts[question.domain] = counts.get(question.domain, 0) + 1
        if counts[question.domain] <= EXAMPLES_PER_DOMAIN:
            examples.append((question, trace))
    return examples


def _with_interval(measures: Measures) -> str:
    quality = measures.quality
    return f"{_points(quality.mean)} [{_points(quality.low)}, {_points(quality.high)}]"


def _percents(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * share for name, share in shares.items()}


def _by_model(values: Mapping[str, float], form: str) -> str:
    """Of the models that have any, as in "base:83 pharma:5": so a line is never broken within one."""
    told = {model: form.format(value) for model, value in values.items()}
    return " ".join(f"{model}:{text}" for model, text in told.items() if float(text) > 0)


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent(share: float | None) -> str:
    """Of nothing there is no percentage."""
    return "none" if share is None else f"{_points(share)} %"


def _ink_on(colour: str) -> str:
    """The text colour that is read best on a background "#RRGGBB" (WCAG 2.2, relative luminance)."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#111" if luminance > LIGHT else "#fff"
