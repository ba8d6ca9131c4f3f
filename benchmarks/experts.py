"""Latency against the number of experts, at equal deferral frequency; beside it, asking every expert at every token.

Random models of 30M weights each, over Serve, one process and one thread a model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from benchmarks.costs import CostSamples, sequential_ideal
from benchmarks.models import Size
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish, latencies
from benchmarks.scripted import prompt, random_spec, script
from benchmarks.served import Served, served
from colllm_ray.decoding.team import AnswerRequest
from colllm_ray.ray_session import ray_session

SIZE: Size = "30M"
FREQUENCY = 0.1
PROMPT = 64  # tokens
AT_A_TIME = 2  # answers, between two samples of the costs


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    answers, tokens, counts = (2, 64, (1, 8)) if options.quick else (4, 192, (1, 2, 4, 8))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for experts in counts:
            spec = random_spec(Path(folder), SIZE, SIZE, experts)
            with (
                ray_session(None, spec.trained.collaboration),
                served(spec, script(FREQUENCY, 0.0, experts)) as application,
            ):
                for how, spread in (("all deferrals to one", False), ("deferrals spread evenly", True)):
                    application.follow(script(FREQUENCY, 0.0, experts, spread))
                    requests = _requests(answers, tokens)
                    rows.append(_row(application, experts, how, requests))
                rows.append(_row_of_asking_all(application, experts, _requests(1, tokens // 2)))
    p50 = {(row["experts"], row["how"]): float(row["ms_p50"]) for row in rows}
    one = "all deferrals to one"
    spread_m8 = next(row for row in rows if row["experts"] == 8 and row["how"] == "deferrals spread evenly")
    headline = {
        "m8_over_m1": round(p50[8, one] / p50[1, one], 3),
        "spread_efficiency_m8": float(spread_m8["of_ideal"]),
    }
    finish(options, Report("experts", rows, headline), _chart)


def _row(application: Served, experts: int, how: str, requests: Sequence[AnswerRequest]) -> Row:
    application.timed(requests[0])  # opens what has to be opened
    costs = CostSamples(lambda: application.costs(PROMPT + (requests[0].max_tokens or 0) // 2))
    costs.take()
    timed = []
    for start in range(0, len(requests), AT_A_TIME):
        timed += [application.timed(request) for request in requests[start : start + AT_A_TIME]]
        costs.take()
    ideal = sum(sum(sequential_ideal(costs.mean(), PROMPT, written)) for written, _, _ in timed)
    wall = sum(wall for _, _, wall in timed)
    return _summary(experts, how, [each for _, each, _ in timed]) | {"of_ideal": round(ideal / wall, 3)}


def _row_of_asking_all(application: Served, experts: int, requests: Sequence[AnswerRequest]) -> Row:
    timed = [application.router.timed_asking_all.remote(request).result() for request in requests]
    return _summary(experts, "every expert asked at every token", [each for _, each in timed])


def _summary(experts: int, how: str, seconds: Sequence[Sequence[float]]) -> Row:
    """Times of each token but an answer's first, which has the prompt."""
    each = [second for answer in seconds for second in answer[1:]]
    return {
        "experts": experts,
        "how": how,
        "f": FREQUENCY,
        **latencies(each),
        "ms_mean": round(mean(each) * 1e3, 3),
    }


def _requests(answers: int, tokens: int) -> list[AnswerRequest]:
    return [AnswerRequest(prompt(answer, PROMPT), tokens, run_ahead="off") for answer in range(answers)]


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        series.setdefault(str(row["how"]), []).append((float(row["experts"]), float(row["ms_mean"])))
    line_chart(path, series, "experts", "ms a token (mean)", f"Models of {SIZE}, f = {FREQUENCY}", log_x=True)


if __name__ == "__main__":
    main()
