"""Checkpoints of head training, in safetensors: head, AdamW's state and the epochs that are done."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from colllm_ray.deferral.head import DeferralHead

FILE_NAME = "head_training.safetensors"


def save_checkpoint(folder: Path, head: DeferralHead, optimizer: torch.optim.AdamW, epochs_done: int) -> None:
    """Writes all that the next epoch depends on."""
    tensors = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    for name, parameter in head.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value
    save_file(tensors, folder / FILE_NAME, metadata={"epochs_done": str(epochs_done)})


def load_checkpoint(folder: Path, head: DeferralHead, optimizer: torch.optim.AdamW) -> int:
    """Puts head and optimizer back as they were; returns the epochs that were done."""
    epochs_done, tensors = _read(folder)
    head.load_state_dict(_under("head.", tensors))
    for name, parameter in head.named_parameters():
        optimizer.state[parameter] = _under(f"optimizer.{name}.", tensors)
    return epochs_done


def load_head(folder: Path) -> DeferralHead:
    """The head alone."""
    return DeferralHead.from_tensors(_under("head.", _read(folder)[1]))


def _read(folder: Path) -> tuple[int, dict[str, Tensor]]:
    with safe_open(folder / FILE_NAME, framework="pt") as file:
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        return int(file.metadata()["epochs_done"]), tensors


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
