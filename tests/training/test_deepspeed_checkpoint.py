from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from safetensors import safe_open

from colllm_ray.training.deepspeed_checkpoint import SafetensorsCheckpointEngine


def test_a_state_comes_back_as_it_was_and_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("save", "load"):
        monkeypatch.delattr(torch, name)
    weight = torch.arange(6.0).view(2, 3)
    state = {
        "weight": weight,
        "tied": weight,
        "view": weight[0],
        "empty": torch.empty(0),
        "numbers": [1, 2.5, True, None, float("inf"), (3, "four")],
        0: {"shape": torch.Size([2, 3]), "dtype": torch.bfloat16, "stage": ZeroStageEnum.weights},
        "scaler": DynamicLossScaler(2.0**16, 2.0, 1000, 1.0, 2, False, True),
    }
    engine = SafetensorsCheckpointEngine(None)
    engine.save(state, str(tmp_path / "state.pt"))
    loaded = engine.load(str(tmp_path / "state.pt"))
    assert isinstance(loaded, dict)
    for key in ("weight", "tied", "view", "empty"):
        assert torch.equal(loaded[key], state[key])
    assert loaded["numbers"] == state["numbers"]
    assert loaded[0] == state[0]
    assert vars(loaded["scaler"]) == vars(state["scaler"])
    with safe_open(tmp_path / "state.pt", framework="pt") as file:
        assert len(file.keys()) == 3  # the tied one is there once
        json.loads(file.metadata()["structure"])


def test_what_would_need_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"\$/a/0: a Path|\$/a/0: a PosixPath cannot be stored without pickle"):
        SafetensorsCheckpointEngine(None).save({"a": [Path()]}, str(tmp_path / "state.pt"))
    assert not list(tmp_path.iterdir())
