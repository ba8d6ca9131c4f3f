"""A collaboration that nobody trained, whose members all get to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from colllm_ray.config import Collaboration
from colllm_ray.deferral.calibration import Calibration
from colllm_ray.deferral.head import DeferralHead
from colllm_ray.deferral.trained import TrainedCollaboration
from colllm_ray.engine.weights import weights_revision


def random_collaboration(
    model_folder: Callable[[str, int], Path], base: str, experts: list[str], max_sessions: int = 64
) -> TrainedCollaboration:
    def model(architecture: str, seed: int) -> dict[str, object]:
        # Few of Ray's CPUs: it may have to run beside the lab.
        return {"model": str(model_folder(architecture, seed)), "max_sessions": max_sessions, "num_cpus": 0.05}

    collaboration = Collaboration.model_validate(
        {
            "name": "random",
            "base": model(base, 0),
            "experts": [{"name": f"e{i}", **model(name, i + 1)} for i, name in enumerate(experts)],
            "data": {"train": "t", "validation": "v"},
        }
    )
    torch.manual_seed(1)
    head = DeferralHead(32, len(collaboration.experts))
    torch.nn.init.normal_(head.weight, std=0.3)
    return TrainedCollaboration(collaboration, head, Calibration(0.5, ()), weights_revision(collaboration.base))
