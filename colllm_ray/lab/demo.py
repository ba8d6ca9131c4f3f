"""`colllm demo`: every stage on the lab, one after the other, and a report."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import read_whole
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.engine.weights import shared_context
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.report import results_table, write_report
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.lab.finetuned_base import finetuned_base, with_answers_of
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.training.train import train

TEST = str(SHIPPED / "test.jsonl")


def demo(out: Path, address: str | None) -> None:
    """Scores, trains, serves and evaluates the lab; writes OUT/report.json and OUT/report.html."""
    console = Console()
    collaboration = Collaboration.load(lab_config())
    with ray_session(address, collaboration):
        console.rule("1/5  score: every model reads the training data")
        score(collaboration, out)
        console.rule("2/5  train: the head learns who should write")
        trained = train(collaboration, out)
        console.rule("3/5  evaluate: held-out questions, answered through Ray Serve")
        evaluation = evaluate(trained, TEST, out)
    console.rule("4/5  the rival: the base, fine-tuned on the same data")
    tokenizer = load_tokenizer(collaboration.base)
    examples = list(read_whole(TEST, "test", tokenizer, shared_context(collaboration), collaboration.data))
    rival = finetuned_base(collaboration)
    evaluation = with_answers_of(rival, "finetuned_base", evaluation, examples, tokenizer)
    console.rule("5/5  report")
    console.print(results_table(evaluation))
    (out / "report.json").write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", encoding="utf-8")
    write_report(evaluation, tokenizer, out / "report.html")
    console.print(f"report: {(out / 'report.html').resolve()}")
