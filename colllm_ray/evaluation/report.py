"""An evaluation as people read it: tables in the terminal, a self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jinja2
from markupsafe import Markup
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from colllm_ray.deferral.calibration import Calibration
from colllm_ray.evaluation import charts
from colllm_ray.evaluation.analysis import Analysis, traces_of
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.colours import colour_of
from colllm_ray.evaluation.measures import Evaluation, Measures
from colllm_ray.serving.api.answers import TraceToken

EXAMPLES_PER_DOMAIN = 4


def results_table(evaluation: Evaluation) -> Table:
    """A row a method; columns that no method has a value for are left out."""
    by_domain, columns = evaluation.by_domain, _columns(evaluation)
    table = Table(title=f"{evaluation.name}, {evaluation.task}: {len(evaluation.answered)} questions")
    for heading in ("method", f"{evaluation.metric}, %", *by_domain, *columns):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap="," not in heading)
    for method, measures in evaluation.overall.items():
        table.add_row(
            method,
            f"{_points(measures.quality.mean)} [{_points(measures.quality.low)}, {_points(measures.quality.high)}]",
            *(_points(of_domain[method].quality.mean) for of_domain in by_domain.values()),
            *(column.get(method, "") for column in columns.values()),
            style="bold" if method == COLLABORATION else None,
        )
    table.caption = "in brackets: the 95 % interval; behind: the collaboration, on the same questions"
    return table


def calibration_table(calibration: Calibration) -> Table:
    """A row a threshold, the chosen one in bold."""
    table = Table(title="thresholds")
    quality = f"{calibration.metric}, %"
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
    table.caption = "front: no other threshold is as good and cheaper in one of them"
    return table


def report_page(evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase) -> str:
    """The page; it needs no network and no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("colllm_ray.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    colours = {name: colour_of(author) for author, name in enumerate(evaluation.models)}
    traces = traces_of(evaluation, tokenizer)
    analysis = Analysis.of(evaluation, tokenizer) if any(traces) else None
    drawn = {
        "qualities": charts.qualities(evaluation),
        "curve": charts.deferral_curve(evaluation),
        "pareto": charts.pareto(evaluation),
        "places": analysis and charts.by_place(analysis.places),
        "kinds": analysis and charts.by_kind(analysis.kinds),
    }
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        overall=evaluation.overall,
        columns=_columns(evaluation),
        charts={name: svg and Markup(svg) for name, svg in drawn.items()},  # whose texts matplotlib escapes
        analysis=analysis,
        colours=colours,
        palette=list(colours.values()),
        examples=[(evaluation.answered[i], traces[i]) for i in _chosen(evaluation, traces)],
        COLLABORATION=COLLABORATION,
    )


def _columns(evaluation: Evaluation) -> dict[str, dict[str, str]]:
    """What else there is to tell of methods, by heading and method."""
    overall = evaluation.overall
    columns = {
        "behind": {name: _behind(one) for name, one in overall.items() if one.behind is not None},
        "NLL": {name: f"{one.nll:.3f}" for name, one in overall.items() if one.nll is not None},
        "tokens/s": {name: f"{speed:.0f}" for name in overall if (speed := evaluation.tokens_per_s(name)) is not None},
        "wrote, %": {name: _by_model(one.shares, 100, "{:.0f}") for name, one in overall.items() if one.shares},
        "passes a token": {name: _by_model(one.passes, 1, "{:.2f}") for name, one in overall.items() if one.passes},
    }
    return {heading: column for heading, column in columns.items() if column}


def _behind(measures: Measures) -> str:
    assert measures.behind is not None, "only those that are compared are told"
    return f"{_points(measures.behind.mean)} (p {measures.behind.p:.2g})"


def _by_model(values: Mapping[str, float], scale: float, form: str) -> str:
    """Of each model that has any: "base 83, pharma 5"."""
    return ", ".join(f"{name}\N{NO-BREAK SPACE}{form.format(scale * value)}" for name, value in values.items() if value)


def _chosen(evaluation: Evaluation, traces: Sequence[Sequence[TraceToken]]) -> list[int]:
    """The first few questions of each domain (of all, where rows name none) that have an answer."""
    counts: dict[str | None, int] = {}
    chosen = []
    for i, question in enumerate(evaluation.answered):
        counts[question.domain] = counts.get(question.domain, 0) + 1
        if counts[question.domain] <= EXAMPLES_PER_DOMAIN and traces[i]:
            chosen.append(i)
    return chosen


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
