"""What each Ray Train worker does to train the base with its head."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import ray.train
import ray.train.torch
import torch.distributed as dist
from ray.train import Checkpoint
from torch import Tensor

from colllm_ray.config import ModelConfig, TrainingConfig
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.engine.weights import weights_revision
from colllm_ray.errors import ColllmError
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import Part
from colllm_ray.training.base_result import is_finished
from colllm_ray.training.deepspeed_config import batch_sizes
from colllm_ray.training.report import Report


@dataclass(frozen=True)
class BaseTask:
    """What every worker is given; `head` is what it starts from, `prices` [K] in nats."""

    scores: ScoreFolder
    training: TrainingConfig
    model: ModelConfig
    vocab_size: int
    prices: tuple[float, ...]
    head: Mapping[str, Tensor]


def train_base(task: BaseTask) -> None:
    """Trains to the end, with a checkpoint now and then; the last one holds the result."""
    from colllm_ray.training.base_engine import build_engine, export  # DeepSpeed looks at the environment
    from colllm_ray.training.base_training import BaseTraining, steps_an_epoch

    training, context = task.training, ray.train.get_context()
    rank = context.get_world_rank()
    last = ray.train.get_checkpoint()
    with nullcontext(None) if last is None else last.as_directory() as name:
        folder = None if name is None else Path(name)
        if folder is not None and is_finished(folder):
            return
        if rank == 0 and weights_revision(task.model) != task.scores.made_from["base"].revision:
            raise ColllmError(f"{task.model.model}: has other weights than when it was scored; score again")
        part = Part(rank, context.get_world_size())
        train, validation = (task.scores.read_texts(split, part) for split in ("train", "validation"))
        sizes = batch_sizes(training, part.count)
        steps = steps_an_epoch(len(train.example_ids), sizes.step, ray.train.torch.get_device())
        engine = build_engine(
            training, task.model, task.vocab_size, DeferralHead.from_tensors(task.head), steps * training.base.epochs
        )
        run = BaseTraining(engine, train, validation, training, task.prices, steps)
        if folder is not None:
            run.load(folder)

    def tell(report: Report) -> None:
        ray.train.report(asdict(report))

    def save(report: Report) -> None:
        with tempfile.TemporaryDirectory() as new:
            run.save(Path(new))
            ray.train.report(asdict(report), checkpoint=Checkpoint.from_directory(new))

    while not run.is_done:
        validated = run.run_epoch(tell, save)
        report = run.end_epoch(validated)
        if not run.is_done:
            save(report)
            continue
        with tempfile.TemporaryDirectory() as new:
            export(engine, training, task.model, Path(new))
            validated.write(Path(new), rank)
            ray.train.report(asdict(report), checkpoint=Checkpoint.from_directory(new))
    dist.barrier()  # nobody leaves while another still talks
