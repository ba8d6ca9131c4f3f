"""The lab's held-out questions, answered by every method; what finding the threshold cost; budgets over HTTP.

The head is trained as `colllm train` does, and a second one by weak supervision alone; the threshold is found as
`colllm calibrate` does; the fine-tuned base is the guest that proxy tuning needs. Budgets are asked for over HTTP, all
held-out questions each.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from benchmarks.headline import Headline, higher, lower, neither
from benchmarks.lab_rows import with_rows
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import line_chart
from benchmarks.report import Report, Row, finish
from benchmarks.session import over_http, small_lab, some_ray
from colllm_ray.config import Collaboration, TrainingConfig
from colllm_ray.deferral.calibration import Candidate
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.calibrate import Calibrated, calibrate_running
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.evaluate import examined
from colllm_ray.evaluation.examiner import examining
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.methods import ALL, ALONE
from colllm_ray.evaluation.task import Task
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.lab.finetuned_base import NAME, STEPS, finetuned_base
from colllm_ray.scoring.score import score
from colllm_ray.storage import location
from colllm_ray.training.train import train

AT_ONCE = 4
PORT = 8123


@dataclass(frozen=True)
class Plan:
    """How much is measured. tuning: steps of the fine-tuned base; rows: of each split, all where nothing is said."""

    budgets: tuple[float, ...]
    methods: tuple[str, ...]
    tuning: int
    rows: int | None


PLANS: dict[Amount, Plan] = {
    "full": Plan((0.05, 0.1, 0.15, 0.2), (ALL,), STEPS, None),
    "quick": Plan((0.1,), (ALONE, "average"), STEPS, None),
    "smoke": Plan((0.1,), (ALONE, "average"), 1, 4),
}


@dataclass(frozen=True)
class Found:
    """What was found of the lab, with which questions, and with which calibration it is served."""

    test: Path
    calibrated: Calibrated
    evaluation: Evaluation
    trained: TrainedCollaboration


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    with tempfile.TemporaryDirectory() as folder, _found(Path(folder), plan) as found:
        budgets = [_budget_row(found, share) for share in plan.budgets]
    evaluation, calibration = found.evaluation, found.calibrated.calibration
    rows = [_method_row(evaluation, method) for method in evaluation.methods]
    thresholds = [_threshold_row("validation", one) for one in calibration.candidates]
    thresholds += [_threshold_row("test", one) for one in evaluation.curve]
    headline = _headline(found, {float(row["budget"]): float(row["share"]) for row in budgets})
    finish(options, Report("methods", [*rows, *thresholds, *budgets], headline), _chart)


@contextmanager
def _found(folder: Path, plan: Plan) -> Iterator[Found]:
    """Everything that is asked of the lab's router; the Ray lives on for what is asked over HTTP."""
    lab, test = Collaboration.load(lab_config()), SHIPPED / "test.jsonl"
    if plan.rows is not None:
        short = TrainingConfig(epochs=1, weak_epochs=1)
        lab, test = with_rows(small_lab().model_copy(update={"training": short}), folder, plan.rows)
    with some_ray(lab):
        score(lab, folder / "run")
        trained = train(lab, folder / "run")
        shutil.copytree(folder / "run" / "scores", folder / "weak" / "scores")
        weak = lab.training.model_copy(update={"objective": "weak"})
        train(lab.model_copy(update={"training": weak}), folder / "weak")
        compared = replace(
            Compared.of(trained, {"weak": folder / "weak" / "collaboration"}),
            guests=(finetuned_base(lab, folder / NAME, plan.tuning),),
        )
        with examining(trained, compared.guests, compared.heads) as examiner:
            validation = Task.of(lab.data.validation)
            calibrated = calibrate_running(examiner, validation, folder / "run" / "collaboration")
            out = location(folder / "evaluation")
            evaluation = examined(examiner, Task.of(str(test)), plan.methods, out, compared, with_curve=True)
        yield Found(test, calibrated, evaluation, replace(trained, calibration=calibrated.calibration))


