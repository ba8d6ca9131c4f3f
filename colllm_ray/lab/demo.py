"""`colllm demo`: every stage on the lab, one after the other, and a report."""

from __future__ import annotations

from pathlib import Path

from colllm_ray.config import Collaboration
from colllm_ray.evaluation.calibrate import calibrate_running
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.evaluate import examined
from colllm_ray.evaluation.examiner import examining
from colllm_ray.evaluation.methods import ALONE
from colllm_ray.evaluation.report import results_table
from colllm_ray.evaluation.task import Task
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.lab.finetuned_base import NAME, finetuned_base
from colllm_ray.progress import results_console
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.storage import location
from colllm_ray.training.train import train

RIVALS = ("random", "surest", "average")


def demo(out: Path, address: str | None) -> None:
    """Scores, trains, serves, calibrates and evaluates the lab; writes OUT/report.html and measures beside it."""
    console = results_console()
    collaboration = Collaboration.load(lab_config())
    with ray_session(address, collaboration):
        console.rule("1/5  score: every model reads the training data")
        score(collaboration, out)
        console.rule("2/5  train: the head learns who should write")
        trained = train(collaboration, out)
        console.rule("3/5  a rival: the base, fine-tuned on the same data")
        compared = Compared(guests=(finetuned_base(collaboration, out / NAME),))
        with examining(trained, compared.guests) as examiner:
            console.rule("4/5  calibrate: which threshold is best, answering validation questions through Ray Serve")
            calibrate_running(examiner, Task.of(str(SHIPPED / "validation.jsonl")), out / "collaboration")
            console.rule("5/5  evaluate: held-out questions")
            task = Task.of(str(SHIPPED / "test.jsonl"))
            evaluation = examined(examiner, task, (ALONE, *RIVALS), location(out), compared, with_curve=True)
    console.print(results_table(evaluation))
    console.print(f"report: {(out / 'report.html').resolve()}", soft_wrap=True)
