"""Whether one model can be a member: all that loads code of models, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence

from colllm_ray.config import ModelConfig
from colllm_ray.engine.adapter import check_adapter, check_targets
from colllm_ray.engine.checkpoint import check_weights, empty_model
from colllm_ray.engine.engine import Engine
from colllm_ray.engine.language_model import LanguageModel
from colllm_ray.errors import ColllmError, one_line

FEW = 2  # tokens of the first step's text


def check_member(config: ModelConfig, vocab_size: int, context: int) -> None:
    """Raises ColllmError where a model cannot be loaded whole, or cannot be served."""
    model = empty_model(config)
    check_weights(config, model)
    if config.adapter is not None:
        model = check_adapter(model, config.adapter)
    served = LanguageModel(model, vocab_size)
    try:
        Engine(served, sessions=1, context=min(context, FEW))  # its first step, which is without memory too
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error).lower():  # some models look at values, of which there are none yet
            raise ColllmError(f"{config.model}: cannot be served: {one_line(error)}") from error


def check_trainable(config: ModelConfig, targets: Sequence[str]) -> None:
    """Raises ColllmError where no adapter can be made for the layers of these names; of none, for all linear ones."""
    check_targets(empty_model(config), targets)
