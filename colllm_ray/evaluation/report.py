"""An evaluation as people read it: a table in the terminal, a self-contained page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import jinja2
from rich.table import Table
from transformers import PreTrainedTokenizerBase

from colllm_ray.evaluation.colours import colour_of
from colllm_ray.evaluation.measures import COLLABORATION, Answered, Evaluation
from colllm_ray.serving.api.attribution import trace_of

EXAMPLES_PER_DOMAIN = 4


def results_table(evaluation: Evaluation) -> Table:
    """Exact match for each model overall and by domain, its NLL, and its share of the collaboration's tokens."""
    overall, by_domain = evaluation.overall, evaluation.by_domain
    table = Table(title=f"{evaluation.name}: {overall.questions} held-out questions")
    for heading in ("model", "exact match", *by_domain, "NLL", "wrote"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    total = sum(overall.tokens_by_model.values())
    for who in _ordered(overall.exact_match):
        wrote = overall.tokens_by_model.get(who)
        table.add_row(
            who,
            _percent(overall.exact_match[who]),
            *(_percent(measures.exact_match[who]) for measures in by_domain.values()),
            f"{overall.nll[who]:.3f}",
            "" if wrote is None else _percent(wrote / total),
            style="bold" if who == COLLABORATION else None,
        )
    table.caption = f"{_percent(overall.deferral_rate)} of the collaboration's tokens come from an expert"
    return table


def write_report(evaluation: Evaluation, tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Writes the page; it needs no network and no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("colllm_ray.evaluation"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = _percent
    page = environment.get_template("report.html").render(
        evaluation=evaluation,
        overall=evaluation.overall,
        by_domain=evaluation.by_domain,
        order=_ordered(evaluation.overall.exact_match),
        colours={name: colour_of(author) for author, name in enumerate(evaluation.members)},
        examples=[
            (question, trace_of(question.written, evaluation.members, tokenizer)) for question in _chosen(evaluation)
        ],
        COLLABORATION=COLLABORATION,
    )
    path.write_text(page, encoding="utf-8")


def _chosen(evaluation: Evaluation) -> list[Answered]:
    """The first few questions of each domain (of all, where rows name none)."""
    counts: dict[str | None, int] = {}
    chosen = []
    for question in evaluation.answered:
        counts[question.domain] = counts.get(question.domain, 0) + 1
        if counts[question.domain] <= EXAMPLES_PER_DOMAIN:
            chosen.append(question)
    return chosen


def _ordered(who: Iterable[str]) -> list[str]:
    """Everyone that answered, the collaboration last."""
    return [*(name for name in who if name != COLLABORATION), COLLABORATION]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
