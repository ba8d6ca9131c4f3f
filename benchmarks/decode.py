"""Decoding speed against deferral frequency: ours, the sequential ideal, and the rivals on the same models.

Random models of 30M (base) and 170M (expert) weights with scripted deferrals, and the trained lab. One thread a model.
Where there is a GPU, the rows of large.py as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Literal

import torch

from benchmarks.large import gpu_rows
from benchmarks.link_rtt import link_rtt_ms
from benchmarks.measured import Answer, Measured, in_process
from benchmarks.models import Size, write_model
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, arguments, finish, latencies
from benchmarks.rivals.hf_generate import generate_times
from benchmarks.rivals.reference_protocol import decode as decode_by_reference
from benchmarks.rivals.reference_protocol import reference_servers
from benchmarks.script import Script
from benchmarks.scripted import Local, of_text, prompt, random_spec, script
from benchmarks.served import Served, forgetful, served
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.decoding.team_spec import AnswerRequest, TeamSpec
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.lab.collaboration import SHIPPED, trained_lab
from colllm_ray.ray_session import ray_session

BASE: Size = "30M"
EXPERT: Size = "170M"
PROMPT = 64  # tokens
LAB_LONGEST = 40  # tokens of an answer
LAB_MIDDLE = 20  # tokens, at which the cost of a forward pass is measured
LAB_CONTEXT = 256  # tokens
LAB_WARM_UP = 60  # questions
LAB_BLOCK = 10  # questions

RunAhead = Literal["auto", "off"]


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    frequencies: tuple[float, ...]
    answers: int
    tokens: int
    lab_questions: int
    reference_tokens: int


FULL = Plan((0.0, 0.05, 0.1, 0.3, 0.5, 1.0), answers=3, tokens=256, lab_questions=150, reference_tokens=256)
QUICK = Plan((0.1, 0.3), answers=1, tokens=96, lab_questions=60, reference_tokens=24)


def main() -> None:
    parser = arguments(__doc__ or "")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    rows: list[Row] = []
    headline: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        spec = random_spec(Path(folder), BASE, EXPERT, experts=1)
        lab = forgetful(TrainedCollaboration.load(trained_lab(None)))
        generate_rows(Path(folder), plan, rows)
        local_rows(spec, plan, rows, headline)
        reference_rows(Path(folder), plan, rows)
        with ray_session(None, spec.trained.collaboration), served(spec, script(0.0, 0.0)) as application:
            headline["link_rtt_ms_p50"] = link_ms = round(link_rtt_ms(), 4)
            served_rows(application, plan, link_ms, rows, headline)
            agreement_rows(application, plan, link_ms, rows, headline)
        with ray_session(None, lab.collaboration), served(TeamSpec.of(lab), None) as application:
            lab_rows(application, lab, plan, link_ms, rows, headline)
    at_f10 = {row["how"]: float(row["tokens_per_s"]) for row in rows if row["f"] == 0.1}
    headline["reference_slowdown"] = round(at_f10["over Serve, run-ahead off"] / at_f10["reference protocol"], 2)
    if torch.cuda.is_available():
        large, numbers = gpu_rows(options.quick)
        rows += large
        headline |= numbers
    finish(options, Report("decode", rows, headline), _chart)


def local_rows(spec: TeamSpec, plan: Plan, rows: list[Row], headline: dict[str, float]) -> None:
    """All models in this process, one token after the other."""
    local = Local.load(spec)
    for frequency in plan.frequencies:
        local.follow(script(frequency, 0.0))
        requests = _requests(plan, "off")
        measured = in_process(local, requests, _middle(plan))
        rows.append(measured.row(f"{BASE} + {EXPERT}", frequency, "in-process", 0.0))
        headline |= _efficiency("local", frequency, measured)


def served_rows(application: Served, plan: Plan, link_ms: float, rows: list[Row], headline: dict[str, float]) -> None:
    """Router and expert in processes of their own, plain and running ahead; base and expert agree on half."""
    for frequency in plan.frequencies:
        both = _scripted(application, plan, script(frequency, 0.5))
        for run_ahead, measured in both.items():
            rows.append(measured.row(f"{BASE} + {EXPERT}", frequency, f"over Serve, run-ahead {run_ahead}", link_ms))
        headline |= _efficiency("serve", frequency, both["off"])


def agreement_rows(
    application: Served, plan: Plan, link_ms: float, rows: list[Row], headline: dict[str, float]
) -> None:
    """Run-ahead against the plain loop, where base and expert mostly agree and where they never do; f = .3."""
    for agreement, key in ((0.9, "run_ahead_speedup_a90"), (0.0, "run_ahead_floor_a0")):
        both = _scripted(application, plan, script(0.3, agreement))
        for run_ahead, measured in both.items():
            how = f"over Serve, run-ahead {run_ahead}, agreement {agreement}"
            rows.append(measured.row(f"{BASE} + {EXPERT}", 0.3, how, link_ms))
        headline[key] = round(both["auto"].tokens_per_s / both["off"].tokens_per_s, 3)


def lab_rows(
    application: Served,
    lab: TrainedCollaboration,
    plan: Plan,
    link_ms: float,
    rows: list[Row],
    headline: dict[str, float],
) -> None:
    """The lab's held-out questions, one after the other, each once plain and once running ahead."""
    tokenizer, data = load_tokenizer(lab.collaboration.base), lab.collaboration.data
    warm_up = read_whole(str(SHIPPED / "validation.jsonl"), "warm-up", tokenizer, LAB_CONTEXT, data)
    for question in islice(warm_up, LAB_WARM_UP):
        request = AnswerRequest(tuple(question.prompt_ids), LAB_LONGEST, run_ahead="off")
        application.router.answer.remote(request).result()
    questions = list(read_whole(str(SHIPPED / "test.jsonl"), "test", tokenizer, LAB_CONTEXT, data))
    texts = [tuple(question.prompt_ids) for question in questions[:: len(questions) // plan.lab_questions]]
    requests = [AnswerRequest(text, LAB_LONGEST) for text in texts]
    both, same = _plain_and_ahead(application, requests, LAB_MIDDLE, at_a_time=LAB_BLOCK)
    for run_ahead, measured in both.items():
        deferred = round(measured.deferrals / measured.tokens, 3)
        rows.append(measured.row("lab", deferred, f"over Serve, run-ahead {run_ahead}", link_ms))
    headline["lab_serve_efficiency"] = round(both["off"].efficiency, 3)
    headline["run_ahead_speedup"] = round(both["auto"].tokens_per_s / both["off"].tokens_per_s, 3)
    headline["run_ahead_identical"] = mean(same)


def generate_rows(folder: Path, plan: Plan, rows: list[Row]) -> None:
    """Hugging Face's generate of each model alone."""
    for name, size, seed, frequency in (("base", BASE, 0, 0.0), ("expert", EXPERT, 1, 1.0)):
        ms = generate_times(write_model(folder, size, seed), PROMPT, plan.reference_tokens, threads=1)
        rows.append(_rival_row(f"Hugging Face generate, {name} alone", frequency, [ms / 1e3]))


def reference_rows(folder: Path, plan: Plan, rows: list[Row]) -> None:
    """The reference protocol at f = .1."""
    text, scripted = prompt(0, PROMPT), script(0.1, 0.0)
    with reference_servers([write_model(folder, BASE, 0), write_model(folder, EXPERT, 1)], threads=1) as urls:
        answer = decode_by_reference(urls, text, of_text(scripted, text).author, plan.reference_tokens)
    rows.append(_rival_row("reference protocol", 0.1, answer.seconds))


def _rival_row(how: str, frequency: float, seconds: Sequence[float]) -> Row:
    return {
        "models": f"{BASE} + {EXPERT}",
        "f": frequency,
        "how": how,
        "tokens_per_s": round(len(seconds) / sum(seconds), 1),
        **latencies(seconds),
    }


def _scripted(application: Served, plan: Plan, scripted: Script) -> dict[RunAhead, Measured]:
    application.follow(scripted)
    both, same = _plain_and_ahead(application, _requests(plan, "off"), _middle(plan), at_a_time=1)
    assert all(same), "running ahead must not change an answer"
    return both


def _plain_and_ahead(
    application: Served, requests: Sequence[AnswerRequest], middle: int, at_a_time: int
) -> tuple[dict[RunAhead, Measured], list[bool]]:
    """The answers plain and running ahead, a few of the one after a few of the other: a machine's speed drifts.

    Also says of each request whether both gave the same answer.
    """
    application.meter(middle)
    ways: dict[RunAhead, list[Answer]] = {"off": [], "auto": []}
    order: list[RunAhead] = ["off", "auto"]
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


def _requests(plan: Plan, run_ahead: RunAhead) -> list[AnswerRequest]:
    return [AnswerRequest(prompt(answer, PROMPT), plan.tokens, run_ahead=run_ahead) for answer in range(plan.answers)]


def _middle(plan: Plan) -> int:
    """The length at which a forward pass costs what it does on average over an answer."""
    return PROMPT + plan.tokens // 2


def _efficiency(where: str, frequency: float, measured: Measured) -> dict[str, float]:
    key = f"{where}_efficiency_f{round(frequency * 100)}"
    return {key: round(measured.efficiency, 3)} if frequency in (0.1, 0.3) else {}


def _chart(path: Path, report: Report) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in report.rows:
        if row["models"] == f"{BASE} + {EXPERT}" and "agreement" not in str(row["how"]):
            series.setdefault(str(row["how"]), []).append((float(row["f"]), float(row["ms_p50"])))
    line_chart(path, series, "deferral frequency", "ms a token (p50)", f"{BASE} base, {EXPERT} expert", log_y=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
