"""Tokens per second against concurrency: the lab's held-out questions through Serve."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Literal

from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish
from benchmarks.served import Served, forgetful, served
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.stepper import StepTimes
from colllm_ray.lab.collaboration import SHIPPED, trained_lab
from colllm_ray.ray_session import ray_session
from colllm_ray.serving.lease import LINGER_S

CONCURRENCY = (1, 4, 16, 64)
WAYS: tuple[Literal["off", "auto"], ...] = ("off", "auto")  # of running ahead
BLOCK = 6  # times the questions are asked in a row: long enough for the start and the end of it not to count
LONGEST = 40  # tokens of an answer


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    lab = forgetful(TrainedCollaboration.load(trained_lab(None)))
    tokenizer = load_tokenizer(lab.collaboration.base)
    questions = read_whole(str(SHIPPED / "test.jsonl"), "test", tokenizer, 256, lab.collaboration.data)
    requests = [AnswerRequest(tuple(question.prompt_ids), LONGEST) for question in questions]
    rounds = 1 if options.quick else 4
    with ray_session(None, lab.collaboration), served(TeamSpec.of(lab), None) as application:
        measured = {
            run_ahead: _measured(application, [replace(request, run_ahead=run_ahead) for request in requests], rounds)
            for run_ahead in WAYS
        }
    rows = [
        {"run_ahead": run_ahead, "concurrency": concurrency, **one.row()}
        for run_ahead, by_concurrency in measured.items()
        for concurrency, one in by_concurrency.items()
    ]
    off, auto = (measured[run_ahead] for run_ahead in WAYS)
    headline = {
        "c16_over_c1": round(off[16].tokens_per_s / off[1].tokens_per_s, 3),
        "c16_over_c1_run_ahead": round(auto[16].tokens_per_s / auto[1].tokens_per_s, 3),
    }
    finish(options, Report("throughput", rows, headline), _chart)


@dataclass
class Measured:
    """What was answered at one concurrency, and what the models did meanwhile."""

    tokens: int = 0
    answers: int = 0
    wall: float = 0.0
    base: StepTimes = field(default_factory=StepTimes)
    experts_s: float = 0.0  # in steps

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


def _measured(application: Served, requests: list[AnswerRequest], rounds: int) -> dict[int, Measured]:
    """By concurrency. All are measured once a round, because a machine's speed drifts."""
    measured = {concurrency: Measured() for concurrency in CONCURRENCY}
    for _ in range(rounds):
        sleep(1.5 * LINGER_S)  # the leases of more answers than are coming have ended by then
        for concurrency, so_far in measured.items():
            asyncio.run(_answer_all(application, requests, concurrency))  # opens the leases that are missing
            _add(so_far, application, requests * (1 if concurrency == 1 else BLOCK), concurrency)
    return measured


def _add(so_far: Measured, application: Served, requests: Sequence[AnswerRequest], concurrency: int) -> None:
    before = application.step_times()
    begin = perf_counter()
    so_far.tokens += asyncio.run(_answer_all(application, requests, concurrency))
    so_far.wall += perf_counter() - begin
    so_far.answers += len(requests)
    base, *experts = (_since(then, now) for then, now in zip(before, application.step_times(), strict=True))
    so_far.base = _sum(so_far.base, base)
    so_far.experts_s += sum(expert.seconds for expert in experts)


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
