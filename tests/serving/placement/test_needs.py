"""What a configuration says of a model's size, against the model itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from colllm_ray.config import ModelConfig
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.errors import ColllmError
from colllm_ray.serving.placement.needs import needs_of
from tests.conftest import ARCHITECTURES, CONTEXT

ModelFolder = Callable[[str, int], Path]
SESSIONS = 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_needs_are_those_of_the_loaded_model(architecture: str, dtype: str, model_folder: ModelFolder) -> None:
    folder = model_folder(architecture, 0)
    config = ModelConfig.model_validate({"model": str(folder), "dtype": dtype, "max_sessions": SESSIONS})
    needs = needs_of(config, CONTEXT)
    model = LanguageModel.load(config, 300)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.model.parameters())
    cache = Engine(model, SESSIONS, CONTEXT)._forward._cache
    assert needs.weights == weights
    assert needs.kv_cache == sum(t.numel() * t.element_size() for pair in cache._layers.values() for t in pair)
    assert needs.total == needs.weights + needs.kv_cache


def test_a_model_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(ColllmError, match=f"{tmp_path}: its configuration cannot be loaded"):
        needs_of(ModelConfig(model=str(tmp_path)), CONTEXT)
