"""The training of the head on one worker: weak-supervision start, then the objective.

Every worker holds its share of the examples. A step takes the same fraction of each share and averages over all its
tokens, so that the result does not depend on how the examples fall to the workers more than their order does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from colllm_ray.config import TrainingConfig
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.loss import class_weights, marginal_logprob, weak_labels
from colllm_ray.deferral.objective import Objective, head_objective, weak_objective
from colllm_ray.scoring.scores import FeatureScores
from colllm_ray.training.report import Report

ROWS_AT_ONCE = 4096  # of features, which a CPU's cache holds
VALIDATION_BATCH = 8192  # targets at once


class HeadTraining:
    """Head, optimizer and data of one worker; `epochs_done` counts both phases. `prices` [K] in nats."""

    def __init__(
        self, train: FeatureScores, validation: FeatureScores, config: TrainingConfig, prices: Sequence[float]
    ) -> None:
        self._config = config
        self._validation = validation
        # Shuffled once: single rows from all over the memory would cost more than all that is done with them.
        order = torch.randperm(len(train.example), generator=torch.Generator().manual_seed(config.seed))
        self._features = train.features.index_select(0, order)
        self._gold_logprob = train.gold_logprob[order]
        self._labels = weak_labels(train.gold_logprob, train.top1)[order]
        choices = len(train.members)
        weights = class_weights(_summed(torch.bincount(self._labels, minlength=choices)))
        self._weak_start = weak_objective(weights)
        self._objective = head_objective(config.objective, torch.tensor(prices), weights)
        self._targets = int(_summed(torch.tensor(len(self._labels))))
        self.head = DeferralHead(train.features.shape[1], choices - 1)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.epochs_done = 0
        # Where features are widened, again and again: memory that is new costs more than what is done in it.
        self._wide = torch.empty(ROWS_AT_ONCE, train.features.shape[1])

    @property
    def epochs_left(self) -> int:
        return self._config.all_epochs - self.epochs_done

    def run_epoch(self) -> Report:
        """One pass over the target tokens."""
        is_start = self.epochs_done < self._config.weak_epochs
        objective = self._weak_start if is_start else self._objective
        began = time.monotonic()
        total = torch.zeros(())
        for i, batch in enumerate(self._batches()):
            for group in self.optimizer.param_groups:
                group["lr"] = self._learning_rate(i)
            total += self._step(batch, objective)
        seconds = time.monotonic() - began
        self.epochs_done += 1
        validation_loss, deferral = self._validate()
        return Report(
            phase="weak start" if is_start else self._config.objective,
            epoch=self.epochs_done,
            step=self.epochs_done * self._steps_per_epoch,
            loss=float(_summed(total)) / self._targets,
            targets_done=self.epochs_done * self._targets,
            targets_to_go=self.epochs_left * self._targets,
            targets_per_second=self._targets / seconds,
            validation_loss=validation_loss,
            deferral=deferral,
        )

    @property
    def _steps_per_epoch(self) -> int:
        return math.ceil(self._targets / self._config.batch_tokens)

    def _batches(self) -> Iterator[slice]:
        """Which targets each step takes: neighbours, as they were shuffled, in an order of the epoch's own."""
        steps, targets = self._steps_per_epoch, len(self._labels)
        generator = torch.Generator().manual_seed(self._config.seed * 10_000 + self.epochs_done)
        for i in torch.randperm(steps, generator=generator).tolist():
            yield slice(targets * i // steps, targets * (i + 1) // steps)

    def _learning_rate(self, step: int) -> float:
        done = (self.epochs_done + step / self._steps_per_epoch) / self._config.all_epochs
        return self._config.learning_rate * (1 + math.cos(math.pi * done)) / 2

    def _step(self, batch: slice, objective: Objective) -> Tensor:
        """Follows the gradient of the mean over the targets of all workers; returns the sum of this one's losses."""
        by_weight, by_bias = torch.zeros_like(self.head.weight), torch.zeros_like(self.head.bias)
        total = torch.zeros(())
        for start in range(batch.start, batch.stop, ROWS_AT_ONCE):
            rows = slice(start, min(start + ROWS_AT_ONCE, batch.stop))
            features = self._wide[: rows.stop - rows.start].copy_(self._features[rows])
            with torch.no_grad():
                scores = self.head(features).requires_grad_()
            losses = objective(scores, self._gold_logprob[rows], self._labels[rows])
            # The head is linear: from s on, its gradient is one product.
            by_experts = torch.autograd.grad(losses.sum(), scores)[0].T[1:]  # [M, N]
            by_weight.addmm_(by_experts, features)
            by_bias += by_experts.sum(1)
            total += losses.detach().sum()
        targets = _summed(torch.tensor(float(batch.stop - batch.start)))
        self.head.weight.grad = _summed(by_weight) / targets
        self.head.bias.grad = _summed(by_bias) / targets
        self.optimizer.step()
        return total

    @torch.no_grad()
    def _validate(self) -> tuple[float, dict[str, float]]:
        """The marginal negative log-likelihood of a validation target, and the mean of P(Z = k) for each expert."""
        validation, experts = self._validation, self._validation.members[1:]
        sums = torch.zeros(2 + len(experts), dtype=torch.float64)
        for features, logprob in zip(
            validation.features.split(VALIDATION_BATCH), validation.gold_logprob.split(VALIDATION_BATCH), strict=True
        ):
            scores = self.head(features.float())
            sums[0] += len(scores)
            sums[1] -= marginal_logprob(scores, logprob).sum()
            sums[2:] += torch.softmax(scores, dim=-1)[:, 1:].sum(0)
        targets, loss, *shares = _summed(sums).tolist()
        return loss / targets, {name: share / targets for name, share in zip(experts, shares, strict=True)}


def train_to_the_end(training: HeadTraining, on_epoch: Callable[[Report], None]) -> None:
    """Runs the epochs that are left; `on_epoch` hears of each as it ends."""
    while training.epochs_left:
        on_epoch(training.run_epoch())


def _summed(tensor: Tensor) -> Tensor:
    """Sums the tensor over all workers in place; one worker's is left as it is."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor
