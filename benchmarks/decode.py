"""Decoding speed against deferral frequency: ours, the sequential ideal, and the rivals on the same models.

Random models of 30M (base) and 170M (expert) weights with scripted deferrals, and the trained lab. One thread a model.
What a headline compares is measured in turns, in each of the runs; other settings once, in the first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean, median
from typing import Literal

import torch

from benchmarks.found import Found, Setting
from benchmarks.headline import Headline, higher, lower
from benchmarks.link_rtt import link_rtts_ms
from benchmarks.measured import Answer, Measured, in_process
from benchmarks.models import Size, write_model
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, finish
from benchmarks.rivals.hf_generate import generating
from benchmarks.rivals.reference_protocol import reference_servers, seconds_at
from benchmarks.script import Script
from benchmarks.scripted import Local, of_text, prompt, random_spec, script
from benchmarks.served import Served, forgetful, served
from benchmarks.session import lab_for, some_ray
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.lab.collaboration import SHIPPED

RUNS = 5
PROMPT = 64  # tokens
NAMED = (0.1, 0.3)  # frequencies that headlines name
PARTS = 5  # of an answer, of which the reference protocol writes one in a run
LAB_LONGEST = 40  # tokens of an answer
LAB_MIDDLE = 20  # tokens, at which the cost of a forward pass is measured
LAB_CONTEXT = 256  # tokens
LAB_BLOCK = 10  # questions

RunAhead = Literal["auto", "off"]


@dataclass(frozen=True)
class Plan:
    """How much is measured. once: frequencies of the first run alone."""

    base: Size
    expert: Size
    once: tuple[float, ...]
    tokens: int
    round_trips: int
    lab_questions: int
    lab_warm_up: int

    @property
    def models(self) -> str:
        return f"{self.base} + {self.expert}"

    @property
    def middle(self) -> int:
        """The length at which a forward pass costs what it does on average over an answer."""
        return PROMPT + self.tokens // 2

    def requests(self, run: int) -> list[AnswerRequest]:
        """Two, so that of the ways that take turns each is once the first: the drift of a machine's speed cancels."""
        return [AnswerRequest(prompt(i, PROMPT), self.tokens, run_ahead="off") for i in (2 * run, 2 * run + 1)]


PLANS: dict[Amount, Plan] = {
    "full": Plan("30M", "170M", (0.05, 0.5, 1.0), tokens=160, round_trips=600, lab_questions=150, lab_warm_up=60),
    "quick": Plan("30M", "170M", (), tokens=96, round_trips=600, lab_questions=60, lab_warm_up=30),
    "smoke": Plan("2M", "2M", (), tokens=6, round_trips=20, lab_questions=2, lab_warm_up=1),
}


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    torch.set_num_threads(1)
    found = Found()
    with tempfile.TemporaryDirectory() as folder:
        spec = random_spec(Path(folder), plan.base, plan.expert, experts=1)
        lab = forgetful(lab_for(options.amount))
        models = [write_model(Path(folder), plan.base, 0), write_model(Path(folder), plan.expert, 1)]
        with generating(models[0], PROMPT, threads=1) as generate:
            local = Local.load(spec)
            for run in range(options.runs):
                local_run(local, generate, plan, run, found)
            del local
        with generating(models[1], PROMPT, threads=1) as generate:
            found.rival((plan.models, 1.0, "Hugging Face generate, expert alone"), generate(plan.tokens))
        with some_ray(spec.trained.collaboration), served(spec, script(0.0, 0.0)) as application:
            found.runs["link_rtt_ms_p50"] = link_rtts_ms(options.runs, plan.round_trips)
            with reference_servers(models, threads=1) as urls:
                for run in range(options.runs):
                    served_run(application, plan, run, found)
                    reference_run(urls, plan, run, found)
        with some_ray(lab.collaboration), served(TeamSpec.of(lab), None) as application:
            lab_runs(application, lab, plan, options.runs, found)
    rows = found.rows(median(found.runs["link_rtt_ms_p50"]))
    finish(options, Report("decode", rows, _headline(found)), _chart)


def local_run(local: Local, generate: Callable[[int], list[float]], plan: Plan, run: int, found: Found) -> None:
    """All models in this process, one token after the other; the base alone beside Hugging Face's generate of it."""
    for frequency in (*NAMED, *(plan.once if run == 0 else ())):
        measured = _in_process(local, frequency, plan, run)
        found.answers((plan.models, frequency, "in-process"), measured)
        if frequency in NAMED:
            found.run(f"local_efficiency_f{frequency * 100:.0f}", measured.efficiency)
    seconds = generate(plan.tokens)
    base = _in_process(local, 0.0, plan, run)
    seconds += generate(plan.tokens)
    found.answers((plan.models, 0.0, "in-process"), base)
    found.rival((plan.models, 0.0, "Hugging Face generate, base alone"), seconds)
    found.run("base_over_hf", median(seconds) / median(base.each))


def _in_process(local: Local, frequency: float, plan: Plan, run: int) -> Measured:
    local.follow(script(frequency, 0.0))
    return in_process(local, plan.requests(run), plan.middle)


