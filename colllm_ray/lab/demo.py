"""`colllm demo`: every stage on the lab, one after the other, and a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console

from colllm_ray.config import Collaboration
from colllm_ray.data.examples import read_examples
from colllm_ray.data.tokenizer import load_tokenizer
from colllm_ray.engine.language_model import shared_context
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.measures import Evaluation
from colllm_ray.evaluation.report import results_table, write_report
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.lab.finetuned_base import FINETUNED_BASE, FinetunedBase
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.training.train import train

TEST = SHIPPED / "test.jsonl"


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
        evaluation = evaluate(trained, TEST)
    console.rule("4/5  the rival: the base, fine-tuned on the same data")
    evaluation = _with_finetuned_base(evaluation, collaboration)
    console.rule("5/5  report")
    console.print(results_table(evaluation))
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(evaluation.to_json(), indent=1) + "\n", encoding="utf-8")
    write_report(evaluation, load_tokenizer(collaboration.base), out / "report.html")
    console.print(f"report: {(out / 'report.html').resolve()}")


def _with_finetuned_base(evaluation: Evaluation, collaboration: Collaboration) -> Evaluation:
    tokenizer = load_tokenizer(collaboration.base)
    examples = list(read_examples(TEST, "test", tokenizer, shared_context(collaboration)))
    rival = FinetunedBase(collaboration)
    longest = max(len(example.completion_ids) for example in examples)
    answers = rival.answer_all(examples, max_tokens=longest + 1)
    answered = tuple(
        dataclasses.replace(
            question,
            answers={**question.answers, FINETUNED_BASE: answer},
            nll={**question.nll, FINETUNED_BASE: nll},
        )
        for question, answer, nll in zip(
            evaluation.answered, answers, rival.negative_log_likelihoods(examples), strict=True
        )
    )
    return dataclasses.replace(evaluation, answered=answered)
