"""Folders of tiny models, to be broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedTokenizerFast

from colllm_ray.config import Collaboration

WEIGHTS = "model.safetensors"


def collaboration(base: Path, expert: Path, **fields: Any) -> Collaboration:
    """Of two; `fields` are the expert's, but for those of the collaboration."""
    shared = {name: fields.pop(name) for name in ("context", "training") if name in fields}
    return Collaboration.model_validate(
        {
            "name": "two",
            "base": {"model": str(base)},
            "experts": [{"name": "other", "model": str(expert), **fields}],
            "data": {"train": "t", "validation": "v"},
            **shared,
        }
    )


def write_model(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, **save: Any) -> Path:
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, **save)
    tokenizer.save_pretrained(folder)
    return folder


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def with_weights(folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Path:
    save_file(dict(change(load_file(folder / WEIGHTS))), folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def without(folder: Path, names: Sequence[str]) -> Path:
    assert load_file(folder / WEIGHTS).keys() >= set(names)
    return with_weights(folder, lambda weights: {name: one for name, one in weights.items() if name not in names})


def with_config(folder: Path, **fields: Any) -> Path:
    """With other fields in config.json; None takes one out."""
    config = {**json.loads((folder / "config.json").read_text()), **fields}
    left = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(left))
    return folder
