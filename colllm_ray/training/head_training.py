"""The training of the head on one worker: weak-supervision start, then marginal likelihood.

Every worker holds its share of the examples. A step takes the same fraction of each share and averages over all its
tokens, so that the result does not depend on how the examples fall to the workers more than their order does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from colllm_ray.config import TrainingConfig
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.loss import class_weights, marginal_logprob, weak_labels, weak_loss
from colllm_ray.scoring.scores import FeatureScores


@dataclass(frozen=True)
class EpochReport:
    """Mean losses (nats a target token, over all workers) of one epoch; `phase` is "weak" or "marginal"."""

    epoch: int
    phase: str
    loss: float
    validation_loss: float
    validation_deferral: float


class HeadTraining:
    """Head, optimizer and data of one worker; `epochs_done` counts both phases."""

    def __init__(self, train: FeatureScores, validation: FeatureScores, config: TrainingConfig) -> None:
        self._config = config
        self._train = train
        self._validation = validation
        self._labels = weak_labels(train.gold_logprob, train.top1)
        choices = len(train.members)
        self._weights = class_weights(_summed(torch.bincount(self._labels, minlength=choices)))
        self._tokens = int(_summed(torch.tensor(len(self._labels))))
        self.head = DeferralHead(train.features.shape[1], choices - 1)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.epochs_done = 0

    @property
    def epochs_left(self) -> int:
        return self._config.all_epochs - self.epochs_done

    def run_epoch(self) -> EpochReport:
        """One pass over the target tokens."""
        weak = self.epochs_done < self._config.weak_epochs
        total = torch.zeros(())
        for i, batch in enumerate(self._batches()):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(i)
            losses = self._weak_losses(batch) if weak else self._marginal_losses(batch)
            total += losses.detach().sum()
            self._step(losses)
        self.epochs_done += 1
        validation_loss, deferral = self._validate()
        return EpochReport(
            epoch=self.epochs_done,
            phase="weak" if weak else "marginal",
            loss=float(_summed(total)) / self._tokens,
            validation_loss=validation_loss,
            validation_deferral=deferral,
        )

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(self._tokens / self._config.batch_tokens)

    def _batches(self) -> Iterator[Tensor]:
        order = torch.Generator().manual_seed(self._config.seed * 10_000 + self.epochs_done)
        shuffled = torch.randperm(len(self._labels), generator=order)
        yield from shuffled.tensor_split(self._steps_per_epoch)

    def _learning_rate(self, step: int) -> float:
        done = (self.epochs_done + step / self._steps_per_epoch) / self._config.all_epochs
        return self._config.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _marginal_losses(self, batch: Tensor) -> Tensor:
        return -marginal_logprob(self.head(self._features(batch)), self._train.gold_logprob[batch])

    def _weak_losses(self, batch: Tensor) -> Tensor:
        return weak_loss(self.head(self._features(batch)), self._labels[batch], self._weights)

    def _features(self, batch: Tensor) -> Tensor:
        """h [N, D] of some training targets; all of them are held in float16 alone."""
        return self._train.features[batch].float()

    def _step(self, losses: Tensor) -> None:
        """Follows the gradient of the mean over the tokens of all workers."""
        count = _summed(torch.tensor(float(len(losses))))
        self.optimizer.zero_grad(set_to_none=False)
        (losses.sum() / count).backward()
        for parameter in self.head.parameters():
            assert parameter.grad is not None
            _summed(parameter.grad)
        self.optimizer.step()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        scores = self.head(self._validation.features.float())
        loss = -marginal_logprob(scores, self._validation.gold_logprob).sum()
        deferral = 1 - torch.softmax(scores, dim=-1)[:, 0]
        sums = _summed(torch.stack([loss, deferral.sum(), torch.tensor(float(len(deferral)))]))
        return float(sums[0] / sums[2]), float(sums[1] / sums[2])


def train_to_the_end(training: HeadTraining, on_epoch: Callable[[EpochReport], None]) -> None:
    """Runs the epochs that are left; `on_epoch` hears of each as it ends."""
    while training.epochs_left:
        on_epoch(training.run_epoch())


def _summed(tensor: Tensor) -> Tensor:
    """Sums the tensor over all workers in place; one worker's is left as it is."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
