"""The training of base and head together on one worker, with DeepSpeed.

Every worker holds its share of the examples. A step takes the same number of each share, in micro-batches, and follows
the gradient of the mean over all its target tokens, however they fall to workers and micro-batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from deepspeed import DeepSpeedEngine
from torch import Tensor

from colllm_ray.config import TrainingConfig
from colllm_ray.deferral.loss import class_weights, marginal_logprob, weak_labels
from colllm_ray.deferral.objective import joint_objective
from colllm_ray.scoring.scores import TextScores
from colllm_ray.training.base_batches import MicroBatch, micro_batch, micro_batches, steps_of_epoch
from colllm_ray.training.base_result import Validated
from colllm_ray.training.deepspeed_checkpoint import load_engine, save_engine
from colllm_ray.training.report import Report

REPORT_SECONDS = 5.0  # between two reports of an epoch, at least,
REPORT_SHARE = 0.01  # and this share of the time that it has taken so far


@dataclass
class Position:
    """Where a training is: epochs and steps of the next one that are done, and that epoch's loss and targets so far."""

    epochs: int = 0
    steps: int = 0
    loss: float = 0.0
    targets: int = 0


class BaseTraining:
    """The course of a training: an engine over a BaseWithHead, and the data of one worker."""

    def __init__(
        self,
        engine: DeepSpeedEngine,
        train: TextScores,
        validation: TextScores,
        config: TrainingConfig,
        prices: Sequence[float],
        steps: int,
    ) -> None:
        self._engine, self._train, self._validation, self._config = engine, train, validation, config
        self._device = torch.device(engine.device)
        self._labels = weak_labels(train.gold_logprob, train.top1)
        counts = self._summed(torch.bincount(self._labels, minlength=len(train.members)).double())
        self._targets = int(counts.sum())
        weights = class_weights(counts.float())
        self._objective = joint_objective(config.objective, torch.tensor(prices).to(self._device), weights)
        self._steps = steps  # an epoch
        self._speed = 0.0
        self.at = Position()

    @property
    def is_done(self) -> bool:
        return self.at.epochs == self._config.base.epochs

    def run_epoch(self, tell: Callable[[Report], None], save: Callable[[Report], None]) -> Validated:
        """Runs the steps that are left of an epoch, then validates; `end_epoch` is to follow.

        `tell` hears of the training every few seconds, `save` whenever a checkpoint is due.
        """
        epoch_seed = self._config.seed * 10_000 + self.at.epochs
        order = steps_of_epoch(len(self._train.example_ids), self._steps, epoch_seed)
        before, reported = self.at.targets, time.monotonic()
        began = reported  # later by as much as reports and checkpoints take
        for step in range(self.at.steps, self._steps):
            torch.manual_seed(hash((epoch_seed, step, dist.get_rank())) % 2**31)  # of dropout, also after a restart
            self._step(order[step])
            if self.at.steps == self._steps:
                break
            now = time.monotonic()
            speed = (self.at.targets - before) / (now - began)
            # All workers report or none: the first one's clock decides.
            pause = max(REPORT_SECONDS, REPORT_SHARE * (now - began))
            is_due = self._summed(torch.tensor(float(dist.get_rank() == 0 and now - reported > pause)))
            is_saved = self.at.steps % self._config.base.checkpoint_steps == 0
            if is_saved or is_due:
                (save if is_saved else tell)(self._report(speed))
                reported = time.monotonic()
                began += reported - now
        self._speed = (self.at.targets - before) / max(time.monotonic() - began, 1e-9)
        return self._validate()

    def end_epoch(self, validated: Validated) -> Report:
        """The report of the epoch that was run; the next one is ahead from here on."""
        logprob = self._validation.gold_logprob.clone()
        logprob[:, 0] = validated.base_logprob
        if self._config.objective == "finetune":
            losses, experts = -validated.base_logprob, torch.zeros(len(self._validation.members) - 1)
        else:
            losses = -marginal_logprob(validated.scores, logprob)
            experts = torch.softmax(validated.scores, dim=-1)[:, 1:].sum(0)
        sums = torch.cat([torch.tensor([len(losses), losses.sum()]), experts]).double()
        targets, loss, *shares = self._summed(sums).tolist()
        report = self._report(
            self._speed,
            validation_loss=loss / targets,
            deferral={name: share / targets for name, share in zip(self._validation.members[1:], shares, strict=True)},
        )
        self.at = Position(epochs=self.at.epochs + 1)
        return report

    def save(self, folder: Path) -> None:
        """Writes this worker's share of a checkpoint."""
        save_engine(self._engine, folder, asdict(self.at))

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint."""
        self.at = Position(**load_engine(self._engine, folder))

    def _report(self, speed: float, **validation: Any) -> Report:
        epochs = self._config.base.epochs
        done = self.at.epochs * self._targets + self.at.targets
        return Report(
            phase=self._config.mode,
            epoch=self.at.epochs + 1,
            step=self.at.epochs * self._steps + self.at.steps,
            loss=self.at.loss / self.at.targets,
            targets_done=done,
            targets_to_go=epochs * self._targets - done,
            targets_per_second=speed,
            **validation,
        )

    def _step(self, examples: Sequence[int]) -> None:
        passes, workers = self._engine.gradient_accumulation_steps(), dist.get_world_size()
        size = self._engine.train_micro_batch_size_per_gpu()
        targets = sum(self._train.targets(i).stop - self._train.targets(i).start for i in examples)
        all_targets = float(self._summed(torch.tensor(float(targets))))
        total = torch.zeros((), device=self._device)
        for batch in micro_batches(self._train, examples, size, passes):
            scores, logprob, _ = self._forward(batch)
            experts = self._train.gold_logprob[batch.targets, 1:].to(self._device)
            labels = self._labels[batch.targets].to(self._device)
            losses = self._objective(scores, torch.cat([logprob[:, None], experts], dim=1), labels)
            total += losses.detach().sum()
            # DeepSpeed wants a gradient for every weight, also where no loss asks for s. It takes the mean of losses.
            loss = losses.sum() + 0.0 * scores.sum()
            self._engine.backward(loss * (passes * workers / all_targets))
            self._engine.step()
        self.at.steps += 1
        self.at.targets += int(all_targets)
        self.at.loss += float(self._summed(total.double()))

    def _forward(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        answer: tuple[Tensor, Tensor, Tensor] = self._engine(
            batch.input_ids.to(self._device), batch.wanted.to(self._device), batch.gold.to(self._device)
        )
        return answer

    @torch.no_grad()
    def _validate(self) -> Validated:
        self._engine.eval()
        parts = [tuple(part.cpu() for part in self._forward(batch)) for batch in self._validation_batches()]
        self._engine.train()
        scores, logprob, top1 = (torch.cat(column) for column in zip(*parts, strict=True))
        return Validated(scores, logprob, top1)

    def _validation_batches(self) -> Iterator[MicroBatch]:
        """In their order, and as many on each worker: where weights are shared, all must run together."""
        size = self._engine.train_micro_batch_size_per_gpu()
        examples = range(len(self._validation.example_ids))
        count = torch.tensor(-(-len(examples) // size), device=self._device)
        dist.all_reduce(count, dist.ReduceOp.MAX)
        for i in range(int(count)):
            yield micro_batch(self._validation, examples[i * size : (i + 1) * size])

    def _summed(self, tensor: Tensor) -> Tensor:
        """The sum over all workers."""
        tensor = tensor.to(self._device)
        dist.all_reduce(tensor)
        return tensor


def steps_an_epoch(examples: int, batch_size: int, device: torch.device) -> int:
    """Steps in which the worker with most examples gets through them; `batch_size` is that of all workers."""
    steps = torch.tensor(-(-examples * dist.get_world_size() // batch_size), device=device)
    dist.all_reduce(steps, dist.ReduceOp.MAX)
    return int(steps)
