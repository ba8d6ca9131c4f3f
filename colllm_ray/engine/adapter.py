"""LoRA adapters: small folders of weights (PEFT's format) that change a language model."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel

from colllm_ray.errors import ColllmError
from colllm_ray.model_folder import WEIGHTS, model_folder


def with_adapter(model: PreTrainedModel, adapter: str) -> PreTrainedModel:
    """The model with the adapter merged into its weights. Raises ColllmError where it is none, or does not fit."""
    from peft import PeftModel  # takes seconds, and few models have an adapter

    folder = Path(model_folder(adapter, weights=True))
    if not any(folder.glob(f"*{WEIGHTS}")):  # peft would look for a pickle
        raise ColllmError(f"{adapter}: holds no *{WEIGHTS}; weights in other formats are not loaded")
    try:
        merged: PreTrainedModel = PeftModel.from_pretrained(model, str(folder)).merge_and_unload()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ColllmError(f"{adapter}: is no adapter of {model.name_or_path}: {error}") from error
    return merged
