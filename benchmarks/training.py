"""Training: the head beside a bare matrix product, frozen features beside a base in the loop, `full` on the lab.

The head's speed is one core's, over made features that are held in float16, as training holds them; the bare pass
multiplies them once with the head's weights, from float32. An epoch that runs the base's forward is one of frozen mode
plus the base's hidden states at the targets, without its output layer. The lab is trained and evaluated as
`colllm train` and `colllm evaluate` do, in mode `frozen` and in mode `full`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.headline import Headline, higher, lower
from benchmarks.lab_rows import with_rows
from benchmarks.options import Amount, BenchmarkParser
from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, finish
from benchmarks.session import small_lab, some_ray
from colllm_ray.config import BaseTrainingConfig, Collaboration, TrainingConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.text import Text, batches_by_length, padded
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.task import Task
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.scoring.score import score
from colllm_ray.scoring.scores import FeatureScores
from colllm_ray.storage import location
from colllm_ray.training.head_training import HeadTraining
from colllm_ray.training.train import train

RUNS = 5  # of the head's and the frozen epochs; the lab is trained once in each mode
WIDTH, EXPERTS = 512, 4
BATCHES = (256, 1024, 4096, 16_384)  # target tokens in a step
MEASURED_BATCH = 4096
# The base of frozen_epoch_speedup: 5.7 million weights with Llama 2's vocabulary.
SHAPE = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 8, "num_attention_heads": 4}
VOCABULARY, TEXT_TOKENS, PROMPT_TOKENS = 32_000, 256, 128
FULL = TrainingConfig(mode="full", base=BaseTrainingConfig(epochs=3, learning_rate=1e-4))


@dataclass(frozen=True)
class Plan:
    """How much is measured: target tokens of the head, texts of a frozen epoch, how the lab is trained."""

    targets: int
    texts: int
    modes: dict[str, TrainingConfig]


FROZEN = TrainingConfig()
PLANS: dict[Amount, Plan] = {
    "full": Plan(1_000_000, 200, {"frozen": FROZEN, "full": FULL}),
    "quick": Plan(200_000, 50, {"frozen": FROZEN, "full": FULL}),
    # Full mode begins with a head that is trained as in frozen mode.
    "smoke": Plan(4000, 2, {"full": TrainingConfig(mode="full", epochs=1, base=BaseTrainingConfig(epochs=1))}),
}


def parser() -> BenchmarkParser:
    return BenchmarkParser(__doc__ or "", RUNS)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().options(arguments)
    plan = PLANS[options.amount]
    torch.set_num_threads(1)
    head, of_bare = _head_rows(plan.targets, options.runs)
    frozen, speedups = _frozen_rows(plan.texts, options.runs)
    lab = _lab_rows(plan, is_smoke=options.amount == "smoke")
    headline: dict[str, Headline] = {
        "head_efficiency": higher(*of_bare),
        "frozen_epoch_speedup": higher(*speedups),
        **{f"{mode}_nll": lower(float(row["nll"])) for mode, row in zip(plan.modes, lab, strict=True)},
    }
    finish(options, Report("training", [*head, *frozen, *lab], headline), _chart)


def made_scores(targets: int, width: int, experts: int) -> FeatureScores:
    """Random features and log-probs, ten targets an example."""
    generator = torch.Generator().manual_seed(0)
    example = torch.arange(targets) // 10
    return FeatureScores(
        members=("base", *(f"expert{k}" for k in range(1, experts + 1))),
        example_ids=tuple(f"train-{i:08d}" for i in range(int(example[-1]) + 1)),
        domains=(None,) * (int(example[-1]) + 1),
        example=example,
        gold_logprob=-3 * torch.rand(targets, experts + 1, generator=generator),
        top1=torch.rand(targets, experts + 1, generator=generator) > 0.5,
        features=torch.randn(targets, width, generator=generator).half(),
    )


def _head_rows(targets: int, runs: int) -> tuple[list[Row], list[float]]:
    """Epochs of several batch sizes and bare passes in turns, of each the median; the share of bare of each run."""
    scores, validation = made_scores(targets, WIDTH, EXPERTS), made_scores(100, WIDTH, EXPERTS)
    wide, weight = scores.features.float(), torch.randn(EXPERTS, WIDTH)
    trainings = {
        batch: HeadTraining(
            scores,
            validation,
            TrainingConfig(batch_tokens=batch, weak_epochs=0, epochs=100),
            prices=(0.0,) * (EXPERTS + 1),
        )
        for batch in BATCHES
    }
    seconds: dict[str, list[float]] = {}
    for _ in range(runs):
        begin = perf_counter()
        for features in wide.split(MEASURED_BATCH):
            features @ weight.T
        seconds.setdefault("bare pass", []).append(perf_counter() - begin)
        for batch, training in trainings.items():
            speed = training.run_epoch().targets_per_second
            seconds.setdefault(f"head epoch, batch {batch}", []).append(targets / speed)
    rows: list[Row] = [
        {"what": what, "targets": targets, "seconds": round(median(each), 3), "of_bare": round(of_bare, 3)}
        for what, each in seconds.items()
        for of_bare in [median(seconds["bare pass"]) / median(each)]
    ]
    measured = seconds[f"head epoch, batch {MEASURED_BATCH}"]
    return rows, [bare / epoch for bare, epoch in zip(seconds["bare pass"], measured, strict=True)]


def _frozen_rows(texts: int, runs: int) -> tuple[list[Row], list[float]]:
    """One epoch over cached features, and one that runs the base for them; of each run how many times as long."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, vocab_size=VOCABULARY, max_position_embeddings=TEXT_TOKENS, tie_word_embeddings=True)
    model = LanguageModel(LlamaForCausalLM(config), VOCABULARY)
    model.block_linear_layers()
    mask = [t >= PROMPT_TOKENS for t in range(TEXT_TOKENS)]
    made = [Text(torch.randint(VOCABULARY, (TEXT_TOKENS,)).tolist(), mask) for _ in range(texts)]
    targets = texts * (TEXT_TOKENS - PROMPT_TOKENS)
    scores = made_scores(targets, model.hidden_size, EXPERTS)
    training = HeadTraining(scores, scores, TrainingConfig(weak_epochs=0, epochs=100), prices=(0.0,) * (EXPERTS + 1))
    frozen, forward = [], []
    for _ in range(runs):
        frozen.append(targets / training.run_epoch().targets_per_second)
        begin = perf_counter()
        for batch in batches_by_length([TEXT_TOKENS] * texts, budget=1024):
            ids, wanted = padded([made[i] for i in batch])
            model.hidden(ids, wanted.flatten().nonzero()[:, 0])
        forward.append(perf_counter() - begin)
    with_forward = [one + other for one, other in zip(frozen, forward, strict=True)]
    rows: list[Row] = [
        {"what": what, "targets": targets, "seconds": round(median(seconds), 3)}
        for what, seconds in (("frozen epoch", frozen), ("epoch with the base's forward", with_forward))
    ]
    return rows, [one / other for one, other in zip(with_forward, frozen, strict=True)]


