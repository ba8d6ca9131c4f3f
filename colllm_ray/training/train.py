"""The stage `colllm train`: head, and base with it where it learns too, become a trained collaboration."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load, save
from upath import UPath

from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import base_alone, calibrate_on_text
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import BESIDE, HEAD, TrainedCollaboration
from colllm_ray.engine.weights import weights_dtype
from colllm_ray.errors import ColllmError
from colllm_ray.models.members import check_members
from colllm_ray.scoring.score_folder import ScoreFolder
from colllm_ray.scoring.scores import FeatureScores
from colllm_ray.storage import Where, location, write_whole
from colllm_ray.training.base_result import BaseResult
from colllm_ray.training.base_worker import BaseTask, train_base
from colllm_ray.training.deepspeed_config import deepspeed_config
from colllm_ray.training.head_checkpoint import load_head
from colllm_ray.training.head_training import VALIDATION_BATCH
from colllm_ray.training.head_worker import HeadTask, train_head
from colllm_ray.training.workers import Workers, run_workers


def train(collaboration: Collaboration, run: Where) -> TrainedCollaboration:
    """Trains on RUN/scores as the configuration says, chooses the threshold and writes RUN/collaboration.

    A call that was killed goes on from the last checkpoint when it is repeated. Raises ColllmError where the scores are
    missing, corrupt or of something else, and where the base cannot be trained as it is asked to.
    """
    run, training = location(run), collaboration.training
    if training.mode == "lora" and collaboration.base.adapter is not None:
        raise ColllmError("base.adapter: mode lora trains an adapter of its own; merge this one into the model first")
    vocab_size = check_members(collaboration).vocab_size
    folder = ScoreFolder.of(collaboration, collaboration.data.sources, run / "scores")
    folder.check_failed(collaboration.data.max_failed)
    if training.mode != "frozen":  # told before the head is fitted, though only DeepSpeed needs it
        deepspeed_config(training, training.workers, steps=1, dtype=weights_dtype(collaboration.base))
    stage = _Stage(collaboration, vocab_size, folder, folder.read("validation"), run / "training")
    head = stage.untrained_head() if training.objective == "finetune" else stage.fit_head()
    if training.mode == "frozen":
        stage.save_with_frozen_base(head, run / "collaboration")
    else:
        stage.train_base(head, run / "collaboration")
    return TrainedCollaboration.load(run / "collaboration")


@dataclass(frozen=True)
class _Stage:
    """What the runs of a training have in common; `storage` is where Ray Train keeps them, under names of ours.

    As it goes on with a run of the same name, a name says all that the result depends on.
    """

    collaboration: Collaboration
    vocab_size: int
    scores: ScoreFolder
    validation: FeatureScores
    storage: UPath

    def untrained_head(self) -> DeferralHead:
        return DeferralHead(self.validation.features.shape[1], len(self.collaboration.experts))

    def fit_head(self) -> DeferralHead:
        """The head beside the frozen base; one that an earlier call has fitted is taken as it is."""
        training = self.collaboration.training
        fitted = self.storage / self._head_run() / HEAD
        if fitted.is_file():
            return DeferralHead.from_tensors(load(fitted.read_bytes()))
        task = HeadTask(self.scores, training, self.collaboration.prices)
        workers = Workers(training.workers, 1, 0, training.max_failures)
        checkpoint = run_workers(_head_loop, task, workers, self.storage, self._head_run(), "train head")
        with checkpoint.as_directory() as folder:
            head = load_head(Path(folder))
        write_whole(fitted, save(head.state_dict()))
        return head

    def save_with_frozen_base(self, head: DeferralHead, folder: UPath) -> None:
        with torch.no_grad():
            scores = torch.cat([head(features) for features in self.validation.features.split(VALIDATION_BATCH)])
        calibration = calibrate_on_text(scores, self.validation.top1, self.validation.example)
        TrainedCollaboration(self.collaboration, head, calibration, self._base_revision).save(folder)

    def train_base(self, head: DeferralHead, folder: UPath) -> None:
        """Base and head together, from this head on; saves them."""
        training, base = self.collaboration.training, self.collaboration.base
        task = BaseTask(
            scores=self.scores,
            training=training,
            model=base.model_copy(update={"num_gpus": float(training.base.num_gpus)}),
            vocab_size=self.vocab_size,
            prices=self.collaboration.prices,
            head=head.state_dict(),
        )
        workers = Workers(training.workers, training.base.num_cpus, training.base.num_gpus, training.max_failures)
        checkpoint = run_workers(
            _base_loop, task, workers, self.storage, self._base_run(), f"train base ({training.mode})"
        )
        with checkpoint.as_directory() as name:
            result = BaseResult.read(Path(name), training.workers)
            top1 = self.validation.top1.clone()
            top1[:, 0] = result.validated.base_top1
            if training.objective == "finetune":
                calibration = base_alone(top1, self.validation.example)
            else:
                calibration = calibrate_on_text(result.validated.scores, top1, self.validation.example)
            revision = BESIDE if training.mode == "full" else f"{self._base_revision}+{BESIDE}"
            TrainedCollaboration(self.collaboration, result.head, calibration, revision).save(folder, result.weights)

    @property
    def _base_revision(self) -> str:
        return self.scores.made_from["base"].revision

    def _head_run(self) -> str:
        unimportant = {"mode", "base", "max_failures"}
        config = self.collaboration.training.model_dump(exclude=unimportant)
        return f"head-{_hash(config, self.collaboration.prices, self.scores.made_from)}"

    def _base_run(self) -> str:
        config = self.collaboration.training.model_dump(
            exclude={"max_failures": True, "base": {"checkpoint_steps", "num_cpus"}}
        )
        return f"{config['mode']}-{_hash(config, self._head_run())}"


def _head_loop(loop_config: Mapping[str, HeadTask]) -> None:
    train_head(loop_config["task"])


def _base_loop(loop_config: Mapping[str, BaseTask]) -> None:
    task = loop_config["task"]
    if not task.training.base.num_gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"  # else DeepSpeed takes what it finds, once it is imported
    train_base(task)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
