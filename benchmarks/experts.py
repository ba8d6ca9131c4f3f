"""Latency against the number of experts, at equal deferral frequency; beside it, asking every expert at every token.

Random models of 30M weights each, over Serve, one process and one thread a model. What the headlines compare, 1 expert
and 8, is served side by side and measured in turns; other numbers of experts once, after that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, median

from benchmarks.headline import higher, lower
from benchmarks.measured import Measured
from benchmarks.models import Size
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish, latencies
from benchmarks.scripted import prompt, random_spec, script
from benchmarks.served import Served, served
from benchmarks.session import some_ray
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec

RUNS = 5
FREQUENCY = 0.1
PROMPT = 64  # tokens
TO_ONE, SPREAD = "all deferrals to one", "deferrals spread evenly"
ASKING_ALL = "every expert asked at every token"


@dataclass(frozen=True)
class Plan:
    """How much is measured. few, many: numbers of experts that are compared in turns; once: others."""

    size: Size
    few: int
    many: int
    once: tuple[int, ...]
    tokens: int
    all_tokens: int  # of an answer that asks every expert
    warm_up: int  # tokens


PLANS: dict[Amount, Plan] = {
    "full": Plan("30M", 1, 8, (2, 4), tokens=192, all_tokens=48, warm_up=48),
    "quick": Plan("30M", 1, 8, (), tokens=64, all_tokens=32, warm_up=48),
    "smoke": Plan("2M", 1, 2, (), tokens=8, all_tokens=3, warm_up=2),
}


@dataclass
class Found:
    """By number of experts and how: all answers, and the median and share of the ideal of each run."""

    measured: dict[tuple[int, str], Measured] = field(default_factory=dict)
    p50: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    efficiency: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def add(self, experts: int, how: str, one: Measured) -> None:
        key = experts, how
        self.measured[key] = self.measured.get(key, Measured()) + one
        self.p50.setdefault(key, []).append(median(one.each))
        if how != ASKING_ALL:
            self.efficiency.setdefault(key, []).append(one.efficiency)


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        specs = {
            experts: random_spec(Path(folder), plan.size, plan.size, experts)
            for experts in (plan.few, plan.many, *plan.once)
        }
        with some_ray(specs[plan.many].trained.collaboration):
            _measure(specs, (plan.few, plan.many), options.runs, plan, found)
            _measure(specs, plan.once, 1, plan, found)
    rows = [
        _row(experts, how, one) for (experts, how), one in sorted(found.measured.items(), key=lambda item: item[0][0])
    ]
    few, many = (found.p50[experts, TO_ONE] for experts in (plan.few, plan.many))
    headline = {
        "m8_over_m1": lower(*(there / here for here, there in zip(few, many, strict=True))),
        "spread_efficiency_m8": higher(*found.efficiency[plan.many, SPREAD]),
    }
    finish(options, Report("experts", rows, headline), _chart)


def _measure(specs: dict[int, TeamSpec], counts: Sequence[int], runs: int, plan: Plan, found: Found) -> None:
    """Collaborations of so many experts, which are served side by side, in turns: there, and then back."""
    with ExitStack() as stack:
        applications = {
            experts: stack.enter_context(served(specs[experts], script(FREQUENCY, 0.0, experts))) for experts in counts
        }
        for run in range(runs):
            for experts in counts if run % 2 == 0 else counts[::-1]:
                _run(applications[experts], experts, run, plan, found)


def _run(application: Served, experts: int, run: int, plan: Plan, found: Found) -> None:
    request = AnswerRequest(prompt(run, PROMPT), plan.tokens, run_ahead="off")
    for how in (TO_ONE, SPREAD):
        application.follow(script(FREQUENCY, 0.0, experts, spread=how == SPREAD))
        opening = replace(request, prompt=prompt(run + 1, PROMPT), max_tokens=plan.warm_up)
        application.router.answer.remote(opening).result()
        application.meter(PROMPT + plan.tokens // 2)
        answers = application.answers([request])
        found.add(experts, how, Measured.of(answers, [request], application.costs()))
    _, each = application.router.timed_asking_all.remote(replace(request, max_tokens=plan.all_tokens)).result()
    found.add(experts, ASKING_ALL, Measured(each=each[1:]))


def _row(experts: int, how: str, measured: Measured) -> Row:
    """Times of each token but an answer's first, which has the prompt."""
    row: Row = {
        "experts": experts,
        "how": how,
        "f": FREQUENCY,
        **latencies(measured.each),
        "ms_mean": round(mean(measured.each) * 1e3, 3),
    }
    return row if how == ASKING_ALL else row | {"of_ideal": round(measured.efficiency, 3)}


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        series.setdefault(str(row["how"]), []).append((float(row["experts"]), float(row["ms_mean"])))
    line_chart(path, series, "experts", "ms a token (mean)", f"f = {FREQUENCY}", log_x=True)


if __name__ == "__main__":
    main()
