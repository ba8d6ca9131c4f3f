"""Tokens per second against concurrency: the lab's held-out questions through Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Literal

from benchmarks.headline import higher
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from benchmarks.served import Served, forgetful, served
from benchmarks.session import lab_for, some_ray
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.engine.stepping import StepTimes
from colllm_ray.lab.collaboration import SHIPPED
from colllm_ray.serving.lease import LINGER_S

RUNS = 5
CONCURRENCY = (1, 4, 16, 64)
WAYS: tuple[Literal["off", "auto"], ...] = ("off", "auto")  # of running ahead
BLOCK = 6  # times the questions are asked in a row: long enough for the start and the end of it not to count
LONGEST = 40  # tokens of an answer
QUESTIONS: dict[Amount, int | None] = {"full": None, "quick": None, "smoke": 1}  # all where nothing is said


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    lab = forgetful(lab_for(options.amount))
    tokenizer = load_tokenizer(lab.collaboration.base)
    questions = read_whole(str(SHIPPED / "test.jsonl"), "test", tokenizer, 256, lab.collaboration.data)
    requests = [AnswerRequest(tuple(question.prompt_ids), LONGEST) for question in questions]
    requests = requests[: QUESTIONS[options.amount]]
    with some_ray(lab.collaboration), served(TeamSpec.of(lab), None) as application:
        measured = {
            run_ahead: _measured(application, [replace(one, run_ahead=run_ahead) for one in requests], options.runs)
            for run_ahead in WAYS
        }
    rows = [
        {"run_ahead": run_ahead, "concurrency": concurrency, **sum(runs, Measured()).row()}
        for run_ahead, by_concurrency in measured.items()
        for concurrency, runs in by_concurrency.items()
    ]
    off, auto = (
        [many.tokens_per_s / one.tokens_per_s for many, one in zip(by[16], by[1], strict=True)]
        for by in measured.values()
    )
    headline = {"c16_over_c1": higher(*off), "c16_over_c1_run_ahead": higher(*auto)}
    finish(options, Report("throughput", rows, headline), _chart)


@dataclass
class Measured:
    """What was answered at one concurrency, and what the models did meanwhile."""

    tokens: int = 0
    answers: int = 0
    wall: float = 0.0
    base: StepTimes = field(default_factory=StepTimes)
    experts_s: float = 0.0  # in steps

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            self.tokens + other.tokens,
            self.answers + other.answers,
            self.wall + other.wall,
            _sum(self.base, other.base),
            self.experts_s + other.experts_s,
        )

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.wall

    def row(self) -> Row:
        return {
            "tokens_per_s": round(self.tokens_per_s, 1),
            "answers_per_s": round(self.answers / self.wall, 1),
            "base_tokens_a_step": round(self.base.tokens / self.base.steps, 2),
            "base_step_ms": round(self.base.seconds / self.base.steps * 1e3, 3),
            "base_busy": round(self.base.seconds / self.wall, 3),
            "experts_busy": round(self.experts_s / self.wall, 3),
        }


def _measured(application: Served, requests: list[AnswerRequest], runs: int) -> dict[int, list[Measured]]:
    """By concurrency. All are measured once a run, because a machine's speed drifts."""
    measured: dict[int, list[Measured]] = {concurrency: [] for concurrency in CONCURRENCY}
    for _ in range(runs):
        sleep(1.5 * LINGER_S)  # the leases of more answers than are coming have ended by then
        for concurrency, so_far in measured.items():
            asyncio.run(_answer_all(application, requests, concurrency))  # opens the leases that are missing
            so_far.append(_one(application, requests * (1 if concurrency == 1 else BLOCK), concurrency))
    return measured


def _one(application: Served, requests: Sequence[AnswerRequest], concurrency: int) -> Measured:
    before = application.step_times()
    begin = perf_counter()
    tokens = asyncio.run(_answer_all(application, requests, concurrency))
    wall = perf_counter() - begin
    base, *experts = (_since(then, now) for then, now in zip(before, application.step_times(), strict=True))
    return Measured(tokens, len(requests), wall, base, sum(expert.seconds for expert in experts))


async def _answer_all(application: Served, requests: Sequence[AnswerRequest], concurrency: int) -> int:
    """Tokens written; `concurrency` answers are under way at any time."""
    waiting = iter(requests)

    async def work() -> int:
        return sum([len((await application.router.answer.remote(request)).tokens) for request in waiting])

    return sum(await asyncio.gather(*(work() for _ in range(concurrency))))


def _sum(one: StepTimes, other: StepTimes) -> StepTimes:
    return StepTimes(one.steps + other.steps, one.tokens + other.tokens, one.seconds + other.seconds)


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