def served_run(application: Served, plan: Plan, run: int, found: Found) -> None:
    """Router and expert in processes of their own, plain and running ahead; base and expert agree on half.

    At f = .3 also where they mostly agree, and where they never do.
    """
    for frequency in (*NAMED, *((0.0, *plan.once) if run == 0 else ())):
        both = _scripted(application, plan, run, script(frequency, 0.5))
        for run_ahead, measured in both.items():
            found.answers((plan.models, frequency, f"over Serve, run-ahead {run_ahead}"), measured)
        if frequency in NAMED:
            found.run(f"serve_efficiency_f{frequency * 100:.0f}", both["off"].efficiency)
        if frequency == NAMED[0]:
            found.run("tokens_per_s_f10", both["off"].tokens_per_s)
    for agreement, key in ((0.9, "run_ahead_speedup_a90"), (0.0, "run_ahead_floor_a0")):
        both = _scripted(application, plan, run, script(0.3, agreement))
        for run_ahead, measured in both.items():
            how = f"over Serve, run-ahead {run_ahead}, agreement {agreement}"
            found.answers((plan.models, 0.3, how), measured)
        found.run(key, both["auto"].tokens_per_s / both["off"].tokens_per_s)


def reference_run(urls: Sequence[str], plan: Plan, run: int, found: Found) -> None:
    """The reference protocol at f = .1: of an answer every fifth token of the base, and every fifth of the expert."""
    text = prompt(0, PROMPT + plan.tokens)
    author = of_text(script(NAMED[0], 0.0), text).author
    written = range(PROMPT, PROMPT + plan.tokens)
    mean_s = 0.0
    for by_expert in (False, True):
        theirs = [i for i in written if (author(i) > 0) == by_expert]
        if theirs:
            seconds = seconds_at(urls, text, author, theirs[run % PARTS :: PARTS] or theirs)
            mean_s += len(theirs) / len(written) * mean(seconds)
            found.rival((plan.models, NAMED[0], "reference protocol"), seconds)
    found.run("reference_slowdown", found.runs["tokens_per_s_f10"][-1] * mean_s)


def lab_runs(application: Served, lab: TrainedCollaboration, plan: Plan, runs: int, found: Found) -> None:
    """The lab's held-out questions, one after the other, each once plain and once running ahead."""
    tokenizer, data = load_tokenizer(lab.collaboration.base), lab.collaboration.data
    warm_up = read_whole(str(SHIPPED / "validation.jsonl"), "warm-up", tokenizer, LAB_CONTEXT, data)
    for question in islice(warm_up, plan.lab_warm_up):
        request = AnswerRequest(tuple(question.prompt_ids), LAB_LONGEST, run_ahead="off")
        application.router.answer.remote(request).result()
    questions = list(read_whole(str(SHIPPED / "test.jsonl"), "test", tokenizer, LAB_CONTEXT, data))
    texts = [tuple(question.prompt_ids) for question in questions[:: len(questions) // plan.lab_questions]]
    requests = [AnswerRequest(text, LAB_LONGEST) for text in texts[: plan.lab_questions]]
    pooled: dict[RunAhead, Measured] = {"off": Measured(), "auto": Measured()}
    for run in range(runs):
        application.follow(None)  # in each run all questions are new
        both, same = _plain_and_ahead(application, requests, LAB_MIDDLE, at_a_time=LAB_BLOCK, is_odd=run % 2 == 1)
        pooled = {run_ahead: pooled[run_ahead] + measured for run_ahead, measured in both.items()}
        found.run("lab_serve_efficiency", both["off"].efficiency)
        found.run("run_ahead_speedup", both["auto"].tokens_per_s / both["off"].tokens_per_s)
        found.run("run_ahead_identical", mean(same))
    for run_ahead, measured in pooled.items():
        deferred = round(measured.deferrals / measured.tokens, 3)
        setting: Setting = ("lab", deferred, f"over Serve, run-ahead {run_ahead}")
        found.answers(setting, measured)


def _scripted(application: Served, plan: Plan, run: int, scripted: Script) -> dict[RunAhead, Measured]:
    application.follow(scripted)
    both, same = _plain_and_ahead(application, plan.requests(run), plan.middle, at_a_time=1, is_odd=run % 2 == 1)
    assert all(same), "running ahead must not change an answer"
    return both


def _plain_and_ahead(
    application: Served, requests: Sequence[AnswerRequest], middle: int, at_a_time: int, is_odd: bool
) -> tuple[dict[RunAhead, Measured], list[bool]]:
    """The answers plain and running ahead, a few of the one after a few of the other: a machine's speed drifts.

    The latter come first where the run is odd. Also says of each request whether both gave the same answer.
    """
    application.meter(middle)
    ways: dict[RunAhead, list[Answer]] = {"off": [], "auto": []}
    order: list[RunAhead] = ["auto", "off"] if is_odd else ["off", "auto"]
    for start in range(0, len(requests), at_a_time):
        for run_ahead in order:
            block = [replace(request, run_ahead=run_ahead) for request in requests[start : start + at_a_time]]
            ways[run_ahead] += application.answers(block)
        order.reverse()
    costs = application.costs()
    both = {run_ahead: Measured.of(answers, requests, costs) for run_ahead, answers in ways.items()}
    return both, list(map(_same, ways["off"], ways["auto"]))


def _same(one: Answer, other: Answer) -> bool:
    return [(token.token, token.author) for token in one.written] == [
        (token.token, token.author) for token in other.written
    ]


def _headline(found: Found) -> dict[str, Headline]:
    named = {key: runs for key, runs in found.runs.items() if key != "tokens_per_s_f10"}
    return {key: (lower if key == "link_rtt_ms_p50" else higher)(*runs) for key, runs in named.items()}


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        if row["models"] != "lab" and "agreement" not in str(row["how"]):
            series.setdefault(str(row["how"]), []).append((float(row["f"]), float(row["ms_p50"])))
    models = report.rows[0]["models"]
    line_chart(path, series, "deferral frequency", "ms a token (p50)", f"Base and expert: {models}", log_y=True)


if __name__ == "__main__":
    main()
