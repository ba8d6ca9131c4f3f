"""Training: the head beside a bare matrix product, frozen features beside a base in the loop, `full` on the lab.

The head's speed is one core's, over made features that are held in float16, as training holds them; the bare pass
multiplies them once with the head's weights, from float32. An epoch that runs the base's forward is one of frozen mode
plus the base's hidden states at the targets, without its output layer. The lab is trained and evaluated as
`colllm train` and `colllm evaluate` do, in mode `frozen` and in mode `full`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.plots import bar_chart
from benchmarks.report import Report, Row, arguments, finish
from colllm_ray.config import BaseTrainingConfig, Collaboration, TrainingConfig
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.engine.text import Text, batches_by_length, padded
from colllm_ray.evaluation.answered import COLLABORATION
from colllm_ray.evaluation.compared import Compared
from colllm_ray.evaluation.evaluate import evaluate
from colllm_ray.evaluation.task import Task
from colllm_ray.lab.collaboration import SHIPPED, lab_config
from colllm_ray.ray_session import ray_session
from colllm_ray.scoring.score import score
from colllm_ray.scoring.scores import FeatureScores
from colllm_ray.storage import location
from colllm_ray.training.head_training import HeadTraining
from colllm_ray.training.train import train

TARGETS, QUICK_TARGETS, WIDTH, EXPERTS = 1_000_000, 200_000, 512, 4
BATCHES = (256, 1024, 4096, 16_384)  # target tokens in a step
MEASURED_BATCH = 4096
REPEATS = 5
# The base of frozen_epoch_speedup: 5.7 million weights with Llama 2's vocabulary.
SHAPE = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 8, "num_attention_heads": 4}
VOCABULARY, TEXTS, QUICK_TEXTS, TEXT_TOKENS, PROMPT_TOKENS = 32_000, 200, 50, 256, 128
FULL = TrainingConfig(mode="full", base=BaseTrainingConfig(epochs=3, learning_rate=1e-4))


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    head = _head_rows(QUICK_TARGETS if options.quick else TARGETS)
    frozen = _frozen_rows(QUICK_TEXTS if options.quick else TEXTS)
    lab = _lab_rows()
    of_head = {str(row["what"]): float(row["seconds"]) for row in [*head, *frozen]}
    of_lab = {str(row["what"]): float(row["nll"]) for row in lab}
    headline = {
        "head_efficiency": round(of_head["bare pass"] / of_head[f"head epoch, batch {MEASURED_BATCH}"], 3),
        "frozen_epoch_speedup": round(of_head["epoch with the base's forward"] / of_head["frozen epoch"], 1),
        "full_nll": of_lab["lab, full"],
        "frozen_nll": of_lab["lab, frozen"],
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


def _head_rows(targets: int) -> list[Row]:
    """Epochs of several batch sizes and bare passes in turns; of each the median."""
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
    for _ in range(REPEATS):
        begin = perf_counter()
        for features in wide.split(MEASURED_BATCH):
            features @ weight.T
        seconds.setdefault("bare pass", []).append(perf_counter() - begin)
        for batch, training in trainings.items():
            speed = training.run_epoch().targets_per_second
            seconds.setdefault(f"head epoch, batch {batch}", []).append(targets / speed)
    return [
        {"what": what, "targets": targets, "seconds": round(median(each), 3), "of_bare": round(of_bare, 3)}
        for what, each in seconds.items()
        for of_bare in [median(seconds["bare pass"]) / median(each)]
    ]


def _frozen_rows(texts: int) -> list[Row]:
    """One epoch over cached features, and one that runs the base for them."""
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
    for _ in range(REPEATS):
        frozen.append(targets / training.run_epoch().targets_per_second)
        begin = perf_counter()
        for batch in batches_by_length([TEXT_TOKENS] * texts, budget=1024):
            ids, wanted = padded([made[i] for i in batch])
            model.hidden(ids, wanted.flatten().nonzero()[:, 0])
        forward.append(perf_counter() - begin)
    rows: dict[str, float] = {
        "frozen epoch": median(frozen),
        "epoch with the base's forward": median(frozen) + median(forward),
    }
    return [{"what": what, "targets": targets, "seconds": round(seconds, 3)} for what, seconds in rows.items()]


def _lab_rows() -> list[Row]:
    """Held-out questions: NLL of a target token under all members together, and exact match of the answers."""
    lab = Collaboration.load(lab_config())
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, ray_session(None, lab):
        run = Path(folder) / "run"
        score(lab, run)
        for mode, training in (("frozen", lab.training), ("full", FULL)):
            begin = perf_counter()
            trained = train(lab.model_copy(update={"training": training}), run)
            seconds = perf_counter() - begin
            task = Task.of(str(SHIPPED / "test.jsonl"))
            (evaluation,) = evaluate(trained, [task], ["base"], location(run / mode), Compared())
            together, base = evaluation.overall[COLLABORATION], evaluation.overall["base"]
            rows.append(
                {
                    "what": f"lab, {mode}",
                    "seconds": round(seconds, 1),
                    "nll": round(together.nll or 0.0, 5),
                    "exact_match": round(together.quality.mean, 4),
                    "base_alone": round(base.quality.mean, 4),
                    "deferral_rate": round(1 - together.shares["base"], 4),
                }
            )
    return rows


def _chart(path: Path, report: Report) -> None:
    bars = {str(row["what"]): float(row["of_bare"]) for row in report.rows if "of_bare" in row}
    bar_chart(path, bars, "speed, as a share of a bare pass", "Head training on one core")


if __name__ == "__main__":
    main()
