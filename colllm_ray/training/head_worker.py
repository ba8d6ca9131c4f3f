"""What each Ray Train worker does to train the head beside a frozen base; no language model is loaded."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import ray.train
from ray.train import Checkpoint

from colllm_ray.config import TrainingConfig
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part
from colllm_ray.training.head_checkpoint import load_checkpoint, save_checkpoint
from colllm_ray.training.head_training import HeadTraining, train_to_the_end
from colllm_ray.training.report import Report


@dataclass(frozen=True)
class HeadTask:
    """What every worker is given; `prices` [K] in nats."""

    scores: ScoreFolder
    training: TrainingConfig
    prices: tuple[float, ...]


def train_head(task: HeadTask) -> None:
    """Trains to the end, with a checkpoint after each epoch."""
    context = ray.train.get_context()
    part = Part(context.get_world_rank(), context.get_world_size())
    train = task.scores.read("train", part)
    training = HeadTraining(train, task.scores.read("validation", part), task.training, task.prices)
    del train  # it has been copied
    last = ray.train.get_checkpoint()
    if last is not None:
        with last.as_directory() as folder:
            training.epochs_done = load_checkpoint(Path(folder), training.head, training.optimizer)

    def report(epoch: Report) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if part.rank == 0:
                save_checkpoint(Path(folder), training.head, training.optimizer, training.epochs_done)
                checkpoint = Checkpoint.from_directory(folder)
            ray.train.report(asdict(epoch), checkpoint=checkpoint)

    train_to_the_end(training, report)
