"""DeepSpeed's checkpoints without pickle: each of its state dictionaries as a safetensors file.

The tensors are the file's; what holds them together, dictionaries, lists and a few of DeepSpeed's own small classes, is
JSON in its header. What is none of these is refused when it is written.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from deepspeed import DeepSpeedEngine
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

STRUCTURE = "structure"
TAG = "deepspeed"  # the folder of its files in a checkpoint

_LOSS_SCALERS = {scaler.__name__: scaler for scaler in (LossScaler, DynamicLossScaler)}
_DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64)}


def save_engine(engine: DeepSpeedEngine, folder: Path, state: dict[str, Any]) -> None:
    """Writes this worker's files: its share of weights and optimizer, and `state`; all workers must call it."""
    _store_without_pickle(engine)
    engine.save_checkpoint(
        str(folder), tag=TAG, client_state={"ours": state}, save_latest=False, exclude_frozen_parameters=True
    )


def load_engine(engine: DeepSpeedEngine, folder: Path) -> dict[str, Any]:
    """Puts weights and optimizer back as they were when all workers saved them; returns `state`."""
    _store_without_pickle(engine)
    path, state = engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=False)
    assert path is not None, f"{folder} holds a checkpoint"
    return dict(state["ours"])


def _store_without_pickle(engine: DeepSpeedEngine) -> None:
    engine.checkpoint_engine = SafetensorsCheckpointEngine(engine._config)
    engine._copy_recovery_script = lambda _path: None  # a script that joins pickles


class SafetensorsCheckpointEngine(CheckpointEngine):
    """What DeepSpeed writes and reads its files with."""

    def create(self, info: object) -> None:
        """Nothing to do before a checkpoint."""

    def commit(self, info: object) -> bool:  # noqa: ARG002 (DeepSpeed's signature)
        return True

    def preserves_storage_sharing(self) -> bool:
        return False

    def save(self, state_dict: object, path: str) -> None:
        tensors: dict[str, Tensor] = {}
        structure = _Encoder(tensors).encode(state_dict, "$")
        unfinished = f"{path}.{os.getpid()}.tmp"
        save_file(tensors, unfinished, metadata={STRUCTURE: json.dumps(structure, allow_nan=False)})
        Path(unfinished).replace(path)

    def load(self, path: str, map_location: object = None) -> object:  # noqa: ARG002 (DeepSpeed moves them itself)
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return _decoded(json.loads(file.metadata()[STRUCTURE]), tensors.__getitem__)


class _Encoder:
    """Turns a state into JSON, and puts its tensors aside under their place in it."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self._seen: dict[object, str] = {}

    def encode(self, value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            return {"tensor": self._put_aside(value.detach(), place)}
        if isinstance(value, ZeroStageEnum):
            return {"zero_stage": int(value)}
        if value is None or type(value) in (bool, str, int):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, torch.Size):
            return {"size": list(value)}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value)}
        if isinstance(value, list):
            return [self.encode(one, f"{place}/{i}") for i, one in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": self.encode(list(value), place)}
        if isinstance(value, dict) and all(type(key) in (str, int) for key in value):
            return {"dict": [[key, self.encode(one, f"{place}/{key}")] for key, one in value.items()]}
        if type(value) is fragment_address:
            return {"fragment": [value.numel, value.start]}
        if _LOSS_SCALERS.get(type(value).__name__) is type(value):
            return {"loss_scaler": [type(value).__name__, self.encode(vars(value), place)]}
        raise TypeError(f"{place}: a {type(value).__name__} cannot be stored without pickle")

    def _put_aside(self, tensor: Tensor, place: str) -> str:
        """The tensor's name; tied weights are stored once."""
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and same in self._seen:
            return self._seen[same]
        self._seen[same] = place
        held = tensor.cpu().contiguous()
        # Views cannot be stored: each has memory of its own.
        self._tensors[place] = held if held.data_ptr() != tensor.data_ptr() else held.clone()
        return place


def _decoded(value: Any, tensor: Callable[[str], Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(one, tensor) for one in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tensor":
            return tensor(content)
        case "dict":
            return {key: _decoded(one, tensor) for key, one in content}
        case "tuple":
            return tuple(_decoded(content, tensor))
        case "size":
            return torch.Size(content)
        case "dtype":
            return _DTYPES[content]
        case "float":
            return float(content)
        case "zero_stage":
            return ZeroStageEnum(content)
        case "fragment":
            return fragment_address(numel=content[0], start=content[1])
        case "loss_scaler":
            name, fields = content
            scaler = object.__new__(_LOSS_SCALERS[name])
            vars(scaler).update(_decoded(fields, tensor))
            return scaler
    raise ValueError(f"{kind}: no part of a checkpoint")
