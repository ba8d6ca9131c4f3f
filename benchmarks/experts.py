"""Latency against the number of experts, at equal deferral frequency; beside it, asking every expert at every token.

Random models of 30M weights each, over Serve, one process and one thread a model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean

from benchmarks.measured import Measured
from benchmarks.models import Size
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish, latencies
from benchmarks.scripted import prompt, random_spec, script
from benchmarks.served import served
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.ray_session import ray_session

SIZE: Size = "30M"
FREQUENCY = 0.1
PROMPT = 64  # tokens
ANSWERS = 2
TO_ONE, SPREAD = "all deferrals to one", "deferrals spread evenly"
ASKING_ALL = "every expert asked at every token"


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    # There and back: a machine's speed drifts, and each number of experts is an application of its own.
    tokens, counts = (64, (1, 8)) if options.quick else (192, (1, 2, 4, 8, 8, 4, 2, 1))
    measured: dict[tuple[int, str], Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        for experts in counts:
            for how, one in _measured(random_spec(Path(folder), SIZE, SIZE, experts), experts, tokens):
                measured[experts, how] = measured.get((experts, how), Measured()) + one
    rows = [_row(experts, how, one) for (experts, how), one in sorted(measured.items(), key=lambda item: item[0][0])]
    p50 = {(row["experts"], row["how"]): float(row["ms_p50"]) for row in rows}
    headline = {
        "m8_over_m1": round(p50[8, TO_ONE] / p50[1, TO_ONE], 3),
        "spread_efficiency_m8": round(measured[8, SPREAD].efficiency, 3),
    }
    finish(options, Report("experts", rows, headline), _chart)


def _measured(spec: TeamSpec, experts: int, tokens: int) -> Iterator[tuple[str, Measured]]:
    requests = [AnswerRequest(prompt(answer, PROMPT), tokens, run_ahead="off") for answer in range(ANSWERS)]
    with ray_session(None, spec.trained.collaboration), served(spec, script(FREQUENCY, 0.0, experts)) as application:
        for how in (TO_ONE, SPREAD):
            application.follow(script(FREQUENCY, 0.0, experts, spread=how == SPREAD))
            application.router.answer.remote(requests[0]).result()  # opens what has to be opened
            application.meter(PROMPT + tokens // 2)
            answers = application.answers(requests)
            yield how, Measured.of(answers, requests, application.costs())
        short = replace(requests[0], max_tokens=tokens // 2)
        _, each = application.router.timed_asking_all.remote(short).result()
        yield ASKING_ALL, Measured(each=each[1:])


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
    line_chart(path, series, "experts", "ms a token (mean)", f"Models of {SIZE}, f = {FREQUENCY}", log_x=True)


if __name__ == "__main__":
    main()
