"""What a training of the base leaves in its last checkpoint.

The head, the base as a model's folder or an adapter, and what the two say of the validation targets, which the
threshold is chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import ADAPTER, BASE, HEAD


@dataclass(frozen=True)
class Validated:
    """Of a worker's validation targets, in their order: s [N, K], and of the base log P(x) [N] and top1 [N] bool."""

    scores: Tensor
    base_logprob: Tensor
    base_top1: Tensor

    def write(self, folder: Path, worker: int) -> None:
        save_file({name: part.contiguous() for name, part in vars(self).items()}, folder / _validated_by(worker))


@dataclass(frozen=True)
class BaseResult:
    """A finished training; `weights` is the folder `base` or `adapter`, `validated` is of all workers' targets."""

    head: DeferralHead
    weights: Path
    validated: Validated

    @classmethod
    def read(cls, folder: Path, workers: int) -> BaseResult:
        """Reads a last checkpoint."""
        parts: list[Mapping[str, Tensor]] = [load_file(folder / _validated_by(worker)) for worker in range(workers)]
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        weights = next(folder / name for name in (BASE, ADAPTER) if (folder / name).is_dir())
        return cls(DeferralHead.from_tensors(load_file(folder / HEAD)), weights, Validated(**columns))


def is_finished(folder: Path) -> bool:
    """Whether a checkpoint is the last one."""
    return (folder / HEAD).is_file()


def _validated_by(worker: int) -> str:
    return f"validated-{worker:05d}.safetensors"