def _lab_rows(plan: Plan, is_smoke: bool) -> list[Row]:
    """Held-out questions: NLL of a target token under all members together, and exact match of the answers."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        lab, test = Collaboration.load(lab_config()), SHIPPED / "test.jsonl"
        if is_smoke:
            lab, test = with_rows(small_lab(), Path(folder), 4)
        with some_ray(lab):
            run = Path(folder) / "run"
            score(lab, run)
            rows += [_lab_row(lab, test, mode, training, run) for mode, training in plan.modes.items()]
    return rows


def _lab_row(lab: Collaboration, test: Path, mode: str, training: TrainingConfig, run: Path) -> Row:
    begin = perf_counter()
    trained = train(lab.model_copy(update={"training": training}), run)
    seconds = perf_counter() - begin
    (evaluation,) = evaluate(trained, [Task.of(str(test))], ["base"], location(run / mode), Compared())
    together, base = evaluation.overall[COLLABORATION], evaluation.overall["base"]
    return {
        "what": f"lab, {mode}",
        "seconds": round(seconds, 1),
        "nll": round(together.nll or 0.0, 5),
        "exact_match": round(together.quality.mean, 4),
        "base_alone": round(base.quality.mean, 4),
        "deferral_rate": round(1 - together.shares["base"], 4),
    }


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["what"]): float(row["of_bare"]) for row in report.rows if "of_bare" in row}
    bar_chart(path, bars, "speed, as a share of a bare pass", "Head training on one core")


if __name__ == "__main__":
    main()