def _method_row(evaluation: Evaluation, method: str) -> Row:
    measures, members = evaluation.overall[method], evaluation.models
    row: Row = {
        "method": method,
        "quality": round(100 * measures.quality.mean, 1),
        "low": round(100 * measures.quality.low, 1),
        "high": round(100 * measures.quality.high, 1),
    }
    if measures.behind is not None:
        row |= {"behind": round(100 * measures.behind.mean, 1), "p": round(measures.behind.p, 4)}
    if measures.nll is not None:
        row["nll"] = round(measures.nll, 3)
    row |= {f"{name} wrote": round(100 * measures.shares[name], 1) for name in members}
    row |= {f"{name} passes": round(measures.passes[name], 2) for name in members}
    row["expert_calls"] = round(measures.expert_calls or 0.0, 3)
    row["tokens_per_s"] = round(evaluation.tokens_per_s(method) or 0.0)
    return row


def _threshold_row(data: str, one: Candidate) -> Row:
    row: Row = {
        "data": data,
        "threshold": round(one.threshold, 6),
        "share": round(100 * one.share, 2),
        "quality": round(100 * one.quality, 1),
        "questions": one.questions or 0,
        "calls_an_answer": round(one.expert_calls or 0.0, 2),
    }
    return row if one.answer_s is None else {**row, "ms_an_answer": round(1e3 * one.answer_s, 1)}


def _budget_row(found: Found, budget: float) -> Row:
    """All held-out questions with a budget, a few at once, as a client asks them."""
    rows = [json.loads(line) for line in found.test.read_text(encoding="utf-8").splitlines()]

    def ask(row: dict[str, list[dict[str, str]]]) -> tuple[bool, list[str]]:
        body = {"messages": row["messages"][:1], "max_tokens": 40, "colllm": {"budget": budget}}
        response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120).raise_for_status()
        (choice,) = response.json()["choices"]
        is_right = choice["message"]["content"] == row["messages"][1]["content"]
        return is_right, [token["model"] for token in choice["colllm"]["trace"]]

    with over_http(found.trained, PORT) as url, ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(ask, rows))
    models = [model for _, trace in answers for model in trace]
    share = sum(model != "base" for model in models) / len(models)
    right = sum(is_right for is_right, _ in answers) / len(answers)
    return {"budget": budget, "share": round(100 * share, 2), "quality": round(100 * right, 1)}


def _headline(found: Found, shares: dict[float, float]) -> dict[str, Headline]:
    """Quality in points. best_rival: of the methods that do not know the answer."""
    evaluation, overall = found.evaluation, found.evaluation.overall
    rivals: Sequence[float] = [
        one.quality.mean for name, one in overall.items() if name not in (COLLABORATION, "oracle")
    ]
    best = max(evaluation.curve, key=lambda one: one.quality)
    chosen = next(one for one in evaluation.curve if one.threshold == evaluation.calibration.threshold)
    return {
        "collaboration": higher(100 * overall[COLLABORATION].quality.mean),
        "best_rival": neither(100 * max(rivals)),
        "expert_calls": lower(overall[COLLABORATION].expert_calls or 0.0),
        "peak_share": neither(best.share),
        "points_lost_to_the_best_on_test": lower(100 * (best.quality - chosen.quality)),
        "thresholds": neither(len(found.calibrated.calibration.candidates)),
        "decodings": lower(found.calibrated.decodings),
        "budget_0.1": neither(shares[0.1] / 100),
    }


def _chart(path: Path, report: Report) -> None:
    curves = {
        name: [(float(row["share"]), float(row["quality"])) for row in report.rows if row.get("data") == name]
        for name in ("validation", "test")
    }
    line_chart(path, curves, "tokens that experts write, %", "exact match, %", "The lab against deferral frequency")


if __name__ == "__main__":
    main()
