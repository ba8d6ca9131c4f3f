"""Tokens per second against concurrency: the lab's held-out questions through Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish
from benchmarks.served import Served, served
from colllm_ray.data.examples import read_examples
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.stepper import StepTimes
from colllm_ray.lab.collaboration import SHIPPED, trained_lab
from colllm_ray.ray_session import ray_session

CONCURRENCY = (1, 4, 16, 64)
LONGEST = 40  # tokens of an answer


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    lab = TrainedCollaboration.load(trained_lab(None))
    questions = read_examples(SHIPPED / "test.jsonl", "test", load_tokenizer(lab.collaboration.base), 256)
    requests = [AnswerRequest(tuple(question.prompt_ids), LONGEST) for question in questions]
    rounds = 2 if options.quick else 4
    rows: list[Row] = []
    with ray_session(None, lab.collaboration), served(TeamSpec.of(lab), None) as application:
        for run_ahead in ("off", "auto"):
            asked = [replace(request, run_ahead=run_ahead) for request in requests]
            for concurrency in (16, *CONCURRENCY):
                answers = len(asked) * (1 if concurrency == 1 else rounds)
                row = _row(application, list(islice(cycle(asked), answers)), concurrency)
                rows.append({"run_ahead": run_ahead, **row})
            del rows[-len(CONCURRENCY) - 1]  # the first was to warm up
    by = {(row["run_ahead"], row["concurrency"]): float(row["tokens_per_s"]) for row in rows}
    headline = {
        "c16_over_c1": round(by["off", 16] / by["off", 1], 3),
        "c16_over_c1_run_ahead": round(by["auto", 16] / by["auto", 1], 3),
    }
    finish(options, Report("throughput", rows, headline), _chart)


def _row(application: Served, requests: Sequence[AnswerRequest], concurrency: int) -> Row:
    before = application.step_times()
    begin = perf_counter()
    tokens = asyncio.run(_answer_all(application, requests, concurrency))
    wall = perf_counter() - begin
    base, *experts = (_since(then, now) for then, now in zip(before, application.step_times(), strict=True))
    return {
        "concurrency": concurrency,
        "tokens_per_s": round(tokens / wall, 1),
        "answers_per_s": round(len(requests) / wall, 1),
        "base_tokens_a_step": round(base.tokens / base.steps, 2),
        "base_step_ms": round(base.seconds / base.steps * 1e3, 3),
        "base_busy": round(base.seconds / wall, 3),
        "experts_busy": round(sum(expert.seconds for expert in experts) / wall, 3),
    }


async def _answer_all(application: Served, requests: Sequence[AnswerRequest], concurrency: int) -> int:
    """Tokens written; `concurrency` answers are under way at any time."""
    waiting = iter(requests)

    async def work() -> int:
        return sum([len(await application.router.answer.remote(request)) for request in waiting])

    return sum(await asyncio.gather(*(work() for _ in range(concurrency))))


def _since(then: StepTimes, now: StepTimes) -> StepTimes:
    return StepTimes(now.steps - then.steps, now.tokens - then.tokens, now.seconds - then.seconds)


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        at = (float(row["concurrency"]), float(row["tokens_per_s"]))
        series.setdefault(f"run-ahead {row['run_ahead']}", []).append(at)
    line_chart(path, series, "answers at once", "tokens/s", "The lab through Serve", log_x=True, log_y=True)


if __name__ == "__main__":
    main()
