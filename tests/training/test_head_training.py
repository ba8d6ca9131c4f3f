from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing

from colllm_ray.config import TrainingConfig
from colllm_ray.deferral.loss import marginal_logprob
from colllm_ray.scoring.scores import FeatureScores
from colllm_ray.training.head_checkpoint import load_checkpoint, load_head, save_checkpoint
from colllm_ray.training.head_training import HeadTraining, train_to_the_end
from colllm_ray.training.report import Report

GOLDEN = Path(__file__).parent / "golden_losses.json"
CONFIG = TrainingConfig(epochs=6, weak_epochs=2, batch_tokens=64)
COMPARED = ("loss", "validation_loss", "validation_deferral")
NO_PRICES = (0.0, 0.0, 0.0)
ONE_STEP_AN_EPOCH = TrainingConfig(epochs=6, weak_epochs=2, batch_tokens=10_000)


def made_scores(seed: int, examples: int = 60) -> FeatureScores:
    """Two experts, each sure where its own direction of the features is positive; the base is sure elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    example = torch.arange(examples).repeat_interleave(5)
    features = torch.randn(len(example), 8, generator=generator).half()
    sure = torch.stack([-features[:, :2].amax(1), features[:, 0], features[:, 1]], dim=1) > 0
    noise = torch.rand(len(example), 3, generator=generator)
    return FeatureScores(
        members=("base", "one", "two"),
        example_ids=tuple(f"train-{i:08d}" for i in range(examples)),
        domains=(None,) * examples,
        example=example,
        gold_logprob=torch.where(sure, -0.1 * noise, -3 - noise),
        top1=sure,
        features=features,
    )


def numbers(report: Report) -> dict[str, float]:
    """What of a report does not depend on the clock."""
    assert report.validation_loss is not None
    assert report.deferral is not None
    return {
        "loss": report.loss,
        "validation_loss": report.validation_loss,
        "validation_deferral": sum(report.deferral.values()),
    }


def run(training: HeadTraining) -> list[Report]:
    reports: list[Report] = []
    train_to_the_end(training, reports.append)
    return reports


@pytest.mark.parametrize(
    ("name", "config", "prices"),
    [
        ("marginal", CONFIG, NO_PRICES),
        ("weak", CONFIG.model_copy(update={"objective": "weak"}), NO_PRICES),
        ("priced", CONFIG, (0.0, 0.5, 2.0)),
    ],
)
def test_losses_are_those_of_the_golden_file(name: str, config: TrainingConfig, prices: tuple[float, ...]) -> None:
    """After a change of the training that is meant, write the new losses into the file."""
    reports = run(HeadTraining(made_scores(0), made_scores(1), config, prices))
    golden = json.loads(GOLDEN.read_text())[name]
    assert [report.phase for report in reports] == [row["phase"] for row in golden]
    for key in COMPARED:
        assert [row[key] for row in map(numbers, reports)] == pytest.approx([row[key] for row in golden], abs=1e-5)


def test_a_dear_expert_is_called_less() -> None:
    shares = []
    for price in (0.0, 0.5, 2.0):
        last = run(HeadTraining(made_scores(0), made_scores(1), CONFIG, (0.0, 0.0, price)))[-1]
        assert last.deferral is not None
        shares.append(last.deferral["two"])
    assert shares[0] > shares[1] > shares[2]


def test_the_mixture_becomes_better_than_its_best_member() -> None:
    validation = made_scores(1)
    training = HeadTraining(made_scores(0), validation, CONFIG, NO_PRICES)
    last = run(training)[-1]
    best_member = float(-validation.gold_logprob.mean(0).max())
    assert last.validation_loss is not None
    assert last.validation_loss < 0.5 * best_member
    with torch.no_grad():
        again = -marginal_logprob(training.head(validation.features.float()), validation.gold_logprob).mean()
    assert last.validation_loss == pytest.approx(float(again), abs=1e-6)


def test_a_resumed_training_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = HeadTraining(made_scores(0), made_scores(1), CONFIG, NO_PRICES)
    run(undisturbed)
    interrupted = HeadTraining(made_scores(0), made_scores(1), CONFIG, NO_PRICES)
    for _ in range(4):
        interrupted.run_epoch()
    save_checkpoint(tmp_path, interrupted.head, interrupted.optimizer, interrupted.epochs_done)
    resumed = HeadTraining(made_scores(0), made_scores(1), CONFIG, NO_PRICES)
    resumed.epochs_done = load_checkpoint(tmp_path, resumed.head, resumed.optimizer)
    assert len(run(resumed)) == 4
    assert torch.equal(resumed.head.weight, undisturbed.head.weight)
    assert torch.equal(resumed.head.bias, undisturbed.head.bias)
    assert torch.equal(load_head(tmp_path).weight, interrupted.head.weight)


def half(scores: FeatureScores, rank: int) -> FeatureScores:
    """The targets of every other example."""
    keep = scores.example % 2 == rank
    tensors = {name: getattr(scores, name)[keep] for name in ("example", "gold_logprob", "top1", "features")}
    return replace(scores, **tensors)


def train_rank(rank: int, folder: str) -> None:
    """One of two workers; rank 0 writes its reports."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    reports = run(HeadTraining(half(made_scores(0), rank), half(made_scores(1), rank), ONE_STEP_AN_EPOCH, NO_PRICES))
    if rank == 0:
        (Path(folder) / "reports.json").write_text(json.dumps([numbers(report) for report in reports]))
    dist.destroy_process_group()


def test_two_workers_follow_the_gradient_of_one(tmp_path: Path) -> None:
    """With all tokens in one step, how they fall to the workers makes no difference but for rounding."""
    multiprocessing.spawn(train_rank, (str(tmp_path),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    together = json.loads((tmp_path / "reports.json").read_text())
    training = HeadTraining(made_scores(0), made_scores(1), ONE_STEP_AN_EPOCH, NO_PRICES)
    alone = [numbers(report) for report in run(training)]
    for row, expected in zip(together, alone, strict=True):
        for key in COMPARED:
            assert row[key] == pytest.approx(expected[key], abs=1e-4)
